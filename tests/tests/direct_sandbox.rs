//! A pod's sandbox: our launcher as the holder of the pod's namespaces, and its members.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{fs, path::PathBuf, process::Command, time::Duration};

use containerd_shim_protos::{api::Status, ttrpc::Code};
use rustix::process::Signal;
use serde_json::json;
use urunc_tests::direct::{
    Bench, Bundle, Client, Proc, SOON, Shim, Spec, dry_run, eventually, eventually_some,
};

fn running(bench: &Bench, id: &str, spec: &Spec) -> (Shim, Bundle, u32) {
    let (shim, bundle, pid) = bench.created(id, spec);
    shim.client.start(id).unwrap();
    (shim, bundle, pid)
}

fn namespace(pid: u32, kind: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap()
}

/// As containerd does with a sandbox: no rootfs is needed, and none is looked at.
fn without_image(mut bundle: Bundle) -> Bundle {
    bundle.rootfs[0].source = "/no/such/image".to_owned();
    bundle
}

#[test]
fn a_sandbox_holds_the_pods_namespaces_and_nothing_else() {
    let Some(bench) = Bench::released() else { return };
    let network = bench.pod_network();
    let before = network.state();
    let spec = Spec::sandbox().join_network(&network.path()).edit(|s| {
        s["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "77", "kernel.shmmni": "123"});
    });
    let bundle = without_image(bench.bundle("pod", &spec).without_stdio());
    let shim = bench.start(&bundle);
    let pid = shim.client.create(&bundle).unwrap();
    assert_eq!(shim.client.status("pod"), Ok(Status::CREATED));
    shim.client.start("pod").unwrap();
    assert_eq!(shim.client.status("pod"), Ok(Status::RUNNING));
    bench.events.expect("pod", &["create", "start"]);

    let holder = Proc::of(pid.cast_signed());
    assert_eq!(holder.comm(), "urunc-sandbox");
    for kind in ["pid", "ipc", "uts", "mnt"] {
        assert_ne!(namespace(pid, kind), fs::read_link(format!("/proc/self/ns/{kind}")).unwrap(), "{kind}");
    }
    assert_eq!(namespace(pid, "net"), fs::read_link(network.path()).unwrap());
    let inside = |what: &[&str]| {
        let args = ["-t", &pid.to_string(), "-n", "-u", "-i", "--"].map(str::to_owned);
        let output = Command::new("nsenter").args(args).args(what).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(inside(&["hostname"]), "the-pod");
    assert_eq!(inside(&["cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"]), "77");
    assert_eq!(inside(&["cat", "/proc/sys/kernel/shmmni"]), "123");
    // Nothing of the host is in sight, no capability is left, and nothing is held but what it needs.
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Threads:\t1"] {
        assert!(status.contains(line), "{line} is not in {status}");
    }
    // Not dumpable: a member of a shared pid namespace, root without capabilities, does not get at the shim's program.
    let program = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "readlink"])
        .arg(format!("/proc/{pid}/exe"))
        .output()
        .unwrap();
    assert!(!program.status.success());

    // Its network is the pod's: nothing is done there for it.
    assert_eq!(network.state(), before);
    bench.end(&shim, bundle);
    assert!(shim.daemon.ends_within(SOON));
    assert_eq!(network.state(), before);
    bench.finish();
}

#[test]
fn it_ends_as_a_pause_program_does() {
    let Some(bench) = Bench::released() else { return };
    for (signal, status) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::KILL, 137)] {
        for by_name in [true, false] {
            for spec in [Spec::sandbox(), Spec::sandbox().edit(|s| s["linux"]["namespaces"] = json!([]))] {
                let (shim, bundle, pid) = running(&bench, "pod", &spec);
                if by_name {
                    shim.client.kill("pod", signal.as_raw()).unwrap();
                } else {
                    Proc::of(pid.cast_signed()).signal(signal);
                }
                assert_eq!(shim.client.wait("pod"), Ok(status), "{signal:?}, through the shim: {by_name}");
                assert_eq!(shim.client.kill("pod", 9).unwrap_err().code, Some(Code::NOT_FOUND));
                bench.end(&shim, bundle);
            }
        }
    }
    // Signals that a pause program does not take either.
    let (shim, bundle, pid) = running(&bench, "pod", &Spec::sandbox());
    shim.client.kill("pod", Signal::USR1.as_raw()).unwrap();
    assert!(Proc::of(pid.cast_signed()).is_alive());
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn it_reaps_in_a_shared_pid_namespace() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle, pid) = running(&bench, "pod", &Spec::sandbox());
    let children = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    // An orphan in the pod's pid namespace becomes the child of its first process.
    let status = Command::new("nsenter")
        .args(["-t", &pid.to_string(), "-p", "--", "sh", "-c", "(sleep 1000 &) ; exit 0"])
        .status()
        .unwrap();
    assert!(status.success());
    let orphan = eventually_some("the orphan is adopted", || children().trim().parse().ok());
    Proc::of(orphan).kill();
    eventually("the orphan is reaped", || children().trim().is_empty());
    assert!(Proc::of(pid.cast_signed()).is_alive());
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn members_live_in_the_sandboxs_namespaces_and_come_and_go_in_any_order() {
    let Some(bench) = Bench::released() else { return };
    let network = bench.pod_network();
    let before = network.state();
    let (shim, sandbox, pid) = running(&bench, "pod", &Spec::sandbox().join_network(&network.path()));
    let hang = || Spec::tiny("hang").member_of("pod", pid);
    let (_, first, one) = running(&bench, "c1", &hang());
    let (_, second, two) = running(&bench, "c2", &hang());
    assert_eq!(bench.daemons().len(), 1, "one daemon for the pod");
    for kind in ["net", "ipc", "uts"] {
        assert_eq!(
            [namespace(one, kind), namespace(two, kind)],
            [(); 2].map(|()| namespace(pid, kind)),
            "{kind}"
        );
    }
    // The name of the pod is the guest's.
    let line = String::from_utf8_lossy(&fs::read(format!("/proc/{one}/cmdline")).unwrap()).into_owned();
    assert!(line.contains("the-pod"), "{line}");

    // One is created while another one is being deleted.
    shim.client.kill("c1", 9).unwrap();
    shim.client.wait("c1").unwrap();
    let third = bench.bundle("c3", &hang()).without_stdio();
    bench.start(&third);
    let create = shim.client.send_create(&third, SOON);
    shim.client.delete("c1").unwrap();
    create.wait().unwrap();
    shim.client.shutdown("c1");
    bench.delete(&first).deleted();
    first.remove();
    shim.client.start("c3").unwrap();

    // The sandbox goes first: its members live on, and their network, too.
    shim.client.kill("pod", 15).unwrap();
    assert_eq!(shim.client.wait("pod"), Ok(143));
    // Its number may be a stranger's by now: nobody joins that one's namespaces.
    let late = bench.bundle("c4", &hang()).without_stdio();
    bench.start(&late);
    let failure = shim.client.create(&late).unwrap_err();
    assert_eq!(failure.code, Some(Code::FAILED_PRECONDITION), "{failure:?}");
    assert!(failure.message.contains("the pod's sandbox pod, which has ended"), "{failure:?}");
    bench.delete(&late).deleted();
    late.remove();
    shim.client.delete("pod").unwrap();
    shim.client.shutdown("pod");
    bench.delete(&sandbox).deleted();
    sandbox.remove();
    for id in ["c2", "c3"] {
        assert_eq!(shim.client.status(id), Ok(Status::RUNNING), "{id}");
    }
    bench.end(&shim, third);
    bench.end(&shim, second);
    assert!(shim.daemon.ends_within(SOON), "the daemon stays without a pod");
    assert_eq!(network.state(), before);
    bench.finish();
}

#[test]
fn a_sandbox_that_dies_while_a_member_joins_it_is_noticed() {
    let Some(bench) = Bench::with_faults() else { return };
    let (shim, sandbox, pid) = running(&bench, "pod", &Spec::sandbox());
    let member = bench.bundle("c1", &Spec::tiny("hang").member_of("pod", pid)).without_stdio();
    bench.start(&member);
    bench.faults.set(&["launcher.after-done=hold"]);
    let create = shim.client.send_create(&member, SOON);
    eventually("it has joined", || bench.faults.has_fired("launcher.after-done"));
    // From here on nobody can tell whose namespaces it has joined.
    Proc::of(pid.cast_signed()).kill();
    bench.faults.set(&[]);
    let failure = create.wait().unwrap_err();
    assert_eq!(failure.code, Some(Code::FAILED_PRECONDITION), "{failure:?}");
    assert!(failure.message.contains("the pod's sandbox pod, which has ended"), "{failure:?}");
    bench.delete(&member).deleted();
    member.remove();
    bench.end(&shim, sandbox);
    bench.finish();
}

/// Some containerds ask a daemon to leave once only, while a last container still goes.
#[test]
fn a_shutdown_that_came_too_early_is_remembered() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle, _) = running(&bench, "pod", &Spec::sandbox());
    shim.client.shutdown("pod");
    assert!(shim.daemon.is_alive());
    shim.client.kill("pod", 9).unwrap();
    shim.client.wait("pod").unwrap();
    shim.client.delete("pod").unwrap();
    assert!(shim.daemon.ends_within(Duration::from_secs(5)), "it waits to be asked once more");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

#[test]
fn a_shared_pid_namespace_ends_with_its_sandbox() {
    let Some(bench) = Bench::released() else { return };
    let (shim, sandbox, pid) = running(&bench, "pod", &Spec::sandbox());
    let shared = Spec::tiny("hang").member_of("pod", pid).edit(|s| {
        s["linux"]["namespaces"][0]["path"] = format!("/proc/{pid}/ns/pid").into();
    });
    let (_, member, one) = running(&bench, "c1", &shared);
    assert_eq!(namespace(one, "pid"), namespace(pid, "pid"));
    shim.client.kill("pod", 9).unwrap();
    assert_eq!(shim.client.wait("c1"), Ok(137));
    assert_eq!(shim.client.wait("pod"), Ok(137));
    bench.end(&shim, member);
    bench.end(&shim, sandbox);
    bench.finish();
}

#[test]
fn the_daemons_death_ends_the_pod_and_the_sandboxs_delete_unwinds_it() {
    let Some(bench) = Bench::released() else { return };
    for shared_pid in [false, true] {
        let network = bench.pod_network();
        let before = network.state();
        let (shim, sandbox, pid) = running(&bench, "pod", &Spec::sandbox().join_network(&network.path()));
        let spec = Spec::tiny("hang").member_of("pod", pid).edit(|s| {
            if shared_pid {
                s["linux"]["namespaces"][0]["path"] = format!("/proc/{pid}/ns/pid").into();
            }
        });
        let (_, first, one) = running(&bench, "c1", &spec);
        let (_, second, two) = running(&bench, "c2", &spec);
        let processes: Vec<Proc> = [pid, one, two].map(|pid| Proc::of(pid.cast_signed())).into();
        shim.daemon.kill();
        assert!(processes.iter().all(|p| p.ends_within(SOON)), "a process outlives the daemon");
        // All that some containerds call.
        assert_eq!(bench.delete(&sandbox).deleted().exit_status, 137);
        assert_eq!(network.state(), before, "the members' network is left");
        // The others may come late, and are told what their containers came to.
        for bundle in [first, second] {
            assert_eq!(bench.delete(&bundle).deleted().exit_status, 137);
            bundle.remove();
        }
        sandbox.remove();
        bench.check();
    }
    bench.finish();
}

#[test]
fn what_a_sandbox_cannot_have_is_refused_by_name() {
    let Some(bench) = Bench::released() else { return };
    let refused = |change: &dyn Fn(&mut serde_json::Value), words: &[&str]| {
        let bundle = bench.bundle("pod", &Spec::sandbox().edit(|s| change(s))).without_stdio();
        let shim = bench.start(&bundle);
        let failure = shim.client.create(&bundle).unwrap_err();
        assert!(words.iter().all(|word| failure.message.contains(word)), "{failure:?}");
        shim.client.shutdown("pod");
        bench.delete(&bundle).deleted();
        bundle.remove();
    };
    refused(
        &|s| s["linux"]["sysctl"] = json!({"vm.swappiness": "1"}),
        &["linux.sysctl[vm.swappiness]", "namespace"],
    );
    refused(
        &|s| s["linux"]["sysctl"] = json!({"net.ipv4.no_such_thing": "1"}),
        &["net/ipv4/no_such_thing", "No such file"],
    );
    // The host's own, by path.
    let somaxconn = || fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let before = somaxconn();
    refused(
        &|s| {
            s["linux"]["namespaces"] =
                json!([{"type": "network", "path": format!("/proc/{}/ns/net", std::process::id())}]);
            s["linux"]["sysctl"] = json!({"net.core.somaxconn": "4321"});
        },
        &["net/core/somaxconn", "the host's own"],
    );
    assert_eq!(somaxconn(), before);
    refused(&|s| s["linux"]["namespaces"] = json!([{"type": "user"}]), &["user namespace"]);
    refused(
        &|s| s["linux"]["namespaces"] = json!([{"type": "network", "path": "/no/such/netns"}]),
        &["/no/such/netns"],
    );
    bench.finish();
}

/// As the systemd cgroup driver of kubelet or Docker writes it: the place is the one that systemd would use.
#[test]
fn a_cgroups_path_in_systemds_form_is_translated() {
    let Some(bench) = Bench::released() else { return };
    let slice = format!("{}-pod1.slice", bench.namespace);
    for (id, spec) in [("pod", Spec::sandbox()), ("c1", Spec::tiny("hang").in_pod("pod"))] {
        let path = format!("{slice}:cri-containerd:{id}");
        let spec = spec.edit(|s| s["linux"]["cgroupsPath"] = path.into());
        let (shim, bundle, pid) = running(&bench, id, &spec);
        let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let scope = format!("/{}.slice/{slice}/cri-containerd-{id}.scope/urunc-", bench.namespace);
        assert!(own.lines().any(|line| line.contains(&scope)), "{own}");
        bench.end(&shim, bundle);
    }
    let bundle = bench
        .bundle("c2", &Spec::tiny("hang").edit(|s| s["linux"]["cgroupsPath"] = "no-slice:cri:c2".into()))
        .without_stdio();
    let shim = bench.start(&bundle);
    let failure = shim.client.create(&bundle).unwrap_err();
    assert_eq!(failure.code, Some(Code::INVALID_ARGUMENT), "{failure:?}");
    assert!(failure.message.contains("no-slice:cri:c2"), "{failure:?}");
    shim.client.shutdown("c2");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

fn create(client: &Client, bundle: &Bundle) {
    client.create(bundle).unwrap();
}

#[test]
fn the_daemon_is_killed_at_every_point_of_a_sandboxs_create_and_start() {
    let Some(bench) = Bench::with_faults() else { return };
    let both = |client: &Client, bundle: &Bundle| {
        create(client, bundle);
        client.start(&bundle.id).unwrap();
    };
    let points = dry_run(&bench, &Spec::sandbox(), |_, _| {}, both);
    assert!(points.launcher.iter().any(|(name, _)| name == "launcher.hold"), "{:?}", points.launcher);
    assert!(points.daemon.iter().any(|(name, _)| name == "gate.after-acting"), "{:?}", points.daemon);
    for (n, (name, passage)) in points.daemon.iter().enumerate() {
        let after = format!("{name}#{passage}=kill");
        let bundle = bench.bundle("pod", &Spec::sandbox()).without_stdio();
        let shim = bench.start(&bundle);
        bench.faults.set(&[&after]);
        if shim.client.create(&bundle).is_ok() {
            shim.client.start("pod").expect_err(&after);
        }
        assert!(shim.daemon.ends_within(SOON), "{after}");
        bench.faults.set(&[]);
        if n % 2 == 0 {
            bench.delete(&bundle).deleted();
        }
        bundle.remove();
        let (shim, bundle, _) = running(&bench, "pod", &Spec::sandbox());
        bench.end(&shim, bundle);
        bench.check();
    }
    bench.finish();
}
