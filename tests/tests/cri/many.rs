//! Many pods at once.

use std::thread;

use urunc_tests::{
    direct::eventually,
    harness::{Container, Image, Node, Pod, SOON, Setup, Version},
};

/// 20 pods come at once, run side by side, and go at once.
pub fn twenty_pods_come_and_go_at_once(version: Version) {
    const PODS: usize = 20;
    Node::with(version, &Setup::of(&[Image::Tiny]), |node| {
        let make = |n: usize| {
            let pod = node.runp(&Pod::new(&format!("pod{n}")));
            let said = format!("say=pod-{n}");
            let member = node.run(&pod, &Container::new("guest", Image::Tiny, &["tiny", &said, "hang"]));
            (pod, member)
        };
        let pods: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..PODS).map(|n| scope.spawn(move || make(n))).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        for (n, (_, member)) in pods.iter().enumerate() {
            node.wait_for(member, &format!("\npod-{n}\n"), SOON);
        }
        assert!(node.ps().iter().all(|c| c["state"] == "CONTAINER_RUNNING"));
        assert_eq!(node.daemons().len(), PODS);
        thread::scope(|scope| {
            for (pod, _) in &pods {
                scope.spawn(|| node.rmp_force(pod));
            }
        });
        eventually("the daemons leave with their pods", || node.daemons().is_empty());
    });
}
