//! The daemon dies.

use urunc_tests::{
    direct::{Proc, eventually},
    harness::{Events, Image, SOON, Test, Version, tiny},
};

/// The guest dies with its daemon; containerd's `delete` cleans up; the id can be used again.
pub fn a_daemon_that_is_killed_takes_its_guest_with_it_and_leaves_nothing(version: Version) {
    let Some(test) = Test::begin(version, &[Image::Tiny]) else { return };
    let containerd = test.containerd();

    let events = Events::listen(containerd, Image::Tiny);
    let job = containerd.spawn(Image::Tiny, "c", &tiny(&["hang"]));
    job.wait_for("hang\n", SOON);
    let task = containerd.wait_for_status("c", "RUNNING");
    let monitor = Proc::of(task.pid);
    containerd.daemon("c").kill();
    assert!(monitor.ends_within(SOON), "the guest outlives its daemon");
    // The connection on which the client waited is gone with the daemon: what it says of that is containerd's.
    let done = job.wait(SOON);
    assert_ne!(done.status, Some(0), "{done}");
    let told = events.expect("c", &["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]);
    assert_eq!((&told[2].body["exit_status"], &told[2].body["pid"]), (&137.into(), &task.pid.into()));
    eventually("the shim's own clean-up is done", || containerd.has_forgotten("c"));
    drop(events);
    test.check();

    // Detached: nobody asks for the task again.
    let task = containerd.run_detached(Image::Tiny, "d", &tiny(&["hang"]));
    let monitor = Proc::of(task.pid);
    containerd.daemon("d").kill();
    assert!(monitor.ends_within(SOON), "the guest outlives its daemon");
    eventually("the shim's own clean-up is done", || containerd.has_forgotten("d"));
    containerd.forget("d");

    for id in ["c", "d"] {
        containerd.run(Image::Tiny, id, &tiny(&["exit=4"])).expect(4);
    }
    test.finish();
}
