//! What `ctr task` tells.

use std::{fs, path::PathBuf};

use leakcheck::Kind;
use urunc_tests::{
    direct::Proc,
    harness::{Image, Test, Version, tiny},
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
