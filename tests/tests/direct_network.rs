//! A guest in the pod's network: what is made there, what is left there, whose things are touched.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::fs;

use serde_json::Value;
use urunc_tests::direct::{
    Bench, Bundle, Client, PodNetwork, Proc, SOON, Shim, Spec, dry_run, eventually, unseal,
};

fn json(bench: &Bench, id: &str, name: &str) -> Option<Value> {
    let text = fs::read(bench.run_directory(id).join(name)).ok()?;
    Some(unseal(&text).unwrap())
}

fn hang(network: &PodNetwork) -> Spec {
    Spec::tiny("hang").join_network(&network.path())
}

fn create(client: &Client, bundle: &Bundle) {
    client.create(bundle).unwrap();
}

fn start(client: &Client, bundle: &Bundle) {
    client.start(&bundle.id).unwrap();
}

/// The name of a container's tap.
fn tap(bench: &Bench, id: &str) -> String {
    format!("tap{}", bench.record(id).unwrap()["txid"].as_str().unwrap())
}

fn created(bench: &Bench, id: &str, spec: &Spec) -> (Shim, Bundle) {
    let (shim, bundle, _) = bench.created(id, spec);
    (shim, bundle)
}

#[test]
fn the_first_guest_takes_the_place_of_the_pods_interface() {
    let Some(bench) = Bench::released() else { return };
    let network = bench.pod_network();
    let before = network.state();
    let (shim, bundle) = created(&bench, "c1", &hang(&network));
    let seen = json(&bench, "c1", "plan.json").unwrap()["what"]["guest"]["network"]["known"].clone();
    assert_eq!(seen["interface"]["name"], "pod0");
    assert_eq!(seen["interface"]["mtu"], 1450);
    assert_eq!(seen["interface"]["addresses"][0]["ip"], "10.244.7.9");
    assert_eq!(seen["interface"]["addresses"][0]["gateway"], "10.244.7.1");
    assert_eq!(seen["interface"]["addresses"][1]["ip"], "fd00:7::9");
    assert_eq!(seen["interface"]["addresses"][1]["gateway"], "fd00:7::1");
    let tap = tap(&bench, "c1");
    assert_eq!(seen["tap"], tap.as_str());
    shim.client.start("c1").unwrap();
    assert!(network.filters().contains(&tap), "{}", network.filters());
    // The monitor has it by its descriptor alone, and in the guest's command line are the addresses.
    let pid = bench.record("c1").unwrap()["process"]["pid"].as_i64().unwrap();
    assert_eq!(fs::read_link(format!("/proc/{pid}/fd/4")).unwrap().to_str(), Some("/net/tun"));
    let line = String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap()).into_owned();
    assert!(line.contains("netdev.ip=10.244.7.9/24:10.244.7.1") && line.contains("host_mtu=1450"), "{line}");

    // The tap has the interface's MTU: nothing longer goes out, nothing shorter is cut.
    let link = network.run(&format!("ip link show dev {tap}"));
    assert!(link.contains("mtu 1450"), "{link}");

    // A second guest runs without, and the log says so.
    let second = bench.bundle("c2", &hang(&network).in_pod("c1")).without_stdio();
    assert_eq!(bench.start(&second).daemon.pid(), shim.daemon.pid());
    shim.client.create(&second).unwrap();
    shim.client.start("c2").unwrap();
    bundle.wait_for_log("another guest of the pod has the pod's interface");
    let plan = json(&bench, "c2", "plan.json").unwrap();
    assert!(plan["what"]["guest"]["network"]["known"].is_null(), "{plan}");
    bench.end(&shim, second);
    assert!(network.filters().contains(&tap), "the second one took the first one's filter along");

    bench.end(&shim, bundle);
    assert_eq!(network.state(), before);
    bench.finish();
}

#[test]
fn docker_fills_the_namespace_between_create_and_start() {
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.bundle("c1", &Spec::tiny("hang")).without_stdio();
    let shim = bench.start(&bundle);
    let pid = shim.client.create(&bundle).unwrap();
    let plan = json(&bench, "c1", "plan.json").unwrap();
    assert_eq!(plan["what"]["guest"]["network"], "at-start", "{plan}");
    assert_eq!(json(&bench, "c1", "start.json"), None);
    // Through the task's pid, as Docker does it.
    PodNetwork::plug_into(pid);
    shim.client.start("c1").unwrap();
    let late = json(&bench, "c1", "start.json").unwrap();
    assert_eq!(late["network"]["interface"]["name"], "pod0", "{late}");
    let line = String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap()).into_owned();
    assert!(line.contains("10.244.7.9/24"), "{line}");
    bench.end(&shim, bundle);

    // Nobody fills it: the guest runs, and the log says that it has none.
    let (shim, bundle) = created(&bench, "c2", &Spec::tiny("hang"));
    shim.client.start("c2").unwrap();
    bundle.wait_for_log("there is no interface with an address");
    bench.end(&shim, bundle);

    // The host's own network is nobody's to touch.
    let (shim, bundle) = created(&bench, "c3", &Spec::tiny("hang").on_the_host());
    shim.client.start("c3").unwrap();
    bundle.wait_for_log("it shares the host's network");
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn what_was_there_stays() {
    let Some(bench) = Bench::released() else { return };
    for (kind, parent) in [("ingress", "parent ffff:"), ("clsact", "ingress")] {
        for with_filter in [true, false] {
            let network = bench.pod_network();
            network.run(&format!("tc qdisc add dev pod0 {kind}"));
            if with_filter {
                network.run(&format!(
                    "tc filter add dev pod0 {parent} protocol ip prio 7 u32 match ip dst 10.9.9.9/32 \
                     action mirred egress redirect dev lo"
                ));
            }
            let before = network.state();
            let (shim, bundle) = created(&bench, "c1", &hang(&network));
            shim.client.start("c1").unwrap();
            let tap = tap(&bench, "c1");
            assert!(network.filters().contains(&tap), "{kind}: {}", network.filters());
            assert_eq!(network.filters().contains("match 0a090909"), with_filter, "{kind}");
            bench.end(&shim, bundle);
            assert_eq!(network.state(), before, "{kind}, a filter in it: {with_filter}");
        }
    }
    // Somebody who came later, and uses our qdisc: it stays for him.
    let network = bench.pod_network();
    let (shim, bundle) = created(&bench, "c1", &hang(&network));
    network.run(
        "tc filter add dev pod0 parent ffff: protocol ip prio 7 u32 match ip dst 10.9.9.9/32 \
         action mirred egress redirect dev lo",
    );
    bench.end(&shim, bundle);
    let filters = network.filters();
    assert!(filters.contains("match 0a090909") && !filters.contains("tap"), "{filters}");
    bench.finish();
}

#[test]
fn what_a_dead_container_left_does_not_block_the_next_one() {
    let Some(bench) = Bench::released() else { return };
    let network = bench.pod_network();
    let before = network.state();
    let (shim, first) = created(&bench, "c1", &hang(&network));
    shim.client.start("c1").unwrap();
    let stale = tap(&bench, "c1");
    let monitor = bench.processes("c1");
    shim.daemon.kill();
    assert!(monitor.iter().all(|p| p.ends_within(SOON)));
    assert!(network.filters().contains("mirred"), "it died before it could undo anything");

    // Nobody has called `delete`, and the next one is of another daemon.
    let (shim, second) = created(&bench, "c2", &hang(&network));
    shim.client.start("c2").unwrap();
    let filters = network.filters();
    assert!(filters.contains(&tap(&bench, "c2")) && !filters.contains(&stale), "{filters}");
    bench.delete(&first).deleted();
    first.remove();
    assert!(
        network.filters().contains(&tap(&bench, "c2")),
        "the late delete of c1 took the filter of c2 along"
    );
    bench.end(&shim, second);
    // The qdisc was made by c1, and c2 has inherited it.
    assert_eq!(network.state(), before);

    // A guest that has ended and is not deleted yet does not have the interface any more.
    let (shim, first) = created(&bench, "c1", &Spec::tiny("exit=0").join_network(&network.path()));
    shim.client.start("c1").unwrap();
    shim.client.wait("c1").unwrap();
    let second = bench.bundle("c2", &hang(&network).in_pod("c1")).without_stdio();
    bench.start(&second);
    shim.client.create(&second).unwrap();
    shim.client.start("c2").unwrap();
    assert!(network.filters().contains(&tap(&bench, "c2")));
    bench.end(&shim, first);
    assert!(network.filters().contains(&tap(&bench, "c2")));
    bench.end(&shim, second);
    assert_eq!(network.state(), before);
    bench.finish();
}

/// A guest is created between the removal of another one's filter and that of his qdisc, or just behind both.
#[test]
fn a_guest_that_comes_while_another_one_goes_has_the_network_and_leaves_nothing() {
    let Some(bench) = Bench::with_faults() else { return };
    let network = bench.pod_network();
    let before = network.state();
    for point in ["redirect.undone", "ingress.undo", "ingress.undone"] {
        let (shim, first) = created(&bench, "c1", &hang(&network));
        shim.client.kill("c1", 9).unwrap();
        shim.client.wait("c1").unwrap();
        bench.faults.set(&[&format!("{point}=delay:700")]);
        let deleting = std::thread::spawn({
            let client = shim.client.clone();
            move || client.delete("c1").unwrap()
        });
        urunc_tests::direct::eventually(point, || bench.faults.has_fired(point));
        bench.faults.set(&[]);
        let second = bench.bundle("c2", &hang(&network).in_pod("c1")).without_stdio();
        bench.start(&second);
        shim.client.create(&second).unwrap();
        deleting.join().unwrap();
        shim.client.start("c2").unwrap();
        assert!(network.filters().contains(&tap(&bench, "c2")), "{point}: {}", network.filters());
        bench.delete(&first).deleted();
        first.remove();
        bench.end(&shim, second);
        assert_eq!(network.state(), before, "{point}");
    }
    bench.finish();
}

/// Who had to do without does so under the same name again, in whatever order the guests are started anew; whoever was
/// never refused gets what is free.
#[test]
fn the_order_of_restarts_does_not_decide_who_has_the_network() {
    let Some(bench) = Bench::released() else { return };
    let network = bench.pod_network();
    let before = network.state();
    // As a pod's sandbox: the daemon stays for it.
    let (shim, sandbox) = created(&bench, "pod", &Spec::sandbox());
    let has_network =
        |id: &str| !json(&bench, id, "plan.json").unwrap()["what"]["guest"]["network"]["known"].is_null();
    let make = |id: &str, name: &str, network_expected: bool| {
        let spec = hang(&network).in_pod("pod").annotation("io.kubernetes.cri.container-name", name);
        let (_, bundle) = created(&bench, id, &spec);
        assert_eq!(has_network(id), network_expected, "{id}");
        bundle
    };
    // As an init container: what comes behind it was never refused.
    bench.end(&shim, make("init", "init", true));
    let guests = [make("a0", "a", true), make("b0", "b", false)];
    guests.into_iter().for_each(|guest| bench.end(&shim, guest));
    let guests = [make("b1", "b", false), make("a1", "a", true)];
    guests.into_iter().for_each(|guest| bench.end(&shim, guest));
    bench.end(&shim, sandbox);
    assert_eq!(network.state(), before);
    bench.finish();
}

/// After a crash: `delete`, or nothing and the next container of the same id.
#[track_caller]
fn recover(bench: &Bench, bundle: Bundle, network: &PodNetwork, with_delete: bool, after: &str) {
    if with_delete {
        bench.delete(&bundle).deleted();
    }
    bundle.remove();
    let (shim, bundle) = created(bench, "c1", &hang(network));
    shim.client.start("c1").unwrap_or_else(|e| panic!("{after}: {e:?}"));
    assert!(network.filters().contains(&tap(bench, "c1")), "{after}: no network: {}", network.filters());
    bench.end(&shim, bundle);
}

#[test]
fn the_daemon_is_killed_at_every_point_of_a_create_with_a_network() {
    let Some(bench) = Bench::with_faults() else { return };
    let network = bench.pod_network();
    let before = network.state();
    let points = dry_run(&bench, &hang(&network), |_, _| {}, create).daemon;
    for must in ["ingress.after-intent", "redirect.before-intent", "redirect.after-acting", "commit.after"] {
        assert!(points.iter().any(|(name, _)| name == must), "{must} is not among {points:?}");
    }
    for (n, (name, passage)) in points.iter().enumerate() {
        let after = format!("{name}#{passage}");
        let bundle = bench.bundle("c1", &hang(&network)).without_stdio();
        let shim = bench.start(&bundle);
        bench.faults.set(&[&format!("{after}=kill")]);
        shim.client.create(&bundle).expect_err(&after);
        assert!(shim.daemon.ends_within(SOON), "{after}");
        bench.faults.set(&[]);
        recover(&bench, bundle, &network, n % 2 == 0, &after);
        assert_eq!(network.state(), before, "{after}");
    }
    bench.finish();
}

#[test]
fn an_error_at_every_point_of_a_create_with_a_network() {
    let Some(bench) = Bench::with_faults() else { return };
    let network = bench.pod_network();
    let before = network.state();
    let passed = dry_run(&bench, &hang(&network), |_, _| {}, create);
    for must in ["launcher.tap", "launcher.half-tied"] {
        assert!(
            passed.launcher.iter().any(|(name, _)| name == must),
            "{must} is not among {:?}",
            passed.launcher
        );
    }
    for (name, passage) in passed.launcher.iter().chain(&passed.daemon) {
        let after = format!("{name}#{passage}=error");
        let bundle = bench.bundle("c1", &hang(&network)).without_stdio();
        let shim = bench.start(&bundle);
        bench.faults.set(&[&after]);
        shim.client.create(&bundle).expect_err(&after);
        bench.faults.set(&[]);
        assert_eq!(network.state(), before, "{after}");
        // The same daemon, the same id.
        shim.client.create(&bundle).unwrap_or_else(|e| panic!("{after}: {e:?}"));
        bench.end(&shim, bundle);
        assert_eq!(network.state(), before, "{after}");
    }
    bench.finish();
}

#[test]
fn a_crash_or_an_error_at_every_point_of_a_start_that_finds_a_network() {
    let Some(bench) = Bench::with_faults() else { return };
    let network = bench.empty_network();
    let spec = hang(&network);
    // It comes between Create and Start.
    let create_then_plug = |client: &Client, bundle: &Bundle| {
        create(client, bundle);
        network.plug();
    };
    let points = dry_run(&bench, &spec, create_then_plug, start).daemon;
    for must in ["ingress.after-intent", "redirect.after-acting", "gate.before-intent", "start.ready"] {
        assert!(points.iter().any(|(name, _)| name == must), "{must} is not among {points:?}");
    }
    network.unplug();
    for (n, (name, passage)) in points.iter().enumerate() {
        let action = if n % 2 == 0 { "kill" } else { "error" };
        let after = format!("{name}#{passage}={action}");
        let (shim, bundle) = created(&bench, "c1", &spec);
        network.plug();
        let before = network.state();
        bench.faults.set(&[&after]);
        let failure = shim.client.start("c1");
        bench.faults.set(&[]);
        if action == "kill" {
            failure.expect_err(&after);
            assert!(shim.daemon.ends_within(SOON), "{after}");
            bench.delete(&bundle).deleted();
            bundle.remove();
        } else {
            // Created as before: then another Start finds the same network. Or an exit, or the error came too late.
            if failure.is_err() && bench.record("c1").unwrap()["state"] == "created" {
                let filters = network.filters();
                assert!(!filters.contains("mirred"), "{after}: {filters}");
                shim.client.start("c1").unwrap_or_else(|e| panic!("{after}: {e:?}"));
                assert!(network.filters().contains(&tap(&bench, "c1")), "{after}");
            }
            bench.end(&shim, bundle);
        }
        assert_eq!(network.state(), before, "{after}");
        network.unplug();
    }
    bench.finish();
}

#[test]
fn a_crash_or_an_error_at_every_point_of_delete_leaves_nothing_in_the_network() {
    let Some(bench) = Bench::with_faults() else { return };
    let network = bench.pod_network();
    let before = network.state();
    let created_and_killed = |client: &Client, bundle: &Bundle| {
        create(client, bundle);
        client.kill(&bundle.id, 9).unwrap();
        client.wait(&bundle.id).unwrap();
    };
    // Without the Create at the end of a dry run nobody could end it.
    let delete = |client: &Client, bundle: &Bundle| {
        client.delete(&bundle.id).unwrap();
        client.create(bundle).unwrap();
    };
    let passed = dry_run(&bench, &hang(&network), created_and_killed, delete).daemon;
    let end = passed.iter().position(|(name, _)| name == "cgroup.before-intent").unwrap();
    let points = &passed[..end];
    for must in ["redirect.undo", "redirect.undone", "ingress.undo"] {
        assert!(points.iter().any(|(name, _)| name == must), "{must} is not among {points:?}");
    }
    for (n, (name, passage)) in points.iter().enumerate() {
        let action = if n % 2 == 0 { "kill" } else { "error" };
        let after = format!("{name}#{passage}={action}");
        let bundle = bench.bundle("c1", &hang(&network)).without_stdio();
        let shim = bench.start(&bundle);
        created_and_killed(&shim.client, &bundle);
        bench.faults.set(&[&after]);
        let deleted = shim.client.delete("c1");
        bench.faults.set(&[]);
        if action == "kill" {
            assert!(shim.daemon.ends_within(SOON), "{after}: {deleted:?}");
            recover(&bench, bundle, &network, n % 4 == 0, &after);
        } else {
            if deleted.is_err() {
                shim.client.delete("c1").ok();
            }
            shim.client.shutdown("c1");
            bench.delete(&bundle).deleted();
            bundle.remove();
        }
        assert_eq!(network.state(), before, "{after}");
    }
    bench.finish();
}

/// The namespace is known by its identity: where its path shows another one, nobody there is touched.
#[test]
fn another_namespace_at_the_same_path_is_not_touched() {
    let Some(bench) = Bench::released() else { return };
    let (network, other) = (bench.pod_network(), bench.pod_network());
    let link = bench.scratch().join("netns");
    std::os::unix::fs::symlink(network.path(), &link).unwrap();
    let bundle = bench.bundle("c1", &Spec::tiny("hang").join_network(&link)).without_stdio();
    let shim = bench.start(&bundle);
    shim.client.create(&bundle).unwrap();
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(other.path(), &link).unwrap();
    let before = other.state();
    bench.end(&shim, bundle);
    assert_eq!(other.state(), before);
    assert!(!network.filters().contains("mirred"), "found by its processes: {}", network.filters());

    // One that is gone has taken everything along.
    let bundle = bench.bundle("c2", &hang(&network)).without_stdio();
    let shim = bench.start(&bundle);
    shim.client.create(&bundle).unwrap();
    drop(network);
    bench.end(&shim, bundle);
    fs::remove_file(&link).unwrap();
    bench.finish();
}

#[test]
fn the_launcher_is_dead_before_its_network_is_undone() {
    let Some(bench) = Bench::with_faults() else { return };
    let network = bench.pod_network();
    let before = network.state();
    let bundle = bench.bundle("c1", &hang(&network)).without_stdio();
    let shim = bench.start(&bundle);
    bench.faults.set(&["redirect.after-acting=error", "redirect.undone=hold"]);
    let create = shim.client.send_create(&bundle, SOON);
    eventually("the filter is removed", || bench.faults.has_fired("redirect.undone"));
    assert_eq!(network.filters(), "");
    let pid = bench.record("c1").unwrap()["process"]["pid"].as_i64().unwrap();
    let lives = Proc::find(i32::try_from(pid).unwrap()).is_some_and(|launcher| launcher.is_alive());
    assert!(!lives, "it could act there once more");
    bench.faults.set(&[]);
    create.wait().unwrap_err();
    assert_eq!(network.state(), before);
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}
