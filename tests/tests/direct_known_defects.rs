//! Defects that others met, each by its number there, as tests that must never fail.
//!
//! | test | defect |
//! | --- | --- |
//! | `urunc_408_*` | a monitor that had died by itself was nobody's to clean up after: its network stayed |
//! | `urunc_598_*` | a crash in the middle of a write left a state file that nobody could read |
//! | `urunc_767_*` | a choice that failed in Create orphaned the container that was made before it |
//! | `urunc_778_751_*` | a crash in Create left a VMM; its clean-up killed by a bare number, in the worst case everybody |
//! | `urunc_859_*` | volumes were unmounted from the host one by one; an error at the second forgot the first |
//! | `urunc_874_*` | a failure half way through the network left a tap, which blocked the namespace for good |
//! | `urunc_899_*` | a pid that was used again was signalled, and its network namespace entered |
//! | `gvisor_10724_*` | the clean-up of a second Create of an id destroyed the container that had it |
//! | `containerd_6860_*` | containerd died before or in Create: the shim stayed, with nothing to serve |
//! | `containerd_7496_*` | a Delete took longer than its caller waited, who forgot the id and asked no more |
//!
//! 598, 767, 778 and 751 are in `direct_regressions`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{fs, path::Path, process::Command, time::Duration};

use containerd_shim_protos::{
    api::{DeleteRequest, DeleteResponse, Mount, Status},
    ttrpc::Code,
};
use urunc_tests::direct::{
    Bench, Bundle, Client, PodNetwork, Proc, SOON, Spec, Stranger, TASK, dry_run, eventually, leaves,
};

fn in_network(network: &PodNetwork) -> Spec {
    Spec::tiny("hang").join_network(&network.path())
}

/// A guest has the namespace's network, and leaves it as it was.
#[track_caller]
fn serves_a_guest(bench: &Bench, network: &PodNetwork, after: &str) {
    let before = network.state();
    let (shim, bundle, _) = bench.created("next", &in_network(network));
    shim.client.start("next").unwrap();
    let tap = format!("tap{}", bench.record("next").unwrap()["txid"].as_str().unwrap());
    assert!(
        network.filters().contains(&tap),
        "{after}: the next guest has no network: {}",
        network.filters()
    );
    bench.end(&shim, bundle);
    assert_eq!(network.state(), before, "{after}");
}

/// Kill returned early when the monitor was dead already, and with it the clean-up of the network.
#[test]
fn urunc_408_a_monitor_that_is_already_dead_leaves_no_network() {
    let Some(bench) = Bench::released() else { return };
    let network = bench.pod_network();
    let before = network.state();
    for cleaned_up_by in ["kill and delete", "delete alone", "the action", "the next create"] {
        let (shim, bundle, pid) = bench.created("c1", &in_network(&network));
        shim.client.start("c1").unwrap();
        assert_ne!(network.state(), before);
        Proc::of(pid.cast_signed()).kill();
        assert_eq!(shim.client.wait("c1"), Ok(137));
        match cleaned_up_by {
            "kill and delete" => {
                assert_eq!(shim.client.kill("c1", 9).unwrap_err().code, Some(Code::NOT_FOUND));
                shim.client.delete("c1").unwrap();
            }
            "delete alone" => drop(shim.client.delete("c1").unwrap()),
            _ => shim.daemon.kill(),
        }
        if cleaned_up_by != "the next create" {
            shim.client
                .send::<containerd_shim_protos::api::Empty>("Shutdown", &DeleteRequest::new())
                .wait()
                .ok();
            bench.delete(&bundle).deleted();
            assert_eq!(network.state(), before, "{cleaned_up_by}");
            bundle.remove();
        } else {
            bundle.remove();
            let (shim, bundle, _) = bench.created("c1", &in_network(&network));
            bench.end(&shim, bundle);
        }
        serves_a_guest(&bench, &network, cleaned_up_by);
        bench.check();
    }
    bench.finish();
}

/// Volumes were unmounted on the host to be handed to the guest, one by one; an error at a later one forgot which.
#[test]
fn urunc_859_a_mount_that_fails_leaves_the_hosts_mounts_as_they_were() {
    let Some(bench) = Bench::with_faults() else { return };
    // Volumes of the host's, mounted there by somebody else, who wants to find them again.
    let volumes = [bench.scratch().join("volume0"), bench.scratch().join("volume1")];
    let run = |program: &str, args: &[&str]| {
        assert!(Command::new(program).args(args).status().unwrap().success(), "{program} {args:?}");
    };
    for (n, volume) in volumes.iter().enumerate() {
        fs::create_dir(volume).unwrap();
        run("mount", &["-t", "tmpfs", &format!("urunc-859-{n}"), volume.to_str().unwrap()]);
        fs::write(volume.join("data"), "precious").unwrap();
    }
    let mounts = || {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table
            .lines()
            .filter(|l| l.contains(bench.scratch().to_str().unwrap()))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let before = mounts();
    assert_eq!(before.len(), 2, "{before:?}");
    let bind = |source: &Path, target: &str| Mount {
        type_: "bind".to_owned(),
        source: source.to_string_lossy().into_owned(),
        target: target.to_owned(),
        options: vec!["rbind".to_owned(), "rw".to_owned()],
        ..Mount::default()
    };
    for target in ["volume0", "volume1", "volume2"] {
        fs::create_dir(bench.image().join(target)).unwrap();
    }
    let missing = bench.scratch().join("missing");
    // The third cannot be mounted when two are; all can, and then it goes wrong; nothing does.
    for fault in
        ["", "launcher.root=error", "launcher.root=kill", "plan.before=error", "plan.before=kill", "none"]
    {
        let third = if fault.is_empty() { &missing } else { &volumes[0] };
        // On the host: the first process of a pid namespace cannot be killed from inside.
        let mut bundle = bench.bundle("c1", &Spec::tiny("hang").on_the_host()).without_stdio();
        bundle.rootfs = vec![
            bind(bench.image(), ""),
            bind(&volumes[0], "volume0"),
            bind(&volumes[1], "volume1"),
            bind(third, "volume2"),
        ];
        let shim = bench.start(&bundle);
        bench.faults.set(&[fault]);
        let created = shim.client.create(&bundle);
        if fault == "none" {
            created.unwrap();
            shim.client.delete("c1").unwrap();
        } else {
            let failure = created.expect_err(fault);
            assert!(!fault.is_empty() || failure.message.contains("volume2"), "{failure:?}");
            let point = fault.split('=').next().unwrap();
            assert!(point.is_empty() || bench.faults.has_fired(point), "{fault}");
        }
        bench.faults.set(&[]);
        assert_eq!(mounts(), before, "{fault}: the host's mounts");
        if fault != "plan.before=kill" {
            assert!(leaves(&bench.namespace, "c1").is_empty(), "{fault}");
            shim.client.shutdown("c1");
        }
        assert!(shim.daemon.ends_within(SOON), "{fault}");
        bench.delete(&bundle).deleted();
        bundle.remove();
    }
    bench.run("c1", 4);
    assert_eq!(mounts(), before);
    for volume in &volumes {
        assert_eq!(fs::read_to_string(volume.join("data")).unwrap(), "precious");
        run("umount", &[volume.to_str().unwrap()]);
    }
    bench.finish();
}

/// A failure in the middle of the network's set-up left a tap, and any tap in the namespace blocked it for good.
#[test]
fn urunc_874_a_network_that_fails_half_way_does_not_block_its_namespace() {
    let Some(bench) = Bench::with_faults() else { return };
    let network = bench.pod_network();
    let before = network.state();
    let create = |client: &Client, bundle: &Bundle| {
        client.create(bundle).unwrap();
    };
    // Without a pid namespace, whose first process cannot be killed from inside.
    let spec = in_network(&network)
        .edit(|s| s["linux"]["namespaces"].as_array_mut().unwrap().retain(|ns| ns["type"] != "pid"));
    let passed = dry_run(&bench, &spec, |_, _| {}, create);
    let of_network = |name: &&String| {
        ["ingress.", "redirect.", "launcher.tap", "launcher.half-tied"].iter().any(|n| name.starts_with(n))
    };
    let points: Vec<&String> =
        passed.daemon.iter().chain(&passed.launcher).map(|(name, _)| name).filter(of_network).collect();
    for must in ["ingress.after-acting", "redirect.after-intent", "launcher.tap", "launcher.half-tied"] {
        assert!(points.iter().any(|name| *name == must), "{must} is not among {points:?}");
    }
    // All of them in one namespace, as with a pod that is tried again and again.
    for point in points {
        for action in ["error", "kill"] {
            let after = format!("{action} at {point}");
            let (bundle, fault) = (bench.bundle("c1", &spec).without_stdio(), format!("{point}={action}"));
            let shim = bench.start(&bundle);
            bench.faults.set(&[&fault]);
            shim.client.create(&bundle).expect_err(&after);
            assert!(bench.faults.has_fired(point), "{after}");
            bench.faults.set(&[]);
            if shim.daemon.is_alive() {
                shim.daemon.signal(rustix::process::Signal::TERM);
            }
            assert!(shim.daemon.ends_within(SOON));
            bench.delete(&bundle).deleted();
            bundle.remove();
            assert_eq!(network.state(), before, "{after}");
        }
    }
    serves_a_guest(&bench, &network, "all of that");
    bench.finish();
}

/// The pid of a monitor that had ended was signalled and its network namespace entered, whoever had it by then.
#[test]
fn urunc_899_a_pid_that_is_used_again_is_a_strangers() {
    let Some(bench) = Bench::released() else { return };
    for verb in ["kill and delete", "the action", "the next create", "the sweep"] {
        let network = bench.pod_network();
        let before = network.state();
        let (shim, bundle, pid) = bench.created("c1", &in_network(&network));
        shim.client.start("c1").unwrap();
        if verb == "kill and delete" {
            Proc::of(pid.cast_signed()).kill();
            assert_eq!(shim.client.wait("c1"), Ok(137));
        } else {
            shim.daemon.kill();
        }
        let stranger = Stranger::in_place_of(pid);
        // What a transaction is known by there is not the stranger's either.
        PodNetwork::plug_into(pid);
        let theirs = || PodNetwork::state_of(pid);
        let strangers_before = theirs();
        match verb {
            "kill and delete" => {
                assert_eq!(shim.client.kill("c1", 9).unwrap_err().code, Some(Code::NOT_FOUND));
                assert_eq!(shim.client.status("c1"), Ok(Status::STOPPED));
                shim.client.delete("c1").unwrap();
                shim.client.shutdown("c1");
                bench.delete(&bundle).deleted();
            }
            "the action" => drop(bench.delete(&bundle).deleted()),
            "the next create" => {}
            _ => {
                bench.run("c2", 2);
                eventually("the sweep", || bench.record("c1").is_none_or(|r| r["tombstone"] == true));
                bench.delete(&bundle).deleted();
            }
        }
        bundle.remove();
        if verb == "the next create" {
            bench.run("c1", 1);
        }
        stranger.check();
        assert_eq!(theirs(), strangers_before, "{verb}: the stranger's network");
        assert_eq!(network.state(), before, "{verb}: the pod's network");
        drop(stranger);
        bench.check();
    }
    bench.finish();
}

/// The clean-up of a second Create destroyed what the first had made; a third one could not be created any more.
#[test]
fn gvisor_10724_a_second_create_of_an_id_harms_nobody() {
    let Some(bench) = Bench::with_faults() else { return };
    let other = bench.bundle("other", &Spec::tiny("hang")).without_stdio();
    let second = bench.start(&other);
    for state in ["creating", "created", "running", "stopped"] {
        let bundle = bench.bundle("c1", &Spec::tiny("hang")).without_stdio();
        let shim = bench.start(&bundle);
        bench.faults.set(&[if state == "creating" { "plan.made=hold" } else { "" }]);
        let create = shim.client.send_create(&bundle, SOON);
        if state == "creating" {
            eventually("it is being created", || bench.faults.has_fired("plan.made"));
        } else {
            create.within(SOON).unwrap().unwrap();
        }
        if state == "running" || state == "stopped" {
            shim.client.start("c1").unwrap();
        }
        if state == "stopped" {
            shim.client.kill("c1", 9).unwrap();
            shim.client.wait("c1").unwrap();
        }
        eventually("the state", || bench.record("c1").is_some_and(|r| r["state"] == state));
        let (record, processes) = (bench.record("c1"), bench.processes("c1"));
        // In another pod by mistake, hence by another daemon; and by its own.
        let mut same = bench.bundle("c3", &Spec::tiny("hang").in_pod("other")).without_stdio();
        "c1".clone_into(&mut same.id);
        for round in 0..3 {
            for (who, client, bundle) in
                [("its own", &shim.client, &bundle), ("another", &second.client, &same)]
            {
                let failure = client.create(bundle).unwrap_err();
                assert_eq!(failure.code, Some(Code::ALREADY_EXISTS), "{who} daemon, {round}: {failure:?}");
            }
        }
        assert_eq!(bench.record("c1"), record, "{state}");
        assert!(processes.iter().all(Proc::is_alive), "{state}: it was killed");
        assert!(!leaves(&bench.namespace, "c1").is_empty(), "{state}");
        bench.faults.set(&[]);
        if state == "creating" {
            create.wait().expect("it is created all the same");
        }
        bench.end(&shim, bundle);
        same.remove();
        bench.run("c1", 3);
    }
    second.client.shutdown("other");
    assert!(second.daemon.ends_within(SOON));
    bench.delete(&other).deleted();
    other.remove();
    bench.finish();
}

/// containerd died after `start`, or in Create: a shim without a task was taken for one that runs, and stayed.
#[test]
fn containerd_6860_a_shim_without_a_task_says_so_and_can_be_reaped() {
    let Some(bench) = Bench::with_faults() else { return };
    for died in ["before Create", "in Create"] {
        let bundle = bench.bundle("c1", &Spec::tiny("hang")).without_stdio();
        let shim = bench.start(&bundle);
        if died == "in Create" {
            bench.faults.set(&["plan.before=hold"]);
            let address = shim.address.strip_prefix("unix://").unwrap();
            let stream = std::os::unix::net::UnixStream::connect(address).unwrap();
            let create = Client::over(stream.try_clone().unwrap()).send_create(&bundle, SOON);
            eventually("Create is at work", || bench.faults.has_fired("plan.before"));
            stream.shutdown(std::net::Shutdown::Both).unwrap();
            create.wait().unwrap_err();
        }
        // As a new containerd asks: Connect must succeed, and Pids decides whether there is a task.
        let new = bench.connect(&shim.address).client;
        assert_eq!(new.connect_task("c1"), (shim.daemon.pid().unsigned_abs(), 0), "{died}");
        assert_eq!(new.pids("c1").unwrap_err().code, Some(Code::NOT_FOUND), "{died}");
        bench.faults.set(&[]);
        eventually("nothing is left of it", || !bench.run_directory("c1").exists());
        assert_eq!(new.pids("c1").unwrap_err().code, Some(Code::NOT_FOUND), "{died}");
        assert!(bench.processes("c1").is_empty(), "{died}");
        // It reaps it: `delete`, and Shutdown.
        bench.delete(&bundle).deleted();
        new.shutdown("c1");
        assert!(shim.daemon.ends_within(SOON), "{died}: the shim stays");
        bundle.remove();
        bench.check();
    }
    bench.finish();
}

/// A Delete that took longer than its caller waited was forgotten by both: its container stayed for ever.
#[test]
fn containerd_7496_a_delete_whose_caller_is_gone_is_finished() {
    let Some(bench) = Bench::with_faults() else { return };
    for (id, second) in [("c1", "waits"), ("c2", "comes late"), ("c3", "never comes")] {
        let (shim, bundle, _) = bench.created(id, &Spec::tiny("hang"));
        shim.client.start(id).unwrap();
        shim.client.kill(id, 9).unwrap();
        assert_eq!(shim.client.wait(id), Ok(137));
        bench.faults.set(&["cgroup.undo=hold"]);
        let request = DeleteRequest { id: id.to_owned(), ..DeleteRequest::default() };
        let first =
            shim.client.send_to::<DeleteResponse>(TASK, "Delete", &request, Some(Duration::from_millis(50)));
        first.wait().expect_err("its caller does not wait so long");
        eventually("Delete is at work", || bench.faults.has_fired("cgroup.undo"));
        // The id is known until all is done, and whoever asks is answered.
        assert_eq!(shim.client.status(id), Ok(Status::STOPPED));
        assert_eq!(shim.client.wait(id), Ok(137));
        assert_eq!(shim.client.create(&bundle).unwrap_err().code, Some(Code::ALREADY_EXISTS));
        shim.client.shutdown(id);
        assert!(shim.daemon.is_alive(), "it leaves with its work undone");
        let again = (second == "waits").then(|| shim.client.send_delete(id));
        if let Some(again) = &again {
            assert!(again.within(Duration::from_millis(20)).is_none(), "it answers before it is done");
        }
        bench.faults.set(&[]);
        if let Some(again) = again {
            assert_eq!(again.wait().unwrap_err().code, Some(Code::NOT_FOUND));
        }
        eventually("it is finished", || !bench.run_directory(id).exists());
        assert!(leaves(&bench.namespace, "c1").is_empty());
        if second == "comes late" {
            eventually("the id is free", || {
                shim.client.delete(id).is_err_and(|failure| failure.code == Some(Code::NOT_FOUND))
            });
        }
        bench.events.expect(id, &["create", "start", "exit", "delete"]);
        shim.client.shutdown(id);
        assert!(shim.daemon.ends_within(SOON));
        assert_eq!(bench.delete(&bundle).deleted().exit_status, 137);
        bundle.remove();
        bench.check();
    }
    bench.finish();
}
