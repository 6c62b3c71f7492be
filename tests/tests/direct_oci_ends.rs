//! An ordinary container's end is its own, whatever is at work or comes at that moment: a Start that takes longer than
//! the container, a SIGTERM for the daemon, a `delete`. And what is executed in it before its Start ends, too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    fs::{self, File},
    path::PathBuf,
};

use containerd_shim_protos::{api::Status, ttrpc::Code};
use rustix::process::Signal;
use serde_json::{Value, json};
use urunc_tests::direct::{
    A_WHILE, Bench, Bundle, Executed, Proc, SOON, Shim, Spec, double, eventually, hanging, hangs, hierarchies,
};

/// Hooks may take their time behind it: `poststart` is run within `start` when the program runs (of runc 1.1: within
/// `create`). And a double of such a `start`.
#[test]
fn one_that_ends_before_its_start_is_over_was_started() {
    let Some(mut bench) = Bench::released() else { return };
    let program = double(&bench, "nothing", ":");
    bench.set_variable("URUNC_OCI_RUNTIME", &program);
    let hook = json!({"poststart": [{"path": "/bin/sh", "args": ["sh", "-c", "sleep 1.5"]}]});
    for (n, (status, hooks)) in [(0, hook), (3, Value::Null)].into_iter().enumerate() {
        let id = format!("c{n}");
        if hooks.is_null() {
            double(&bench, "start", "\"$real\" \"$@\"; status=$?; sleep 1.5; exit $status");
        }
        let spec = Spec::busybox(&format!("echo said; exit {status}"));
        let spec = if hooks.is_null() { spec } else { spec.edit(|s| s["hooks"] = hooks) };
        let bundle = bench.ordinary(&id, &spec);
        let shim = bench.start(&bundle);
        let pid = shim.client.create(&bundle).unwrap();
        let waiting = shim.client.send_wait(&id);
        assert_eq!(shim.client.start(&id), Ok(pid));
        assert_eq!(waiting.wait().unwrap().exit_status, status);
        assert_eq!(bundle.output(), "said\n");
        bench.events.expect(&id, &["create", "start", "exit"]);
        assert_eq!(shim.client.delete(&id).unwrap().exit_status, status);
        shim.client.shutdown(&id);
        bench.delete(&bundle).deleted();
        bundle.remove();
    }
    bench.finish();
}

/// A container that ends with status 3 when it is told to, whoever may be able to see it.
struct Ending {
    shim: Shim,
    bundle: Bundle,
    init: Proc,
    go: PathBuf,
}

impl Ending {
    fn new(bench: &Bench, id: &str) -> Self {
        let script = "echo ready; until [ -e /tmp/go ]; do sleep 0.01; done; exit 3";
        let bundle = bench.ordinary(id, &Spec::busybox(script));
        let go = PathBuf::from(&bundle.rootfs[0].source).join("tmp/go");
        fs::remove_file(&go).ok();
        let (shim, pid) = bench.running(&bundle);
        bundle.output.as_ref().unwrap().wait_for("ready");
        Self { shim, bundle, init: Proc::of(pid.cast_signed()), go }
    }

    /// It ends while its daemon stands still.
    fn ends_unseen(&self) {
        self.shim.daemon.stop();
        File::create(&self.go).unwrap();
        // It is a zombie then, which nobody reaps.
        assert!(self.init.ends_within(SOON));
    }
}

#[test]
fn its_own_status_is_told_by_a_daemon_that_is_asked_to_end() {
    let Some(bench) = Bench::released() else { return };
    for n in 0..4 {
        let id = format!("c{n}");
        let ending = Ending::new(&bench, &id);
        ending.ends_unseen();
        ending.shim.daemon.signal(Signal::TERM);
        ending.shim.daemon.signal(Signal::CONT);
        assert!(ending.shim.daemon.ends_within(SOON));
        assert_eq!(bench.delete(&ending.bundle).deleted().exit_status, 3, "round {n}");
        assert!(!bench.run_directory(&id).exists() && !bench.is_mounted(&ending.bundle));
        ending.bundle.remove();
    }
    bench.finish();
}

#[test]
fn its_own_status_is_told_to_a_delete_of_its_id() {
    let Some(bench) = Bench::released() else { return };
    for n in 0..4 {
        let id = format!("c{n}");
        let ending = Ending::new(&bench, &id);
        ending.ends_unseen();
        let delete = bench.run_delete(&ending.bundle);
        // The more of it is done when the daemon goes on, the better; there is nothing to be seen of it.
        std::thread::sleep(A_WHILE);
        ending.shim.daemon.signal(Signal::CONT);
        assert_eq!(delete.wait().deleted().exit_status, 3, "round {n}");
        bench.events.expect(&id, &["create", "start", "exit", "delete"]);
        ending.shim.client.shutdown(&id);
        assert!(!bench.run_directory(&id).exists() && !bench.is_mounted(&ending.bundle));
        ending.bundle.remove();
    }
    bench.finish();
}

/// The same of a process that was executed in it.
#[test]
fn the_status_of_an_exec_is_its_own_when_its_container_is_deleted() {
    let Some(bench) = Bench::released() else { return };
    for n in 0..4 {
        let id = format!("c{n}");
        let bundle = bench.ordinary(&id, &Spec::busybox("exec sleep 1000"));
        let go = PathBuf::from(&bundle.rootfs[0].source).join("tmp/go");
        fs::remove_file(&go).ok();
        let (shim, _) = bench.running(&bundle);
        let script = "echo here; until [ -e /tmp/go ]; do sleep 0.01; done; exit 5";
        let exec = Executed::new(&bundle, "e1", &["/bin/sh", "-c", script]);
        let process = Proc::of(shim.client.execute(&exec).cast_signed());
        exec.output.wait_for("here");
        let waiting = shim.client.send_wait_exec(&id, "e1");
        shim.daemon.stop();
        File::create(&go).unwrap();
        assert!(process.ends_within(SOON));
        let delete = bench.run_delete(&bundle);
        std::thread::sleep(A_WHILE);
        shim.daemon.signal(Signal::CONT);
        assert_eq!(delete.wait().deleted().exit_status, 137);
        assert_eq!(waiting.within(SOON).expect("its end is told").unwrap().exit_status, 5, "round {n}");
        drop(exec);
        shim.client.shutdown(&id);
        bundle.remove();
    }
    bench.finish();
}

/// Nobody's cgroup is its own, nor is a pid namespace: what is executed in it is known, and ends with it at once.
#[test]
fn what_is_executed_ends_with_it_where_its_cgroup_was_there_before() {
    let Some(bench) = Bench::released() else { return };
    let name = format!("{}-theirs", bench.namespace);
    let theirs: Vec<_> = hierarchies().iter().map(|h| h.join(&name)).collect();
    theirs.iter().for_each(|folder| fs::create_dir(folder).unwrap());
    let spec = Spec::busybox("exec sleep 1000").edit(|spec| {
        spec["linux"]["cgroupsPath"] = format!("/{name}").into();
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|ns| ns["type"] != "pid");
    });
    let bundle = bench.ordinary("c1", &spec);
    let (shim, pid) = bench.running(&bundle);
    let exec = Executed::new(&bundle, "e1", &["/bin/sleep", "1000"]);
    let process = Proc::of(shim.client.execute(&exec).cast_signed());
    let waiting = shim.client.send_wait_exec("c1", "e1");
    Proc::of(pid.cast_signed()).kill();
    assert!(process.ends_within(SOON), "it goes on without its container");
    assert_eq!(waiting.within(SOON).expect("its end is told").unwrap().exit_status, 137);
    assert_eq!(shim.client.wait("c1"), Ok(137));
    drop(exec);
    bench.end(&shim, bundle);
    // runc removes what it was given, whosever it is.
    for folder in theirs {
        eventually("it is empty", || !folder.exists() || fs::remove_dir(&folder).is_ok());
    }
    bench.finish();
}

/// A Start that takes its time, `poststart` hooks and all, keeps nobody from being executed.
#[test]
fn processes_are_executed_beside_a_start() {
    let Some(mut bench) = Bench::released() else { return };
    let program = double(&bench, "start", "\"$real\" \"$@\"; status=$?; sleep 1; exit $status");
    bench.set_variable("URUNC_OCI_RUNTIME", &program);
    let bundle = bench.ordinary("c1", &Spec::busybox("exec sleep 1000"));
    let shim = bench.start(&bundle);
    let pid = shim.client.create(&bundle).unwrap();
    let first = Executed::new(&bundle, "e1", &["/bin/sh", "-c", "exit 4"]);
    shim.client.exec(&first).unwrap();
    let starting = shim.client.send_start("c1");
    let name = || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    eventually("its program runs", || name() == "sleep\n");
    let second = Executed::new(&bundle, "e2", &["/bin/sh", "-c", "exit 5"]);
    shim.client.exec(&second).unwrap();
    for (exec, status) in [(first, 4), (second, 5)] {
        shim.client.start_exec(&exec).unwrap();
        assert_eq!(shim.client.wait_exec(&exec), Ok(status));
        shim.client.delete_exec(&exec).unwrap();
    }
    assert_eq!(starting.wait().unwrap().pid, pid);
    bench.end(&shim, bundle);
    bench.finish();
}

/// One that is not told to end is killed by the same: the status is that of the kill.
#[test]
fn one_that_is_killed_for_it_is_told_as_killed() {
    let Some(bench) = Bench::released() else { return };
    let ending = Ending::new(&bench, "c1");
    ending.shim.daemon.signal(Signal::TERM);
    assert!(ending.shim.daemon.ends_within(SOON));
    assert!(!ending.init.is_alive());
    assert_eq!(bench.delete(&ending.bundle).deleted().exit_status, 137);
    ending.bundle.remove();
    let ending = Ending::new(&bench, "c2");
    assert_eq!(bench.delete(&ending.bundle).deleted().exit_status, 137);
    assert!(!ending.init.is_alive());
    ending.shim.client.shutdown("c2");
    ending.bundle.remove();
    bench.finish();
}

/// As runc's own shim has it: a container that is created has a first process, and room for others.
#[test]
fn processes_are_executed_in_a_container_that_is_not_started_yet() {
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.ordinary("c1", &Spec::busybox("exec sleep 1000"));
    let shim = bench.start(&bundle);
    let client = &shim.client;
    let pid = client.create(&bundle).unwrap();
    let exec = Executed::new(&bundle, "e1", &["/bin/sh", "-c", "echo here; exit 7"]);
    client.exec(&exec).unwrap();
    let waiting = client.send_wait_exec("c1", "e1");
    let execs = client.start_exec(&exec).unwrap();
    assert_eq!(waiting.within(SOON).expect("its end is told").unwrap().exit_status, 7);
    assert_eq!(exec.output.to_end(), "here\n");
    bench.events.expect("c1", &["create", "exec-added e1", "exec-started e1", "exec-exit e1"]);
    let answer = client.delete_exec(&exec).unwrap();
    assert_eq!((answer.pid, answer.exit_status), (execs, 7));
    assert_eq!(client.status("c1"), Ok(Status::CREATED));

    // On a terminal; it outlives the Start, whose program has its own first process.
    let typed = Executed::on_a_terminal(&bundle, "e2", &["/bin/sh", "-c", "tty; exec sleep 1000"]);
    client.execute(&typed);
    typed.output.wait_for("/dev/pts/");
    assert_eq!(client.start("c1"), Ok(pid));
    assert_eq!(client.status("c1"), Ok(Status::RUNNING));
    client.kill_exec(&typed, 15).unwrap();
    assert_eq!(client.wait_exec(&typed), Ok(143));
    client.delete_exec(&typed).unwrap();
    drop((exec, typed));
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn what_is_executed_in_one_that_is_never_started_ends_with_it() {
    let Some(mut bench) = Bench::released() else { return };
    // The end of the container by a Kill; by a Delete, which is allowed then; by the daemon's death.
    for how in ["kill", "delete", "die"] {
        let bundle = bench.ordinary(how, &Spec::busybox("exec sleep 1000"));
        let shim = bench.start(&bundle);
        let client = &shim.client;
        client.create(&bundle).unwrap();
        let exec = Executed::new(&bundle, "e1", &["/bin/sleep", "1000"]);
        let process = Proc::of(client.execute(&exec).cast_signed());
        let waiting = client.send_wait_exec(how, "e1");
        assert_eq!(bench.record(how).unwrap()["execs"]["e1"]["pid"], process.pid());
        match how {
            "kill" => {
                client.kill(how, 9).unwrap();
                assert_eq!(client.wait(how), Ok(137));
                assert_eq!(waiting.within(SOON).expect("its end is told").unwrap().exit_status, 137);
                eventually("the end is told", || bench.events.of(how).last().is_some_and(|e| e == "exit"));
                let events = bench.events.of(how);
                let ends = [&events[events.len() - 2], &events[events.len() - 1]];
                assert_eq!(ends, ["exec-exit e1", "exit"], "{events:?}");
                client.delete(how).unwrap();
            }
            "delete" => {
                client.delete(how).unwrap();
                assert_eq!(waiting.within(SOON).expect("its end is told").unwrap().exit_status, 137);
            }
            _ => {
                shim.daemon.kill();
                waiting.wait().unwrap_err();
            }
        }
        if how != "die" {
            client.shutdown(how);
        }
        bench.delete(&bundle).deleted();
        assert!(!process.is_alive() && bench.members(how).is_empty() && !bench.run_directory(how).exists());
        drop(exec);
        bundle.remove();
    }
    // Where the runtime itself refuses it, the container is as it was.
    bench.set_variable("URUNC_OCI_RUNTIME", &double(&bench, "exec", "exit 1"));
    let bundle = bench.ordinary("c1", &Spec::busybox("exec sleep 1000"));
    let shim = bench.start(&bundle);
    shim.client.create(&bundle).unwrap();
    let exec = Executed::new(&bundle, "e1", &["/bin/true"]);
    shim.client.exec(&exec).unwrap();
    let failure = shim.client.start_exec(&exec).unwrap_err();
    assert!(failure.message.contains("exec c1"), "{failure:?}");
    assert_ne!(failure.code, Some(Code::NOT_FOUND));
    assert_eq!(shim.client.status("c1"), Ok(Status::CREATED));
    shim.client.start("c1").unwrap();
    drop(exec);
    bench.end(&shim, bundle);
    bench.finish();
}

/// Neither the node nor the runtime has failed: somebody has asked for the end.
#[test]
fn a_create_that_is_given_up_says_so() {
    let Some(mut bench) = Bench::released() else { return };
    bench.set_variable("URUNC_OCI_RUNTIME", &double(&bench, "create", &hangs(&bench)));
    for by_delete in [true, false] {
        hangs(&bench);
        let bundle = bench.ordinary("c1", &Spec::busybox("exec sleep 1000")).without_stdio();
        let shim = bench.start(&bundle);
        let creating = shim.client.send_create(&bundle, 6 * SOON);
        let hung = hanging(&bench);
        if by_delete {
            assert_eq!(shim.client.delete("c1").unwrap_err().code, Some(Code::NOT_FOUND));
        } else {
            bench.delete(&bundle).deleted();
        }
        let failure = creating.wait().unwrap_err();
        assert_eq!(failure.code, Some(Code::ABORTED), "{failure:?}");
        assert!(hung.ends_within(SOON));
        shim.client.shutdown("c1");
        bench.delete(&bundle).deleted();
        bundle.remove();
    }
    bench.finish();
}

#[test]
fn an_exec_that_is_given_up_says_so() {
    let Some(mut bench) = Bench::released() else { return };
    bench.set_variable("URUNC_OCI_RUNTIME", &double(&bench, "exec", &hangs(&bench)));
    let bundle = bench.ordinary("c1", &Spec::busybox("exec sleep 1000")).without_stdio();
    let (shim, _) = bench.running(&bundle);
    let exec = Executed::new(&bundle, "e1", &["/bin/true"]);
    shim.client.exec(&exec).unwrap();
    let starting = shim.client.send_start_exec(&exec);
    hanging(&bench);
    shim.client.kill("c1", 9).unwrap();
    let failure = starting.within(SOON).expect("its Start is answered").unwrap_err();
    assert_eq!(failure.code, Some(Code::ABORTED), "{failure:?}");
    drop(exec);
    bench.end(&shim, bundle);
    bench.finish();
}
