//! The OCI runtime is killed in the middle of each of its verbs, where it stands still for it. Nothing of the container
//! stays, and others do not notice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{fs, path::PathBuf, time::Instant};

use containerd_shim_protos::api::Status;
use rustix::process::Signal;
use serde_json::json;
use urunc_tests::direct::{
    Bench, Bundle, Executed, Proc, SOON, Shim, Spec, double, eventually, hierarchies, killed_when,
    was_reached,
};

const SLEEPS: &[&str] = &["/bin/sleep", "1000"];

/// A stranger's container: given to the real runtime by another daemon.
struct Beside {
    shim: Shim,
    bundle: Bundle,
    members: Vec<Proc>,
}

impl Beside {
    fn new(bench: &Bench) -> Self {
        let bundle = bench.ordinary("beside", &Spec::ordinary(SLEEPS)).without_stdio();
        let (shim, _) = bench.running(&bundle);
        let members = bench.members("beside");
        assert_eq!(members.len(), 1);
        Self { shim, bundle, members }
    }

    /// It runs on as it did, and ends.
    #[track_caller]
    fn end(self, bench: &Bench) {
        let Self { shim, bundle, members } = self;
        assert!(members.iter().all(Proc::is_alive), "a stranger's container was touched");
        assert_eq!(shim.client.status("beside"), Ok(Status::RUNNING));
        executes(&shim, &bundle, "seen");
        bench.end(&shim, bundle);
    }
}

/// A process can be executed in it.
#[track_caller]
fn executes(shim: &Shim, bundle: &Bundle, name: &str) {
    let exec = Executed::new(bundle, name, &["/bin/echo", "here"]);
    shim.client.execute(&exec);
    assert_eq!(shim.client.wait_exec(&exec), Ok(0));
    assert_eq!(exec.output.to_end(), "here\n");
    shim.client.delete_exec(&exec).unwrap();
}

/// A hook that says that it is reached, and waits for the runtime's end.
fn hook(bench: &Bench) -> (serde_json::Value, String) {
    let reached = bench.scratch().join("hook");
    fs::remove_file(&reached).ok();
    let script = format!("echo >{}; while [ -d /proc/$PPID ]; do sleep 0.02; done", reached.display());
    (json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]), format!("[ -e {} ]", reached.display()))
}

/// Nothing of it is there: no process, no cgroup, no mount, no state, no run directory.
#[track_caller]
fn is_gone(bench: &Bench, bundle: &Bundle, cgroups: &[PathBuf]) {
    assert!(bench.members(&bundle.id).is_empty(), "processes are left");
    assert!(cgroups.iter().all(|path| !path.exists()), "cgroups are left");
    assert!(!bench.is_mounted(bundle), "its root file system is mounted");
    assert!(!bench.run_directory(&bundle.id).exists(), "its run directory is left");
}

/// The folders of its cgroup in each hierarchy.
fn cgroups(bench: &Bench, id: &str) -> Vec<PathBuf> {
    hierarchies().into_iter().map(|h| h.join(&bench.namespace).join(id)).collect()
}

#[test]
fn in_the_middle_of_create() {
    let Some(mut bench) = Bench::released() else { return };
    let beside = Beside::new(&bench);
    // Its init is there, before and in the container's root file system.
    for place in ["prestart", "createRuntime", "createContainer"] {
        let (hook, condition) = hook(&bench);
        let script = killed_when(&bench, &condition);
        bench.set_variable("URUNC_OCI_RUNTIME", &double(&bench, "create", &script));
        let spec = Spec::ordinary(SLEEPS).edit(|s| s["hooks"] = json!({place: hook}));
        let bundle = bench.ordinary("c1", &spec).without_stdio();
        let shim = bench.start(&bundle);
        let failure = shim.client.create(&bundle).unwrap_err();
        assert!(was_reached(&bench), "{place}: {failure:?}");
        assert!(failure.message.contains("create c1"), "{failure:?}");
        is_gone(&bench, &bundle, &cgroups(&bench, "c1"));
        shim.client.shutdown("c1");
        bench.delete(&bundle).deleted();
        bundle.remove();
    }
    beside.end(&bench);
    bench.finish();
}

/// And the daemon dies with it: whoever comes has the record, and the cgroup.
#[test]
fn in_the_middle_of_create_and_the_daemon_as_well() {
    let Some(mut bench) = Bench::released() else { return };
    let beside = Beside::new(&bench);
    let (hook, condition) = hook(&bench);
    let reached = condition.trim_start_matches("[ -e ").trim_end_matches(" ]").to_owned();
    bench.set_variable("URUNC_OCI_RUNTIME", &double(&bench, "nothing", ":"));
    let spec = Spec::ordinary(SLEEPS).edit(|s| s["hooks"] = json!({"createRuntime": hook}));
    let bundle = bench.ordinary("c1", &spec).without_stdio();
    let shim = bench.start(&bundle);
    let create = shim.client.send_create(&bundle, SOON);
    eventually("the hook is reached", || PathBuf::from(&reached).exists());
    let members = bench.members("c1");
    assert!(!members.is_empty());
    shim.daemon.kill();
    create.wait().unwrap_err();
    bench.delete(&bundle).deleted();
    assert!(members.iter().all(|m| !m.is_alive()));
    assert!(cgroups(&bench, "c1").iter().all(|path| !path.exists()) && !bench.is_mounted(&bundle));
    bundle.remove();
    beside.end(&bench);
    bench.finish();
}

/// Its init stands still, so that the runtime waits for it for ever.
#[test]
fn in_the_middle_of_start() {
    let Some(mut bench) = Bench::released() else { return };
    let beside = Beside::new(&bench);
    for again in [false, true] {
        let script = killed_when(&bench, "sleep 0.2");
        bench.set_variable("URUNC_OCI_RUNTIME", &double(&bench, "start", &script));
        let bundle = bench.ordinary("c1", &Spec::ordinary(SLEEPS)).without_stdio();
        let shim = bench.start(&bundle);
        let pid = shim.client.create(&bundle).unwrap();
        let init = Proc::of(pid.cast_signed());
        init.stop();
        let failure = shim.client.start("c1").unwrap_err();
        assert!(was_reached(&bench), "{failure:?}");
        assert!(failure.message.contains("start c1"), "{failure:?}");
        assert_eq!(shim.client.status("c1"), Ok(Status::CREATED), "its program has not begun");
        if again {
            init.signal(Signal::CONT);
            double(&bench, "nothing", ":");
            assert_eq!(shim.client.start("c1"), Ok(pid));
            executes(&shim, &bundle, "e1");
            shim.client.kill("c1", 9).unwrap();
            assert_eq!(shim.client.wait("c1"), Ok(137));
        }
        let cgroups = cgroups(&bench, "c1");
        shim.client.delete("c1").unwrap();
        assert!(!init.is_alive());
        is_gone(&bench, &bundle, &cgroups);
        shim.client.shutdown("c1");
        bench.delete(&bundle).deleted();
        bundle.remove();
    }
    beside.end(&bench);
    bench.finish();
}

/// What is to become the process is made, outside of the container's cgroup and in it.
#[test]
fn in_the_middle_of_exec() {
    let Some(mut bench) = Bench::released() else { return };
    let beside = Beside::new(&bench);
    for own_pids in [true, false] {
        let spec = Spec::ordinary(SLEEPS).edit(|s| {
            if !own_pids {
                s["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "network"}]);
            }
        });
        bench.set_variable("URUNC_OCI_RUNTIME", &double(&bench, "nothing", ":"));
        let bundle = bench.ordinary("c1", &spec).without_stdio();
        let (shim, _) = bench.running(&bundle);
        let mut procs = cgroups(&bench, "c1").into_iter().map(|path| path.join("cgroup.procs"));
        let procs = procs.rfind(|path| fs::read_to_string(path).is_ok_and(|list| !list.is_empty())).unwrap();
        // Nothing is spawned for the look: it is a matter of milliseconds.
        let made = "{ for f in /proc/$child/task/*/children; do read -r made <$f; [ \"$made\" ] && break; done; } \
                    2>/dev/null";
        let joined = format!(
            "{{ mapfile -t all <{}; had=${{had:-${{#all[@]}}}}; [ ${{#all[@]}} -gt $had ]; }}",
            procs.display()
        );
        for (n, condition) in [made, &joined, made, &joined].into_iter().enumerate() {
            // A double that stood still itself has seen it too late, and that is no such case.
            let until = Instant::now() + 3 * SOON;
            let reached = (0..).take_while(|_| Instant::now() < until).any(|time| {
                double(&bench, "exec", &killed_when(&bench, condition));
                let exec = Executed::new(&bundle, &format!("e{n}-{time}"), SLEEPS);
                shim.client.exec(&exec).unwrap();
                let failure = shim.client.start_exec(&exec).unwrap_err();
                assert!(failure.message.contains("exec c1"), "{failure:?}");
                shim.client.delete_exec(&exec).unwrap();
                was_reached(&bench)
            });
            assert!(reached, "not once was it seen: {condition}");
            double(&bench, "nothing", ":");
            assert_eq!(shim.client.status("c1"), Ok(Status::RUNNING));
            executes(&shim, &bundle, &format!("after-{n}"));
        }
        let cgroups = cgroups(&bench, "c1");
        shim.client.kill("c1", 9).unwrap();
        assert_eq!(shim.client.wait("c1"), Ok(137));
        shim.client.delete("c1").unwrap();
        is_gone(&bench, &bundle, &cgroups);
        shim.client.shutdown("c1");
        bench.delete(&bundle).deleted();
        bundle.remove();
    }
    beside.end(&bench);
    bench.finish();
}

/// The runtime has forgotten the container, and its last hook is at work.
#[test]
fn in_the_middle_of_delete() {
    let Some(mut bench) = Bench::released() else { return };
    let beside = Beside::new(&bench);
    for how in ["Delete", "delete"] {
        let (hook, condition) = hook(&bench);
        let script = killed_when(&bench, &condition);
        bench.set_variable("URUNC_OCI_RUNTIME", &double(&bench, "delete", &script));
        let spec = Spec::ordinary(SLEEPS).edit(|s| s["hooks"] = json!({"poststop": hook}));
        let bundle = bench.ordinary("c1", &spec).without_stdio();
        let (shim, _) = bench.running(&bundle);
        let (members, cgroups) = (bench.members("c1"), cgroups(&bench, "c1"));
        if how == "Delete" {
            shim.client.kill("c1", 9).unwrap();
            assert_eq!(shim.client.wait("c1"), Ok(137));
            shim.client.delete("c1").unwrap();
            assert!(was_reached(&bench));
            is_gone(&bench, &bundle, &cgroups);
            shim.client.shutdown("c1");
            bench.delete(&bundle).deleted();
        } else {
            shim.daemon.kill();
            assert_eq!(bench.delete(&bundle).deleted().exit_status, 137);
            assert!(was_reached(&bench));
            is_gone(&bench, &bundle, &cgroups);
        }
        assert!(members.iter().all(|m| !m.is_alive()));
        bundle.remove();
    }
    beside.end(&bench);
    bench.finish();
}

/// The runtime is killed when the process is there, with its pid written or not yet: nobody gets to know of it, so it
/// must not run.
#[test]
fn a_process_whose_exec_has_failed_does_not_run() {
    let Some(mut bench) = Bench::released() else { return };
    let unnamed = "args=(); for a in \"$@\"; do [ \"$skip\" ] && { skip=; continue; }; \
                   [ \"$a\" = --pid-file ] && { skip=1; continue; }; args+=(\"$a\"); done; \
                   \"$real\" \"${args[@]}\"; kill -9 $$";
    for script in ["\"$real\" \"$@\"; kill -9 $$", "\"$real\" \"$@\"; exit 1", unnamed] {
        bench.set_variable("URUNC_OCI_RUNTIME", &double(&bench, "exec", script));
        let bundle = bench.ordinary("c1", &Spec::ordinary(SLEEPS)).without_stdio();
        let (shim, pid) = bench.running(&bundle);
        let exec = Executed::new(&bundle, "e1", SLEEPS);
        shim.client.exec(&exec).unwrap();
        shim.client.start_exec(&exec).unwrap_err();
        let alone = || bench.members("c1").iter().map(Proc::pid).eq([pid.cast_signed()]);
        eventually(&format!("nothing of it is in the container ({script})"), alone);
        shim.client.delete_exec(&exec).unwrap();
        drop(exec);
        bench.end(&shim, bundle);
    }
    bench.finish();
}

/// Who is looked for is none of those that have a right to be there: what was executed at the same time, and what others
/// have left behind.
#[test]
fn of_many_execs_only_those_that_fail_are_ended() {
    let Some(mut bench) = Bench::released() else { return };
    for own_pids in [true, false] {
        bench.set_variable("URUNC_OCI_RUNTIME", &double(&bench, "nothing", ":"));
        let mut spec = Spec::busybox("(sleep 1000 &); exec sleep 1000");
        if !own_pids {
            spec.json["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "network"}]);
        }
        let bundle = bench.ordinary("c1", &spec).without_stdio();
        let (shim, _) = bench.running(&bundle);
        // It leaves one, too.
        shim.client
            .exec_without_stdio("c1", "leaves", &["/bin/sh", "-c", "(sleep 1000 &); exec sleep 1000"])
            .unwrap();
        shim.client.send_start_of("c1", "leaves").wait().unwrap();
        eventually("all are there", || {
            bench.members("c1").iter().filter(|m| m.comm() == "sleep").count() == 4
        });
        let before = bench.members("c1");

        // Every other one comes to its end, and fails.
        let turn = bench.scratch().join("turn").display().to_string();
        let script =
            format!("if mkdir {turn} 2>/dev/null; then \"$real\" \"$@\"; kill -9 $$; else rmdir {turn}; fi");
        double(&bench, "exec", &script);
        let names: Vec<_> = (0..8).map(|n| format!("e{n}")).collect();
        for name in &names {
            shim.client.exec_without_stdio("c1", name, SLEEPS).unwrap();
        }
        let starts: Vec<_> = names.iter().map(|name| shim.client.send_start_of("c1", name)).collect();
        let mut started: Vec<_> =
            starts.into_iter().filter_map(|s| s.wait().ok()).map(|s| s.pid.cast_signed()).collect();
        assert!((1..8).contains(&started.len()), "{started:?}");
        if own_pids {
            let expected = before.len() + started.len();
            eventually("those that failed are ended", || bench.members("c1").len() == expected);
        }
        // Whoever was there, and whoever was executed, is.
        started.extend(before.iter().map(Proc::pid));
        let now: Vec<_> = bench.members("c1").iter().map(Proc::pid).collect();
        assert!(started.iter().all(|pid| now.contains(pid)), "{started:?} {now:?}");
        bench.end(&shim, bundle);
    }
    bench.finish();
}
