//! What `ctr task` tells.

use std::{fs, path::PathBuf};

use leakcheck::Kind;
use serde_json::Value;
use urunc_tests::{
    direct::{Proc, eventually},
    harness::{Events, Image, Test, Version, tiny},
};

/// `ls` and `ps` tell one pid, and it is the same process from Created on: first our launcher, then the monitor.
pub fn the_pid_is_alive_and_is_the_monitor(version: Version) {
    Test::with(version, &[Image::Tiny], |containerd| {
        assert_eq!(containerd.tasks(), []);

        let created = containerd.create(Image::Tiny, "created", &tiny(&["hang"]));
        assert_eq!(created.status, "CREATED");
        assert_eq!(containerd.pids("created"), [created.pid]);
        assert!(Proc::of(created.pid).is_alive());
        assert_eq!(program(created.pid), "containerd-shim-urunc-v2");

        let running = containerd.run_detached(Image::Tiny, "running", &tiny(&["hang"]));
        assert_eq!(running.status, "RUNNING");
        assert_eq!(containerd.pids("running"), [running.pid]);
        let monitor = Proc::of(running.pid);
        assert!(monitor.is_alive());
        assert_eq!(program(running.pid), "qemu-system-x86_64");
        assert_eq!(containerd.tasks().len(), 2);

        containerd.kill("running", "SIGKILL");
        let stopped = containerd.wait_for_status("running", "STOPPED");
        assert_eq!(stopped.pid, running.pid);
        assert!(!monitor.is_alive());
        assert_eq!(containerd.delete("running"), 137);
        containerd.end("created");
        assert_eq!(containerd.tasks(), []);
    });
}

/// `pause` and `resume`, with a containerd that is killed in between; and a paused guest is killed as any other.
pub fn a_paused_guest_stays_so_over_a_restart_of_containerd(version: Version) {
    let Some(test) = Test::begin(version, &[Image::Tiny]) else { return };
    let containerd = test.containerd();
    let task = containerd.run_detached(Image::Tiny, "c", &tiny(&["hang"]));
    let events = Events::listen(containerd, Image::Tiny);
    containerd.call(&["task", "pause", "c"]).expect(0);
    assert_eq!(containerd.task("c").unwrap().status, "PAUSED");
    containerd.call(&["task", "resume", "c"]).expect(0);
    assert_eq!(containerd.task("c").unwrap().status, "RUNNING");
    events.expect("c", &["/tasks/paused", "/tasks/resumed"]);
    drop(events);

    containerd.call(&["task", "pause", "c"]).expect(0);
    let again = containerd.call(&["task", "pause", "c"]);
    assert!(again.status != Some(0) && again.stderr.contains("cannot pause while paused"), "{again}");
    containerd.kill9();
    containerd.restart();
    let paused = containerd.task("c").unwrap();
    assert_eq!((paused.status.as_str(), paused.pid), ("PAUSED", task.pid));
    containerd.call(&["task", "resume", "c"]).expect(0);
    assert_eq!(containerd.task("c").unwrap().status, "RUNNING");
    containerd.call(&["task", "pause", "c"]).expect(0);
    containerd.kill("c", "SIGTERM");
    containerd.wait_for_status("c", "STOPPED");
    assert_eq!(containerd.delete("c"), 143);
    test.finish();
}

/// `metrics` reads what the shim measures, in each state.
pub fn metrics_are_there_from_created_to_the_end(version: Version) {
    Test::with(version, &[Image::Tiny], |containerd| {
        // By the names of v1 and of v2.
        let of = |id: &str| {
            let text = containerd.call(&["task", "metrics", "--format", "json", id]).expect(0).text();
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
            let number = |v1: &str, v2: &str| {
                let found = value.pointer(v1).or(value.pointer(v2));
                found.and_then(Value::as_u64).unwrap_or_else(|| panic!("neither {v1} nor {v2}: {text}"))
            };
            (number("/cpu/usage/total", "/cpu/usage_usec"), number("/memory/usage/usage", "/memory/usage"))
        };
        containerd.create(Image::Tiny, "created", &tiny(&["hang"]));
        assert!(of("created").0 > 0, "the launcher was at work");
        containerd.end("created");
        containerd.run_detached(Image::Tiny, "c", &tiny(&["fill", "hang"]));
        eventually("the guest fills its memory", || of("c").1 > 200 << 20);
        let running = of("c");
        containerd.kill("c", "SIGKILL");
        containerd.wait_for_status("c", "STOPPED");
        assert!(of("c").0 >= running.0, "they stay until it is deleted");
        assert_eq!(containerd.delete("c"), 137);
    });
}

/// Neither hangs, neither says that there is no such container, and the guest runs on.
pub fn exec_and_checkpoint_are_refused_at_once_with_a_sentence(version: Version) {
    Test::with(version, &[Image::Tiny], |containerd| {
        containerd.run_detached(Image::Tiny, "c", &tiny(&["hang"]));
        let refused: [(&[&str], &str); 2] = [
            (&["task", "exec", "--exec-id", "e1", "c", "ls"], "is a guest: what runs there"),
            (&["task", "checkpoint", "c"], "the state of a guest is its monitor's memory"),
        ];
        for (args, sentence) in refused {
            let done = containerd.call(args);
            assert!(done.status != Some(0) && done.stderr.contains(sentence), "{args:?}: {done}");
            assert!(!done.stderr.contains("not found"), "{args:?}: {done}");
            // A client pauses before it asks for a checkpoint, and resumes.
            containerd.wait_for_status("c", "RUNNING");
        }
        containerd.end("c");
    });
}

/// What every test ends with is not blind: it sees all that a container has while it runs, and nothing afterwards.
pub fn the_leak_check_sees_a_container_that_runs(version: Version) {
    let Some(test) = Test::begin(version, &[Image::Tiny]) else { return };
    test.check();
    test.containerd().run_detached(Image::Tiny, "c", &tiny(&["hang"]));
    let seen = test.look();
    // The daemon and the monitor; the socket; the record; the kernel in the monitor's private root; cgroups.
    for (kind, at_least) in
        [(Kind::Process, 2), (Kind::UnixSocket, 1), (Kind::File, 3), (Kind::Mount, 1), (Kind::Cgroup, 3)]
    {
        assert!(seen.of(kind).count() >= at_least, "{kind:?}:\n{seen}");
    }
    test.containerd().end("c");
    test.finish();
}

/// The name of the program of a process.
fn program(pid: i32) -> String {
    let path: PathBuf = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    path.file_name().unwrap().to_string_lossy().into_owned()
}
