//! Pods of the handler `runc` on the same node: the node is a real one, and what our pods are compared with.

use std::time::Duration;

use leakcheck::Kind;
use urunc_tests::harness::{Container, Handler, Image, Node, Pod, SOON, Setup, Version};

/// An ordinary pod has an address of each family, its logs, its statuses; the leak check sees it, and then nothing.
pub fn ordinary_pods_run_beside_ours(version: Version) {
    let Some(node) = Node::begin(version, &Setup::of(&[Image::Busybox]).mtu(1420)) else { return };
    let pod = node.runp(&Pod::new("ordinary").handler(Handler::Runc));
    let addresses = node.addresses(&pod);
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    let script = "trap 'exit 3' TERM; echo hello; while :; do sleep 0.1; done";
    let member = node.run(&pod, &Container::new("busy", Image::Busybox, &["sh", "-c", script]));
    node.wait_for(&member, "hello\n", SOON);
    let seen = node.look();
    for (kind, at_least) in
        [(Kind::Process, 3), (Kind::UnixSocket, 1), (Kind::NetNs, 1), (Kind::Mount, 1), (Kind::Cgroup, 4)]
    {
        assert!(seen.of(kind).count() >= at_least, "{kind:?}:\n{seen}");
    }
    node.restart();
    assert_eq!(node.state(&member), "CONTAINER_RUNNING");
    node.stop(&member, Duration::from_secs(10));
    assert_eq!(node.wait_for_exit(&member).code, 3);
    node.rm(&member);
    node.stopp(&pod);
    node.rmp(&pod);
    node.finish();
}
