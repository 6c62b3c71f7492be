//! Annotations `com.urunc.*` of a pod, which containerd copies to each of its containers.

use urunc_tests::harness::{Container, Image, Node, Pod, SOON, Setup, Version};

const BINARY: &str = "com.urunc.unikernel.binary";

/// Of a pod's containers those are guests whose image is a guest's: by its kernel, or by its own description. A sidecar
/// is not, unless it says so itself.
pub fn those_of_a_pod_make_no_guest_of_its_sidecar(version: Version) {
    Node::with(version, &Setup::of(&[Image::Busybox, Image::Bare, Image::Tiny]), |node| {
        let told = Pod::new("told")
            .annotation("com.urunc.unikernel.unikernelType", "unikraft")
            .annotation(BINARY, Image::KERNEL);
        let pod = node.runp(&told);
        let sandbox = node.inspectp(&pod);
        assert_eq!(sandbox["info"]["runtimeSpec"]["annotations"][BINARY], Image::KERNEL, "{sandbox}");
        let script = "echo ready; while :; do sleep 0.1; done";
        let sidecar = Container::new("sidecar", Image::Busybox, &["sh", "-c", script]);
        let first = node.run(&pod, &sidecar);
        let spec = node.inspect(&first)["info"]["runtimeSpec"]["annotations"].clone();
        assert_eq!(spec[BINARY], Image::KERNEL, "containerd copies it: {spec}");
        let guest = node.run(&pod, &Container::new("guest", Image::Bare, &["tiny", "hang"]));
        node.wait_for(&first, "ready\n", SOON);
        node.wait_for(&guest, "hang\n", SOON);
        assert_eq!(node.call(&["exec", "-s", &first.id, "echo", "hello"]).expect(0).text().trim(), "hello");
        let refused = node.call(&["exec", "-s", &guest.id, "true"]);
        assert!(refused.stderr.contains("is a guest: what runs there"), "{refused}");

        // A word of its own counts, and what is wrong in it is told.
        let own = node.create(&pod, &sidecar.clone().attempt(1).annotation(BINARY, "/nowhere"));
        let refused = node.call(&["start", &own.id]);
        assert!(refused.stderr.contains("is not in the image"), "{refused}");
        node.rm(&own);

        node.rm_force(&first);
        let again = node.run(&pod, &sidecar.attempt(2));
        node.wait_for(&again, "ready\n", SOON);
        node.rmp_force(&pod);
    });
}
