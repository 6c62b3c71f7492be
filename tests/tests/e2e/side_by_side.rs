//! Two containerds on one host.

use urunc_tests::{
    direct::Proc,
    harness::{Image, Test, Version, tiny},
};

/// The same namespace and id in two containerds are two containers, although `URUNC_ROOT` and the cgroup are shared.
pub fn two_containerds_have_the_same_namespace_and_id(version: Version) {
    let Some(test) = Test::begin_with(&[version, version], &[Image::Tiny]) else { return };
    let [first, second] = test.containerds() else { panic!("there are two") };

    let one = first.run_detached(Image::Tiny, "same", &tiny(&["hang"]));
    let two = second.run_detached(Image::Tiny, "same", &tiny(&["hang"]));
    let (monitor, other) = (Proc::of(one.pid), Proc::of(two.pid));
    assert!(monitor.is_alive() && other.is_alive() && one.pid != two.pid);
    assert_ne!(first.daemon("same").pid(), second.daemon("same").pid());
    let untouched = |when: &str| {
        assert!(other.is_alive(), "{when}");
        assert_eq!(second.task("same"), Some(two.clone()), "{when}");
    };

    first.kill("same", "SIGKILL");
    first.wait_for_status("same", "STOPPED");
    untouched("the other one was killed");
    assert_eq!(first.delete("same"), 137);
    untouched("the other one was deleted");
    first.run(Image::Tiny, "same", &tiny(&["exit=3"])).expect(3);
    untouched("the other one was made again and ended");
    first.run_detached(Image::Tiny, "same", &tiny(&["hang"]));
    first.daemon("same").kill();
    first.forget("same");
    untouched("the other one's daemon was killed");

    second.end("same");
    test.finish();
}
