//! The network of a pod is its guest's.

use std::{
    io::{BufRead, BufReader, Write},
    net::{IpAddr, SocketAddr, TcpListener},
    process::Command,
    thread,
    time::Duration,
};

use rustix::process::Signal;
use urunc_tests::{
    direct::{cache, eventually},
    harness::{
        BOOT, Container, Done, Image, Job, Member, Node, Pod, SOON, Scene, Setup, Version, page, within,
    },
};

/// Long enough for a guest that has heard the power button.
const GRACE: Duration = Duration::from_secs(20);

/// Both ways, both families, with the pod's own size of packets; the next attempt of the container gets it again; and
/// each leaves the pod's namespace as it was.
pub fn a_guest_is_reached_and_reaches_the_host(version: Version) {
    Node::with(version, &Setup::of(&[Image::Debian]).mtu(1420), |node| {
        let pod = node.runp(&Pod::new("net"));
        let sandbox = node.sandbox(&pod);
        let before = Scene::of(&sandbox);
        let addresses = node.addresses(&pod);
        assert_eq!(addresses.len(), 2, "{addresses:?}");

        let server = Container::new("server", Image::Debian, &["/init", "serve", "80"]);
        let first = node.run(&pod, &server);
        serves(node, &first, &addresses);
        assert!(first.text().contains("mtu 1420"), "{}", first.text());
        assert_ne!(Scene::of(&sandbox), before);
        node.stop(&first, GRACE);
        assert_eq!(node.wait_for_exit(&first).code, 143);
        node.rm(&first);
        assert_eq!(Scene::of(&sandbox), before, "the first guest is gone");

        // Not wget: it dies of a segmentation fault in a static busybox without a C library beside it.
        let asks = |address: IpAddr| {
            let place = greeter(address);
            format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 30 {} {};", place.ip(), place.port())
        };
        let script = format!(
            "{} {} ping -c 1 -W 10 {} && echo pinged",
            asks(node.network().v4.into()),
            asks(node.network().v6.into()),
            node.network().v4,
        );
        let second = Container::new("server", Image::Debian, &["/init", "sh", "-c", &script]).attempt(1);
        let second = node.run(&pod, &second);
        assert_eq!(node.wait_for_exit(&second).code, 0, "{}", second.text());
        let text = second.text();
        assert_eq!(text.matches("hello from the host\n").count(), 2, "{text}");
        assert!(text.contains("\npinged\n"), "{text}");
        eventually("the second guest is gone", || Scene::of(&sandbox) == before);
        node.rm(&second);
        node.stopp(&pod);
        node.rmp(&pod);
    });
}

/// What somebody else put into the pod's namespace stays as it is, and is no obstacle.
pub fn a_foreign_qdisc_and_its_filter_survive(version: Version) {
    Node::with(version, &Setup::of(&[Image::Debian]), |node| {
        let pod = node.runp(&Pod::new("foreign"));
        let sandbox = node.sandbox(&pod);
        let tc = |words: &str| {
            within(&sandbox, &words.split(' ').collect::<Vec<_>>()).expect(0);
        };
        tc("tc qdisc add dev eth0 handle ffff: ingress");
        // Packets of a host that is not there.
        tc(
            "tc filter add dev eth0 parent ffff: protocol ip prio 7 u32 match ip src 203.0.113.7/32 flowid :1",
        );
        let before = Scene::of(&sandbox);
        assert!(before.filters.iter().any(|line| line.contains("u32")), "{before:?}");

        let member = node.run(&pod, &Container::new("server", Image::Debian, &["/init", "serve", "80"]));
        serves(node, &member, &node.addresses(&pod));
        let with_guest = Scene::of(&sandbox);
        assert_eq!(before.beyond(&with_guest), Vec::<String>::new());
        node.rm_force(&member);
        assert_eq!(Scene::of(&sandbox), before);
        node.rmp_force(&pod);
    });
}

/// A guest that is killed from outside, and again one, and then the next has the network all the same.
pub fn what_a_dead_guest_left_does_not_block_the_next(version: Version) {
    Node::with(version, &Setup::of(&[Image::Tiny, Image::Debian]), |node| {
        let pod = node.runp(&Pod::new("stale"));
        let sandbox = node.sandbox(&pod);
        let before = Scene::of(&sandbox);
        for attempt in 0..2 {
            let hang = Container::new("guest", Image::Tiny, &["tiny", "hang"]).attempt(attempt);
            let member = node.run(&pod, &hang);
            node.member(&member).signal(Signal::KILL);
            assert_eq!(node.wait_for_exit(&member).code, 137);
        }
        let server = Container::new("guest", Image::Debian, &["/init", "serve", "80"]).attempt(2);
        let server = node.run(&pod, &server);
        serves(node, &server, &node.addresses(&pod));

        // Nobody is left to undo it but containerd's `delete`; the pod's namespace goes on.
        node.daemon(&pod).kill();
        node.wait_for_exit(&server);
        eventually("what the daemon made is undone", || netns_scene(node, &before));
        node.stopp(&pod);
        node.rmp(&pod);

        let pod = node.runp(&Pod::new("stale"));
        let server = node.run(&pod, &Container::new("guest", Image::Debian, &["/init", "serve", "80"]));
        serves(node, &server, &node.addresses(&pod));
        node.rmp_force(&pod);
    });
}

/// Whether the one network namespace that containerd holds is as it was.
fn netns_scene(node: &Node, before: &Scene) -> bool {
    let mounts = node.containerd().netns();
    assert_eq!(mounts.len(), 1, "{mounts:?}");
    Scene::at(&mounts[0]) == *before
}

/// The guest serves on all addresses of the pod.
fn serves(node: &Node, member: &Member, addresses: &[String]) {
    node.wait_for(member, "guest: serving", BOOT);
    let text = member.text();
    assert!(text.contains("guest: net eth0 "), "{text}");
    for address in addresses {
        ping(address).expect(0);
        let page = page(address.parse().unwrap());
        assert!(page.contains("hello from "), "{address}: {page}");
    }
}

fn ping(address: &str) -> Done {
    let mut command = Command::new(cache().join("guest/busybox"));
    command.args(["ping", "-c", "1", "-W", "10", address]);
    Job::start(command).wait(SOON)
}

/// Greets whoever asks at this address of the host; where it listens.
fn greeter(address: IpAddr) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let place = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let request = BufReader::new(&stream).lines();
            request.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).for_each(drop);
            write!(stream, "HTTP/1.0 200 OK\r\n\r\nhello from the host\n").ok();
        }
    });
    place
}
