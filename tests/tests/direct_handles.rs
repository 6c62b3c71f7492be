//! A record that lacks a part of what identifies its container, or has a wrong one: the rest of it is enough. And one
//! that names what cannot be its own harms nobody.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    fs,
    os::unix::{fs::MetadataExt, net::UnixListener},
    path::Path,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};
use urunc_tests::direct::{
    Bench, Bundle, Proc, SOON, Shim, Spec, Survivor, eventually, hierarchies, leaves, unseal,
};

/// A process as a record names it.
fn named(pid: i32) -> Value {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let start: u64 =
        stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(19).unwrap().parse().unwrap();
    json!({"boot_id": boot, "pid": pid, "start_time": start})
}

#[test]
fn what_a_record_lacks_is_found_by_what_it_has() {
    let Some(bench) = Bench::released() else { return };
    type Damage = fn(&mut Value);
    let cases: [(&str, bool, Damage); 7] = [
        ("no process", false, |r| r["process"] = Value::Null),
        ("process missing", false, |r| drop(r.as_object_mut().unwrap().remove("process"))),
        ("no cgroup", false, |r| r["cgroup"] = Value::Null),
        ("no hierarchies", false, |r| r["cgroup"]["hierarchies"] = json!([])),
        ("neither", false, |r| (r["process"], r["cgroup"]) = (Value::Null, Value::Null)),
        ("neither, and no plan", true, |r| (r["process"], r["cgroup"]) = (Value::Null, Value::Null)),
        ("cgroup missing, and no plan", true, |r| drop(r.as_object_mut().unwrap().remove("cgroup"))),
    ];
    for (what, without_plan, damage) in cases {
        for verb in ["delete", "create"] {
            let bundle = bench.orphaned("c1").0;
            let survivor = Survivor::new(&bench, "c1");
            bench.edit_record("c1", damage);
            if without_plan {
                fs::remove_file(bench.run_directory("c1").join("plan.json")).unwrap();
            }
            if verb == "delete" {
                bench.delete(&bundle).deleted();
                assert!(!bench.run_directory("c1").exists(), "{what}");
                bundle.remove();
            } else {
                bundle.remove();
                bench.run("c1", 3);
            }
            assert!(survivor.was_killed(), "{what}, {verb}");
            assert_eq!(leaves(&bench.namespace, "c1"), Vec::<&Path>::new(), "{what}, {verb}");
            // Nothing tells any more who made the folder above the leaf: it stays, empty.
            if without_plan {
                hierarchies().iter().for_each(|h| drop(fs::remove_dir(h.join(&bench.namespace).join("c1"))));
            }
            bench.check();
        }
    }
    // Without its cgroup the process is known by its identity, wherever it is.
    let bundle = bench.orphaned("c1").0;
    let (inside, outside) = (Survivor::new(&bench, "c1"), Survivor::outside());
    bench.edit_record("c1", |r| (r["process"], r["cgroup"]) = (named(outside.pid()), Value::Null));
    bench.delete(&bundle).deleted();
    assert!(inside.was_killed() && outside.was_killed());
    bundle.remove();
    bench.finish();
}

#[test]
fn a_record_that_is_lost_is_made_up_for_by_its_marker() {
    let Some(bench) = Bench::released() else { return };
    for verb in ["delete", "create", "another's sweep"] {
        let bundle = bench.orphaned("c1").0;
        let survivor = Survivor::new(&bench, "c1");
        fs::remove_file(bench.run_directory("c1").join("record.json")).unwrap();
        match verb {
            "delete" => drop(bench.delete(&bundle).deleted()),
            "create" => {
                bundle.remove();
                bench.run("c1", 3);
                assert!(survivor.was_killed(), "{verb}");
                continue;
            }
            _ => {
                let (shim, other, _) = bench.created("c2", &Spec::tiny("hang"));
                eventually("the sweep", || !bench.run_directory("c1").exists());
                bench.end(&shim, other);
            }
        }
        assert!(survivor.was_killed(), "{verb}");
        assert!(!bench.run_directory("c1").exists(), "{verb}");
        bundle.remove();
        bench.check();
    }
    // Under a daemon that lives it is nobody else's; that one ends its container when containerd says so.
    let (shim, bundle, pid) = bench.created("c1", &Spec::tiny("hang"));
    fs::remove_file(bench.run_directory("c1").join("record.json")).unwrap();
    let (swept, _) = bench.orphaned("zz-last");
    let (sweeper, other, _) = bench.created("c2", &Spec::tiny("hang"));
    eventually("the sweep", || bench.record("zz-last").is_some_and(|r| r["tombstone"] == true));
    assert!(Proc::of(pid.cast_signed()).is_alive(), "a guest of a living daemon was killed");
    bench.delete(&swept).deleted();
    swept.remove();
    bench.end(&sweeper, other);
    bench.end(&shim, bundle);
    bench.finish();
}

/// What a record says that cannot be understood is unknown, but not whose it is.
fn garble(bench: &Bench, id: &str, how: &str) {
    if how == "newer" {
        return bench.edit_record(id, |record| record["schema"] = 99.into());
    }
    fs::write(bench.run_directory(id).join("record.json"), "{").unwrap();
}

/// What was set aside, and the folders around it.
fn forget(bench: &Bench) {
    fs::remove_dir_all(bench.folder().join(&bench.namespace)).ok();
}

/// A pod's sandbox and two members that run.
fn pod(bench: &Bench) -> (Shim, Bundle, [Bundle; 2], [Proc; 3]) {
    let (shim, sandbox, pid) = bench.created("pod", &Spec::sandbox());
    shim.client.start("pod").unwrap();
    let member = |id: &str| {
        let (_, bundle, own) = bench.created(id, &Spec::tiny("hang").member_of("pod", pid));
        shim.client.start(id).unwrap();
        (bundle, Proc::of(own.cast_signed()))
    };
    let ((first, one), (second, two)) = (member("c1"), member("c2"));
    (shim, sandbox, [first, second], [Proc::of(pid.cast_signed()), one, two])
}

#[test]
fn a_sandbox_whose_record_cannot_be_understood_takes_its_members_with_it() {
    let Some(bench) = Bench::released() else { return };
    for how in ["garbled", "newer"] {
        let (shim, sandbox, members, processes) = pod(&bench);
        garble(&bench, "pod", how);
        shim.daemon.kill();
        let survivor = Survivor::new(&bench, "c1");
        // One that a newer version wrote is for that version to remove.
        assert_eq!(bench.delete(&sandbox).code == Some(0), how == "garbled", "{how}");
        assert!(survivor.was_killed(), "{how}");
        assert!(processes.iter().all(|process| !process.is_alive()), "{how}");
        for id in ["pod", "c1", "c2"] {
            assert_eq!(leaves(&bench.namespace, id), Vec::<&Path>::new(), "{how}");
        }
        for bundle in members {
            bench.delete(&bundle).deleted();
            bundle.remove();
        }
        sandbox.remove();
        forget(&bench);
        bench.check();
    }
    bench.finish();
}

#[test]
fn a_member_kills_no_daemon_of_others_whose_records_cannot_be_understood() {
    let Some(bench) = Bench::released() else { return };
    for how in ["garbled", "newer"] {
        let (shim, sandbox, [first, second], processes) = pod(&bench);
        ["pod", "c2"].iter().for_each(|id| garble(&bench, id, how));
        shim.daemon.stop();
        let deleted = bench.delete(&first);
        assert!(deleted.stderr.contains("other containers depend on it"), "{how}: {}", deleted.stderr);
        assert!(shim.daemon.is_alive() && processes.iter().all(Proc::is_alive), "{how}");
        // The sandbox's own ends all of them.
        assert_eq!(bench.delete(&sandbox).code == Some(0), how == "garbled", "{how}");
        assert!(!shim.daemon.is_alive() && processes.iter().all(|process| !process.is_alive()), "{how}");
        eventually("gc has ended", || bench.actions("gc").is_empty());
        bench.delete(&first).deleted();
        [sandbox, first, second].into_iter().for_each(Bundle::remove);
        forget(&bench);
        bench.check();
    }
    bench.finish();
}

#[test]
fn a_record_that_cannot_be_understood_under_its_daemon_is_no_obstacle() {
    let Some(bench) = Bench::released() else { return };
    for daemon in ["serves", "is stopped"] {
        let (shim, bundle, pid) = bench.created("c1", &Spec::tiny("hang"));
        shim.client.start("c1").unwrap();
        let guest = Proc::of(pid.cast_signed());
        garble(&bench, "c1", "garbled");
        if daemon == "serves" {
            // It has the truth in memory.
            bench.delete(&bundle).deleted();
            assert!(!bench.run_directory("c1").exists());
            shim.client.shutdown("c1");
            assert!(shim.daemon.ends_within(SOON));
        } else {
            shim.daemon.stop();
            let deleted = bench.delete(&bundle);
            assert!(deleted.stderr.contains("cannot be read"), "{}", deleted.stderr);
            assert!(!shim.daemon.is_alive());
            bench.delete(&bundle).deleted();
            forget(&bench);
        }
        assert!(!guest.is_alive(), "the daemon {daemon}");
        bundle.remove();
        bench.check();
    }
    bench.finish();
}

#[test]
fn a_pod_file_that_is_lost_keeps_nothing() {
    let Some(bench) = Bench::released() else { return };
    for what in ["garbled", "removed"] {
        for moment in ["dead", "dying", "idle"] {
            let bundle = bench.bundle("c1", &Spec::tiny("hang")).without_stdio();
            let shim = bench.start(&bundle);
            if moment != "idle" {
                shim.client.create(&bundle).unwrap();
            }
            match what {
                "garbled" => fs::write(bench.pod_file("c1"), "{").unwrap(),
                _ => fs::remove_file(bench.pod_file("c1")).unwrap(),
            }
            match moment {
                "dying" => shim.daemon.signal(Signal::KILL),
                _ => shim.daemon.kill(),
            }
            assert!(bench.socket("c1").exists());
            bench.delete(&bundle).deleted();
            assert!(!bench.socket("c1").exists() && !bench.pod_file("c1").exists(), "{what}, {moment}");
            bundle.remove();
            bench.check();
        }
    }
    bench.finish();
}

/// ext4 gives the number of an inode that was freed to the next file.
#[test]
fn a_strangers_socket_with_the_number_of_ours_stays() {
    let Some(bench) = Bench::released() else { return };
    for stranger in ["of our number", "of another"] {
        let bundle = bench.orphaned("c1").0;
        let socket = bench.socket("c1");
        fs::remove_file(&socket).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        if stranger == "of our number" {
            let theirs = fs::metadata(&socket).unwrap();
            bench.edit_pod_file("c1", |pod| pod["inode"] = json!([theirs.dev(), theirs.ino()]));
        }
        bench.delete(&bundle).deleted();
        assert!(socket.exists(), "{stranger}");
        assert!(!bench.pod_file("c1").exists(), "{stranger}");
        // Nor does a `start` take its place.
        let refused = bench.run_start(&bundle, b"").wait();
        assert!(refused.stderr.contains("in use by another program"), "{stranger}: {}", refused.stderr);
        assert!(socket.exists(), "{stranger}");
        drop(listener);
        fs::remove_file(&socket).unwrap();
        bundle.remove();
        bench.check();
    }
    bench.finish();
}

/// Every daemon acknowledges; one that is not the owner would end nothing.
#[test]
fn another_daemon_at_the_pods_socket_is_not_asked() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle, _) = bench.created("c1", &Spec::tiny("hang"));
    let (other, kept, _) = bench.created("c2", &Spec::tiny("hang"));
    eventually("nobody stands by", || bench.actions("gc").is_empty());
    shim.daemon.stop();
    let socket = bench.socket("c2");
    let pod = fs::read(bench.pod_file("c1")).unwrap();
    bench.edit_pod_file("c1", |pod| {
        (pod["owner"], pod["socket"]) = ("0123456789abcdef".into(), json!(socket))
    });
    let deleted = bench.delete(&bundle);
    assert!(deleted.stderr.contains("nobody knows where"), "{}", deleted.stderr);
    assert!(shim.daemon.is_alive());
    fs::write(bench.pod_file("c1"), pod).unwrap();
    bench.delete(&bundle).deleted();
    eventually("gc has ended", || bench.actions("gc").is_empty());
    bundle.remove();
    bench.end(&other, kept);
    bench.finish();
}

/// Who it is its record says once more, and where it listens its bundle.
#[test]
fn a_stopped_daemon_is_killed_though_its_pod_file_is_lost() {
    let Some(bench) = Bench::released() else { return };
    for what in ["garbled", "removed"] {
        for daemon in ["serves", "is stopped"] {
            let (shim, bundle, pid) = bench.created("c1", &Spec::tiny("hang"));
            shim.client.start("c1").unwrap();
            let guest = Proc::of(pid.cast_signed());
            match what {
                "garbled" => fs::write(bench.pod_file("c1"), "{").unwrap(),
                _ => fs::remove_file(bench.pod_file("c1")).unwrap(),
            }
            if daemon == "is stopped" {
                shim.daemon.stop();
            }
            let deleted = bench.delete(&bundle);
            assert_eq!(
                (deleted.deleted().pid, deleted.deleted().exit_status),
                (pid, 137),
                "{what}, {daemon}"
            );
            assert!(deleted.took < Duration::from_secs(4) && !guest.is_alive(), "{what}, {daemon}");
            if daemon == "serves" {
                shim.client.shutdown("c1");
                assert!(shim.daemon.ends_within(SOON), "it was asked, not killed");
                bench.delete(&bundle).deleted();
            }
            assert!(!shim.daemon.is_alive(), "{what}, {daemon}");
            bundle.remove();
            bench.check();
        }
    }
    bench.finish();
}

#[test]
fn a_record_that_names_what_cannot_be_its_own_harms_nobody() {
    let Some(bench) = Bench::released() else { return };
    let swept = bench.orphaned("swept").0;
    // Somebody else's container, whose things such a record names.
    let (other, kept, _) = bench.created("other", &Spec::tiny("hang"));
    other.client.start("other").unwrap();
    // Its daemon sweeps once, and would be faster than the `delete`s here: that is over when this one is a tombstone.
    eventually("the sweep", || bench.record("swept").is_some_and(|r| r["tombstone"] == true));
    bench.delete(&swept).deleted();
    swept.remove();
    let theirs = bench.record("other").unwrap();
    let mut cases = vec![
        ("process", json!({"boot_id": "x", "pid": "one", "start_time": 1})),
        ("cgroup", theirs["cgroup"].clone()),
        ("cgroup", json!({"hierarchies": [{"leaf": "../x"}]})),
        ("id", theirs["id"].clone()),
        ("namespace", "default".into()),
        ("txid", theirs["txid"].clone()),
        ("network", json!({"netns": 7})),
    ];
    let long = "x".repeat(4096);
    for field in ["namespace", "id", "txid", "owner", "group"] {
        let values = ["../x", "x\ny", "x\0y", &long, "-x", "", ".", ".."];
        cases.extend(values.map(|value| (field, value.into())));
    }
    for (field, value) in cases {
        let what = format!("{field}: {:.60}", value.to_string());
        let bundle = bench.orphaned("c1").0;
        let survivor = Survivor::new(&bench, "c1");
        bench.edit_record("c1", |record| record[field] = value);
        let deleted = bench.delete(&bundle);
        assert_eq!(deleted.deleted().exit_status, 137, "{what}");
        assert!(deleted.stderr.contains("cannot be read"), "{what}: {}", deleted.stderr);
        assert!(survivor.was_killed(), "{what}");
        assert_eq!(leaves(&bench.namespace, "c1"), Vec::<&Path>::new(), "{what}");
        // Set aside, it blocks nobody.
        bench.delete(&bundle).deleted();
        fs::remove_file(bench.run_directory("c1").join("record.json.unreadable")).unwrap();
        fs::remove_dir(bench.run_directory("c1")).unwrap();
        bundle.remove();
    }
    assert_eq!(other.client.status("other"), Ok(containerd_shim_protos::api::Status::RUNNING));
    assert_eq!(bench.record("other"), Some(theirs));
    bench.end(&other, kept);
    bench.finish();
}

#[test]
fn what_stands_at_the_pods_interface_is_found_by_the_plan() {
    let Some(bench) = Bench::released() else { return };
    for (late, damage) in
        [(false, "lacks it"), (true, "lacks it"), (false, "cannot be read"), (true, "cannot be read")]
    {
        let network = if late { bench.empty_network() } else { bench.pod_network() };
        let spec = Spec::tiny("hang").join_network(&network.path());
        let (shim, bundle, _) = bench.created("c1", &spec);
        if late {
            network.plug();
        }
        // Only the filter tells: the rest goes with the monitor.
        shim.client.start("c1").unwrap();
        assert!(network.filters().contains("mirred"), "{}", network.filters());
        shim.daemon.kill();
        eventually("the tap is gone", || !network.state().contains("tap"));
        if damage == "lacks it" {
            bench.edit_record("c1", |record| record["network"] = Value::Null);
            bench.delete(&bundle).deleted();
        } else {
            let record = bench.run_directory("c1").join("record.json");
            let text = fs::read(&record).unwrap();
            fs::write(&record, &text[..text.len() / 2]).unwrap();
            unseal(&fs::read(&record).unwrap()).unwrap_err();
            bench.delete(&bundle).deleted();
            forget(&bench);
        }
        assert_eq!(network.filters(), "", "{damage}, late: {late}");
        assert!(
            !network.state().contains("qdisc ingress ffff: dev pod0"),
            "{damage}, late: {late}: {}",
            network.state()
        );
        bundle.remove();
    }
    bench.finish();
}
