//! containerd is killed and comes back.

use urunc_tests::{
    direct::Proc,
    harness::{Events, Image, SOON, Test, Version, tiny},
};

/// The guest runs on while containerd is away; afterwards it is listed with the same pid, it can be killed, and its
/// exit is told with the right status.
pub fn a_guest_outlives_containerd_and_its_exit_is_told(version: Version) {
    let Some(test) = Test::begin(version, &[Image::Tiny]) else { return };
    let containerd = test.containerd();
    let task = containerd.run_detached(Image::Tiny, "c", &tiny(&["hang"]));
    let monitor = Proc::of(task.pid);

    containerd.kill9();
    assert!(monitor.is_alive(), "the guest died with containerd");
    containerd.restart();
    assert!(monitor.is_alive(), "the guest did not outlive containerd's return");
    assert_eq!(containerd.task("c"), Some(task.clone()));
    assert_eq!(containerd.pids("c"), [task.pid]);

    let events = Events::listen(containerd, Image::Tiny);
    containerd.kill("c", "SIGTERM");
    assert!(monitor.ends_within(SOON));
    containerd.wait_for_status("c", "STOPPED");
    let exit = events.expect("c", &["/tasks/exit"]);
    assert_eq!((&exit[0].body["exit_status"], &exit[0].body["pid"]), (&143.into(), &task.pid.into()));
    drop(events);
    assert_eq!(containerd.delete("c"), 143);
    containerd.run(Image::Tiny, "c", &tiny(&["exit=2"])).expect(2);
    test.finish();
}

/// A guest that ends while containerd is away: its status is there afterwards.
pub fn an_exit_while_containerd_is_down_is_told_afterwards(version: Version) {
    let Some(test) = Test::begin(version, &[Image::Tiny]) else { return };
    let containerd = test.containerd();
    let task = containerd.run_detached(Image::Tiny, "c", &tiny(&["sleep=6000", "exit=9"]));
    let monitor = Proc::of(task.pid);

    containerd.kill9();
    assert!(monitor.is_alive(), "the guest was to run longer than that");
    assert!(monitor.ends_within(SOON));
    containerd.restart();
    containerd.wait_for_status("c", "STOPPED");
    assert_eq!(containerd.delete("c"), 9);
    containerd.run(Image::Tiny, "c", &tiny(&["exit=2"])).expect(2);
    test.finish();
}
