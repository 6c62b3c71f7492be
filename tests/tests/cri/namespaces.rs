//! Pods that share more, or less, than usual.

use std::fs;

use urunc_tests::{
    direct::Proc,
    harness::{BOOT, Container, Image, Node, Pod, SOON, Scene, Setup, Share, Version},
};

fn namespace(process: &Proc, kind: &str) -> String {
    fs::read_link(format!("/proc/{}/ns/{kind}", process.pid())).unwrap().to_string_lossy().into_owned()
}

fn own(kind: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_string_lossy().into_owned()
}

/// One pid namespace for all, whose first process is the sandbox: it reaps. One for each. The host's.
pub fn pid_namespaces_are_the_pods_or_the_containers_own_or_the_hosts(version: Version) {
    Node::with(version, &Setup::of(&[Image::Tiny]), |node| {
        let hang = Container::new("hang", Image::Tiny, &["tiny", "hang"]);
        for share in [Share::Pod, Share::Own, Share::Node] {
            let pod = node.runp(&Pod::new("pids").pid(share));
            let sandbox = node.sandbox(&pod);
            let member = node.run(&pod, &hang);
            node.wait_for(&member, "hang\n", SOON);
            let monitor = node.member(&member);
            let [of_pod, of_member] = [&sandbox, &monitor].map(|p| namespace(p, "pid"));
            match share {
                Share::Pod => {
                    assert!(of_pod == of_member && of_pod != own("pid"));
                    let status = fs::read_to_string(format!("/proc/{}/status", sandbox.pid())).unwrap();
                    let inside = status.lines().find(|l| l.starts_with("NSpid:")).unwrap();
                    assert!(inside.ends_with("\t1"), "the sandbox is not the first process: {inside}");
                }
                Share::Own => assert!(of_member != own("pid") && of_member != of_pod),
                Share::Node => assert_eq!((of_pod, of_member), (own("pid"), own("pid"))),
            }
            assert_eq!(namespace(&sandbox, "net"), namespace(&monitor, "net"));
            assert_ne!(namespace(&sandbox, "net"), own("net"));
            // Its end is told whoever reaps it.
            monitor.kill();
            assert_eq!(node.wait_for_exit(&member).code, 137);
            node.rm(&member);
            assert!(sandbox.is_alive());
            node.stopp(&pod);
            node.rmp(&pod);
            node.check();
        }
    });
}

/// In the host's network the guest runs without one, and nothing of the host's is touched.
pub fn a_pod_in_the_hosts_network_touches_nothing_of_it(version: Version) {
    Node::with(version, &Setup::of(&[Image::Debian]), |node| {
        let before = Scene::host();
        let pod = node.runp(&Pod::new("host").network(Share::Node));
        assert_eq!(namespace(&node.sandbox(&pod), "net"), own("net"));
        let command = ["/init", "sh", "-c", "ls -1 /sys/class/net; sleep 1000"];
        let member = node.run(&pod, &Container::new("guest", Image::Debian, &command));
        node.wait_for(&member, "\nlo\n", BOOT);
        assert!(!member.text().contains("eth0"), "{}", member.text());
        assert_eq!(Scene::host(), before);
        let log = fs::read_to_string(node.containerd().log()).unwrap();
        let said = |line: &str| line.contains(&member.id) && line.contains("the guest has no network");
        assert!(log.lines().any(said), "the log does not say so");
        node.rmp_force(&pod);
        assert_eq!(Scene::host(), before);
    });
}
