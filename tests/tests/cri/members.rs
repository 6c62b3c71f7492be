//! Several guests in one pod.

use std::{fs, thread, time::Duration};

use urunc_tests::{
    direct::eventually,
    harness::{BOOT, Container, Image, Node, Pod, SOON, Setup, Version},
};

const GRACE: Duration = Duration::from_secs(5);

fn hang(name: &str) -> Container {
    Container::new(name, Image::Tiny, &["tiny", "hang"])
}

/// They are served by one daemon, come and go in any order, and do not meet.
pub fn guests_of_a_pod_come_and_go_in_any_order(version: Version) {
    Node::with(version, &Setup::of(&[Image::Tiny]), |node| {
        let pod = node.runp(&Pod::new("two"));
        let daemon = node.daemon(&pod).pid();
        let sandbox = node.sandbox(&pod);
        for first_goes_first in [true, false] {
            let members = [node.run(&pod, &hang("a")), node.run(&pod, &hang("b"))];
            for member in &members {
                node.wait_for(member, "hang\n", SOON);
            }
            assert_eq!(node.daemons().iter().map(|d| d.pid()).collect::<Vec<_>>(), [daemon]);
            let monitors = members.each_ref().map(|member| node.member(member));
            let (gone, left) = if first_goes_first { (0, 1) } else { (1, 0) };
            node.stop(&members[gone], GRACE);
            node.rm(&members[gone]);
            assert!(!monitors[gone].is_alive() && monitors[left].is_alive());
            assert_eq!(node.state(&members[left]), "CONTAINER_RUNNING");

            // One is made while another is deleted.
            let third = thread::scope(|scope| {
                let third = scope.spawn(|| node.run(&pod, &hang("c")));
                node.rm_force(&members[left]);
                third.join().unwrap()
            });
            node.wait_for(&third, "hang\n", SOON);
            assert!(sandbox.is_alive(), "the pod lives on");
            node.rm_force(&third);
        }
        node.stopp(&pod);
        assert!(!sandbox.is_alive());
        node.rmp(&pod);
        eventually("the daemon leaves with its pod", || node.daemons().is_empty());
    });
}

/// The second guest of a pod has no network, says so itself, and the shim's log says why.
pub fn the_second_guest_has_no_network(version: Version) {
    Node::with(version, &Setup::of(&[Image::Debian]), |node| {
        let pod = node.runp(&Pod::new("second"));
        let command = ["/init", "sh", "-c", "ls -1 /sys/class/net; sleep 1000"];
        let members = ["a", "b"].map(|name| node.run(&pod, &Container::new(name, Image::Debian, &command)));
        for member in &members {
            node.wait_for(member, "\nlo\n", BOOT);
        }
        assert!(members[0].text().contains("\neth0\n"), "{}", members[0].text());
        assert!(!members[1].text().contains("eth0"), "{}", members[1].text());
        let log = fs::read_to_string(node.containerd().log()).unwrap();
        let said = |id: &str| log.lines().any(|l| l.contains(id) && l.contains("the guest has no network"));
        assert!(!said(&members[0].id) && said(&members[1].id));
        node.rmp_force(&pod);
    });
}

/// The sandbox goes first, by a client that asks for nothing else; the guests go with it.
pub fn a_pod_that_is_stopped_first_takes_its_guests_with_it(version: Version) {
    Node::with(version, &Setup::of(&[Image::Tiny]), |node| {
        for killed in [false, true] {
            let pod = node.runp(&Pod::new("first"));
            let members = ["a", "b"].map(|name| node.run(&pod, &hang(name)));
            let monitors = members.each_ref().map(|member| node.member(member));
            if killed {
                // Nobody asked for that: the sandbox's process is gone, its guests are not harmed by it.
                node.sandbox(&pod).kill();
                eventually("the pod is not ready", || node.pod_state(&pod) == "SANDBOX_NOTREADY");
            }
            node.stopp(&pod);
            for (member, monitor) in members.iter().zip(&monitors) {
                assert!(!monitor.is_alive());
                assert!([137, 143].contains(&node.wait_for_exit(member).code));
            }
            node.rmp(&pod);
            node.check();
        }
    });
}
