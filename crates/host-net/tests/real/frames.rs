//! Frames: from the peer of the pod's interface to the tap, and back.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use host_net::{beside, look, make_ingress, redirect, remove_ingress, remove_redirect};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{read, write};

use crate::ground::{A, census, fresh, index, ip, is_as, let_go, mark, tap, txid, veth};

/// The EtherType for local experiments (IEEE 802): nobody else's frames have it.
const TYPE: [u8; 2] = [0x88, 0xb5];
/// Length of the struct virtio_net_hdr in front of each frame of a tap, bytes.
const VNET: usize = 10;

/// ARP's EtherType.
const ARP: [u8; 2] = [0x08, 0x06];

/// A raw socket at an interface.
fn wire(name: &str) -> OwnedFd {
    wire_for(name, TYPE)
}

/// The same for frames of this type.
fn wire_for(name: &str, kind: [u8; 2]) -> OwnedFd {
    let protocol = u16::from_be_bytes(kind).to_be();
    let flags = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointer is passed.
    let raw = unsafe { libc::socket(libc::AF_PACKET, flags, protocol.into()) };
    assert!(raw >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is new, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: plain old data, for which all zeroes are valid.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_protocol = protocol;
    to.sll_ifindex = index(name).cast_signed();
    let length = size_of_val(&to) as libc::socklen_t;
    // SAFETY: the address lives until the call returns, and its length is its own.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const to).cast(), length) };
    assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
    socket
}

/// Reads until a frame of ours comes; `None`: none within the time.
fn receive(from: impl AsFd, skip: usize, milliseconds: i64) -> Option<Vec<u8>> {
    receive_of(TYPE, from, skip, milliseconds)
}

/// Reads until a frame of this type comes.
fn receive_of(wanted: [u8; 2], from: impl AsFd, skip: usize, milliseconds: i64) -> Option<Vec<u8>> {
    let timeout = Timespec { tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000 };
    loop {
        let mut fds = [PollFd::new(&from, PollFlags::IN)];
        if poll(&mut fds, Some(&timeout)).unwrap() == 0 {
            return None;
        }
        let mut buffer = vec![0; 70_000];
        let length = read(&from, &mut buffer).unwrap();
        let frame = buffer[skip..length].to_vec();
        if frame.get(12..14) == Some(&wanted) {
            return Some(frame);
        }
    }
}

fn frame(length: usize) -> Vec<u8> {
    let mut frame = [&[0x02, 0, 0, 0, 0, 9][..], &[0x02, 0, 0, 0, 0, 8], &TYPE].concat();
    frame.extend((0..length).map(|n| n as u8));
    frame
}

#[test]
fn cross_both_ways() {
    fresh(|| {
        let v = veth("v0");
        ip("addr add 10.1.0.2/24 dev v0");
        let before = census();
        let (tun, t) = tap("t0");
        assert!(make_ingress(v).unwrap() && make_ingress(t).unwrap());
        redirect(v, t, &mark(A, true)).unwrap();
        redirect(t, v, &mark(A, true)).unwrap();

        let peer = wire("v0p");
        // Also the shortest that there can be, and the longest that the MTU allows.
        for length in [0, 1, 3, 46, 1500] {
            let sent = frame(length);
            write(&peer, &sent).unwrap();
            assert_eq!(receive(&tun, VNET, 5000), Some(sent.clone()), "to the tap, {length} bytes");
            write(&tun, &[&[0; VNET][..], &sent].concat()).unwrap();
            assert_eq!(receive(&peer, 0, 5000), Some(sent), "from the tap, {length} bytes");
        }

        assert_eq!(remove_redirect(v, &txid(A)).unwrap(), 1);
        write(&peer, &frame(60)).unwrap();
        let pod = wire("v0");
        write(&peer, &frame(61)).unwrap();
        assert!(receive(&pod, 0, 5000).is_some(), "the pod's own stack hears again");
        assert_eq!(receive(&tun, VNET, 0), None, "and the tap does not");
        remove_ingress(v).unwrap();
        drop((peer, pod));
        let_go(tun, "t0");
        is_as(&before);
    });
}

/// Who has `wanted`? Asked by the guest.
fn asks_for(wanted: [u8; 4]) -> Vec<u8> {
    let own = [0x02, 0, 0, 0, 0, 8];
    let head = [&[0xff; 6][..], &own, &ARP, &[0, 1, 8, 0, 6, 4, 0, 1]].concat();
    [&head[..], &own, &[169, 254, 117, 2], &[0; 6], &wanted].concat()
}

#[test]
fn guest_and_pod_meet_at_the_tap() {
    fresh(|| {
        let v = veth("v0");
        ip("addr add 10.1.0.2/24 dev v0");
        let before = census();
        let (tun, t) = tap("t0");
        assert!(make_ingress(v).unwrap() && make_ingress(t).unwrap());
        // A Start that failed has done it once already.
        assert!(beside::let_meet(t).unwrap() && beside::let_meet(t).unwrap());
        redirect(v, t, &mark(A, true)).unwrap();
        redirect(t, v, &mark(A, true)).unwrap();
        assert_eq!(look().unwrap().unwrap().index, v, "the pod's interface is the same");

        let peer = wire_for("v0p", ARP);
        let say = |frame: &[u8]| write(&tun, &[&[0; VNET][..], frame].concat()).unwrap();
        say(&asks_for(beside::POD.octets()));
        let answer = receive_of(ARP, &tun, VNET, 5000).expect("the pod answers");
        assert_eq!((&answer[..6], &answer[28..32]), (&[2, 0, 0, 0, 0, 8][..], &beside::POD.octets()[..]));
        // What is for anybody else goes on, and only that: else the first question would have come first.
        let other = asks_for([10, 1, 0, 1]);
        say(&other);
        assert_eq!(receive_of(ARP, &peer, 0, 5000).as_deref(), Some(&other[..]));

        remove_redirect(v, &txid(A)).unwrap();
        remove_ingress(v).unwrap();
        drop(peer);
        let_go(tun, "t0");
        is_as(&before);
    });
}
