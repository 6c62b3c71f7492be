//! The daemon is the sub-reaper of its ordinary containers: it reaps what they leave to it. And what the daemon itself
//! leaves when it dies, others end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{fs, path::Path, process::Command};

use containerd_shim_protos::api::Status;
use urunc_tests::direct::{Bench, Executed, Proc, Spec, eventually, eventually_some, hierarchies, urunc};

/// It leaves two processes to whoever reaps for it, and runs on.
const LEAVES_TWO: &str = "(sleep 1000 &); (sleep 1001 &); exec sleep 1002";

/// In the pid namespace of the host.
fn without_pids(spec: Spec) -> Spec {
    spec.edit(|s| {
        s["linux"]["namespaces"].as_array_mut().unwrap().retain(|ns| ns["type"] != "pid");
    })
}

/// The parent and the state of a process; `None`: it is gone for good.
fn stat(pid: i32) -> Option<(i32, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.to_owned();
    Some((fields.next()?.parse().ok()?, state))
}

/// The children of a process, and whether each is a zombie.
fn children(of: &Proc) -> Vec<(i32, bool)> {
    let threads = fs::read_dir(format!("/proc/{}/task", of.pid())).unwrap().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let pids: Vec<i32> = lists
        .flat_map(|list| list.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    pids.into_iter().filter_map(|pid| Some((pid, stat(pid)?.1 == "Z"))).collect()
}

#[test]
fn what_a_container_leaves_to_the_daemon_is_reaped() {
    let Some(bench) = Bench::released() else { return };
    let sandbox = bench.bundle("pod", &Spec::sandbox()).without_stdio();
    let (shim, pod) = bench.running(&sandbox);
    let daemon = shim.daemon.pid();
    let member = |id: &str, spec: Spec| bench.ordinary(id, &spec.member_of("pod", pod)).without_stdio();
    let beside = member("beside", Spec::busybox("exec sleep 1000"));
    let bundle =
        bench.ordinary("one", &without_pids(Spec::busybox(LEAVES_TWO).member_of("pod", pod))).without_stdio();
    let mut inits = Vec::new();
    for bundle in [&beside, &bundle] {
        bench.start(bundle);
        inits.push(shim.client.create(bundle).unwrap().cast_signed());
        shim.client.start(&bundle.id).unwrap();
    }
    let exec = Executed::new(&beside, "e1", &["/bin/sleep", "1000"]);
    let execs = shim.client.execute(&exec).cast_signed();

    let left = || {
        let mut members = bench.members("one");
        members.retain(|m| m.pid() != inits[1] && stat(m.pid()).is_some_and(|(parent, _)| parent == daemon));
        members
    };
    eventually("two are left to the daemon", || left().len() == 2);
    let left = left();
    let known = |pid: i32| left.iter().any(|m| m.pid() == pid);
    assert_eq!(children(&shim.daemon).iter().filter(|(pid, _)| known(*pid)).count(), 2);
    let reaped = |who: &Proc| {
        eventually("it is reaped", || stat(who.pid()).is_none());
        eventually("the daemon has no zombie", || children(&shim.daemon).iter().all(|(_, zombie)| !zombie));
    };
    left[0].kill();
    reaped(&left[0]);
    // Nobody else was: not the container, not the other one, nor what is executed there.
    assert!(left[1].is_alive());
    for pid in [inits[0], inits[1], execs] {
        assert!(Proc::of(pid).is_alive());
        assert_eq!(stat(pid).map(|(parent, _)| parent), Some(daemon));
    }
    for id in ["beside", "one"] {
        assert_eq!(shim.client.status(id), Ok(Status::RUNNING));
    }
    // What is executed and leaves somebody: the same.
    let leaves = Executed::new(&bundle, "e2", &["/bin/sh", "-c", "(sleep 1000 >/dev/null 2>&1 &); exit 3"]);
    shim.client.execute(&leaves);
    assert_eq!(shim.client.wait_exec(&leaves), Ok(3));
    shim.client.delete_exec(&leaves).unwrap();
    drop(leaves);
    let sleeps = bench.members("one").into_iter().find(|m| m.pid() != inits[1] && !known(m.pid())).unwrap();
    eventually("it is left to the daemon", || stat(sleeps.pid()).is_some_and(|(parent, _)| parent == daemon));
    sleeps.kill();
    reaped(&sleeps);

    // The container's own end takes the last one along; their statuses are their own.
    shim.client.kill("one", 15).unwrap();
    assert_eq!(shim.client.wait("one"), Ok(143));
    assert!(!left[1].is_alive());
    reaped(&left[1]);
    shim.client.kill_exec(&exec, 15).unwrap();
    assert_eq!(shim.client.wait_exec(&exec), Ok(143));
    shim.client.delete_exec(&exec).unwrap();
    drop(exec);
    for bundle in [bundle, beside] {
        bench.end(&shim, bundle);
    }
    eventually("the daemon has no zombie", || children(&shim.daemon).iter().all(|(_, zombie)| !zombie));
    bench.end(&shim, sandbox);
    bench.finish();
}

#[test]
fn a_dead_daemons_container_is_ended_by_the_operators_gc_and_by_delete() {
    let Some(bench) = Bench::released() else { return };
    // That one's daemon sweeps once, and may be faster than the `gc` here: that is over when this one is a tombstone.
    let swept = bench.orphaned("swept").0;
    let beside = bench.ordinary("beside", &Spec::busybox("exec sleep 1000")).without_stdio();
    let (others, _) = bench.running(&beside);
    eventually("the sweep", || bench.record("swept").is_some_and(|r| r["tombstone"] == true));
    bench.delete(&swept).deleted();
    swept.remove();
    for (own_pids, by_gc) in [(true, true), (false, true), (false, false)] {
        let mut spec = Spec::busybox(LEAVES_TWO);
        if !own_pids {
            spec = without_pids(spec);
        }
        let bundle = bench.ordinary("c1", &spec).without_stdio();
        let (shim, _) = bench.running(&bundle);
        let exec = Executed::new(&bundle, "e1", &["/bin/sleep", "1003"]);
        shim.client.execute(&exec);
        // And no shell any more.
        let members = eventually_some("all are there", || {
            Some(bench.members("c1")).filter(|all| all.len() == 4 && all.iter().all(|m| m.comm() == "sleep"))
        });
        shim.daemon.kill();
        assert!(members.iter().all(Proc::is_alive), "they do not die with the daemon");
        if by_gc {
            let gc = || {
                let gc =
                    Command::new(urunc()).args(["gc", "--json", "--root"]).arg(&bench.root).output().unwrap();
                let said = String::from_utf8_lossy(&gc.stdout).into_owned();
                assert_eq!(
                    (gc.status.code(), String::from_utf8_lossy(&gc.stderr).as_ref()),
                    (Some(0), ""),
                    "{said}"
                );
                said
            };
            let said = gc();
            assert!(
                said.contains(&format!("{}/c1", bench.namespace)) && said.contains("cleaned up"),
                "{said}"
            );
            assert!(!said.contains("beside"), "{said}");
            assert!(members.iter().all(|m| !m.is_alive()));
            assert!(!bench.is_mounted(&bundle));
            let said = gc();
            assert!(!said.contains("cleaned up"), "there was something left: {said}");
        }
        assert_eq!(bench.delete(&bundle).deleted().exit_status, 137);
        assert!(members.iter().all(|m| !m.is_alive()));
        assert!(!bench.is_mounted(&bundle) && !bench.run_directory("c1").exists());
        let cgroup = |h: &Path| h.join(&bench.namespace).join("c1").exists();
        assert!(!hierarchies().iter().any(|h| cgroup(h)), "its cgroup is left");
        drop(exec);
        bundle.remove();
        assert_eq!(others.client.status("beside"), Ok(Status::RUNNING));
    }
    bench.end(&others, beside);
    bench.finish();
}
