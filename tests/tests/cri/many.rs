//! Many pods at once.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use urunc_tests::{
    direct::eventually,
    harness::{BOOT, Container, Image, Node, Pod, SOON, Setup, Version},
};

/// How many pods of three containers: `make pods` says 20.
const PODS: &str = "URUNC_TEST_PODS";

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

/// Pods of a guest and two sidecars come five at a time; one container of each is restarted while the others run; all
/// go, five at a time.
pub fn pods_of_a_guest_and_two_sidecars_come_and_go(version: Version) {
    const AT_ONCE: usize = 5;
    let pods = std::env::var(PODS).ok().filter(|n| !n.is_empty());
    // Of one containerd as many as a node has; the older one differs in nothing that would need them.
    let some = if version == Version::V2_3 { 4 * AT_ONCE } else { AT_ONCE };
    let pods = pods.map_or(some, |n| n.parse().expect("URUNC_TEST_PODS: a number of pods"));
    Node::with(version, &Setup::of(&[Image::Tiny, Image::Busybox]), |node| {
        let member = |n: usize, name: &str| {
            let script = format!("trap 'exit 3' TERM; echo {name}-{n}; while :; do sleep 0.2; done");
            match name {
                "guest" => {
                    let said = format!("say=guest-{n}");
                    Container::new(name, Image::Tiny, &["tiny", &said, "hang"])
                }
                _ => Container::new(name, Image::Busybox, &["sh", "-c", &script]),
            }
        };
        let names = ["guest", "one", "two"];
        let make = |n: usize| {
            let pod = node.runp(&Pod::new(&format!("pod{n}")));
            let mut members = names.map(|name| node.run(&pod, &member(n, name)));
            for (name, member) in names.iter().zip(&members) {
                node.wait_for(member, &format!("{name}-{n}\n"), BOOT);
            }
            let which = n % names.len();
            node.stop(&members[which], Duration::from_secs(10));
            let code = node.wait_for_exit(&members[which]).code;
            assert_eq!(code, if which == 0 { 143 } else { 3 }, "{} of pod {n}", names[which]);
            node.rm(&members[which]);
            members[which] = node.run(&pod, &member(n, names[which]).attempt(1));
            node.wait_for(&members[which], &format!("{}-{n}\n", names[which]), BOOT);
            for member in &members {
                assert_eq!(node.state(member), "CONTAINER_RUNNING");
            }
            pod
        };
        let made = Mutex::new(Vec::new());
        in_turns(AT_ONCE, pods, |n| made.lock().unwrap().push(make(n)));
        let made = made.into_inner().unwrap();
        assert_eq!(node.ps().len(), pods * names.len());
        assert!(node.ps().iter().all(|c| c["state"] == "CONTAINER_RUNNING"));
        assert_eq!(node.daemons().len(), pods);
        in_turns(AT_ONCE, pods, |n| node.rmp_force(&made[n]));
        eventually("the daemons leave with their pods", || node.daemons().is_empty());
    });
}

/// Does this for each number below `count`, so many at a time.
fn in_turns(at_once: usize, count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let turn = || {
            while let Some(n) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < count) {
                work(n);
            }
        };
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(turn)).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
