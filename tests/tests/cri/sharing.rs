//! Ordinary containers that share a pid namespace: with their pod, or with a target.

use std::{fs, time::Duration};

use urunc_tests::{
    direct::Proc,
    harness::{Container, Image, Member, Node, Pod, SOON, Setup, Share, Version},
};

const SLEEPS: &str = "sleep 12345 & echo ready; wait";
/// Says when it sees the sleep of another container.
const LOOKS: &str =
    "until grep -lq 12345 /proc/[0-9]*/cmdline 2>/dev/null; do sleep 0.1; done; echo seen $$; sleep 1000";

fn busybox(name: &str, script: &str) -> Container {
    Container::new(name, Image::Busybox, &["sh", "-c", script])
}

fn pid_namespace(process: &Proc) -> std::path::PathBuf {
    fs::read_link(format!("/proc/{}/ns/pid", process.pid())).unwrap()
}

/// A debug container is in the pid namespace of its target, and of no other; it ends without harm, and with its target.
pub fn a_debug_container_sees_its_targets_processes(version: Version) {
    Node::with(version, &Setup::of(&[Image::Busybox]), |node| {
        let pod = node.runp(&Pod::new("debug"));
        let target = node.run(&pod, &busybox("target", SLEEPS));
        let other = node.run(&pod, &busybox("other", "echo ready; sleep 1000"));
        for member in [&target, &other] {
            node.wait_for(member, "ready\n", SOON);
        }
        let debug = busybox("debug", &LOOKS.replace("12345", "12[3]45")).beside(&target);
        let first = node.run(&pod, &debug);
        node.wait_for(&first, "seen ", SOON);
        assert!(!first.text().contains("seen 1\n"), "{}", first.text());
        let of = |member: &Member| pid_namespace(&node.member(member));
        assert!(of(&first) == of(&target) && of(&first) != of(&other));
        node.rm_force(&first);
        assert_eq!((node.state(&target), node.state(&other)), (running(), running()));

        let again = node.run(&pod, &debug.attempt(1));
        node.wait_for(&again, "seen ", SOON);
        node.stop(&target, Duration::ZERO);
        assert_eq!(node.wait_for_exit(&again).code, 137);
        assert_eq!(node.state(&other), running());
        node.stopp(&pod);
        node.rmp(&pod);
    });
}

/// All of a pod see each other; what one of them leaves behind is reaped by the sandbox, their first process.
pub fn a_shared_pid_namespace_is_the_pods(version: Version) {
    const ORPHAN: &str = "orphan=$(sh -c 'sleep 1000 >/dev/null & echo $!'); \
        grep PPid /proc/$orphan/status; kill $orphan; while [ -d /proc/$orphan ]; do sleep 0.1; done; echo reaped; sleep 1000";
    Node::with(version, &Setup::of(&[Image::Busybox]), |node| {
        let pod = node.runp(&Pod::new("shared").pid(Share::Pod));
        let sleeps = node.run(&pod, &busybox("sleeps", SLEEPS));
        let looks = node.run(&pod, &busybox("looks", &LOOKS.replace("12345", "12[3]45")));
        node.wait_for(&looks, "seen ", SOON);
        let sandbox = node.sandbox(&pod);
        for member in [&sleeps, &looks] {
            assert_eq!(pid_namespace(&node.member(member)), pid_namespace(&sandbox));
        }
        let leaves = node.run(&pod, &busybox("leaves", ORPHAN));
        node.wait_for(&leaves, "PPid:\t1\nreaped\n", SOON);
        // What is left of a container goes with it.
        node.stop(&sleeps, Duration::ZERO);
        let gone = "! grep -lq 12[3]45 /proc/[0-9]*/cmdline 2>/dev/null";
        node.call(&["exec", "-s", &looks.id, "sh", "-c", gone]).expect(0);
        node.stopp(&pod);
        node.rmp(&pod);
    });
}

fn running() -> String {
    "CONTAINER_RUNNING".to_owned()
}
