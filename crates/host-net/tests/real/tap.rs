//! Taps.

use std::os::fd::AsFd;

use host_net::{Error, make_tap};

use crate::ground::{census, fresh, index, ip, is_as, let_go, tap, tun};

#[test]
fn is_made_up_and_a_lease() {
    fresh(|| {
        let before = census();
        let tun = tun();
        let made = make_tap(tun.as_fd(), "urunc-t", 1400).unwrap();
        assert_eq!(made, index("urunc-t"));
        let shown = ip("-d link show dev urunc-t");
        for word in ["mtu 1400", "UP", "type tap", "vnet_hdr on", "persist off", "pi off", "addrgenmode none"]
        {
            assert!(shown.contains(word), "{word} in {shown}");
        }
        assert!(!ip("addr show dev urunc-t").contains("inet"), "no address of any kind");
        let_go(tun, "urunc-t");
        is_as(&before);
    });
}

#[test]
fn a_name_that_is_taken() {
    fresh(|| {
        let (_held, _) = tap("t0");
        ip("link add dummy-of-theirs type veth peer name x");
        ip("tuntap add theirs mode tap");
        let before = census();
        for name in ["t0", "dummy-of-theirs", "theirs"] {
            let tun = tun();
            match make_tap(tun.as_fd(), name, 1500) {
                Err(Error::TapExists { name: said }) => assert_eq!(said, name),
                other => panic!("{name}: {other:?}"),
            }
        }
        is_as(&before);
    });
}

#[test]
fn what_cannot_be() {
    fresh(|| {
        let before = census();
        assert!(matches!(make_tap(tun().as_fd(), "tap%d", 1500), Err(Error::BadName { .. })));
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(matches!(make_tap(null.as_fd(), "t0", 1500), Err(Error::Tap { .. })));
        let tun = tun();
        let refused = make_tap(tun.as_fd(), "t0", 7).unwrap_err();
        assert!(matches!(refused, Error::Kernel { .. }), "{refused:?}");
        assert!(refused.to_string().contains("mtu"), "the kernel's words are in it: {refused}");
        let_go(tun, "t0");
        is_as(&before);
    });
}

#[test]
fn an_mtu_too_small_for_ipv6() {
    fresh(|| {
        let tun = tun();
        make_tap(tun.as_fd(), "t0", 600).unwrap();
        assert!(ip("link show dev t0").contains("mtu 600"));
    });
}
