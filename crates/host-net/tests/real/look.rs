//! Which interface is the pod's, and what is said of it.

use std::net::IpAddr;

use host_net::{Address, Ingress, Interface, Route, look};

use crate::ground::{eventually, fresh, index, ip, tap, tc, veth};

fn seen() -> Interface {
    look().unwrap().unwrap()
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn nothing_but_loopback() {
    fresh(|| {
        ip("addr add 10.9.9.9/32 dev lo");
        assert_eq!(look().unwrap(), None);
    });
}

#[test]
fn a_tap_is_nobodys_pod() {
    fresh(|| {
        let (_tun, _) = tap("t0");
        ip("addr add 10.1.0.2/24 dev t0");
        ip("route add default via 10.1.0.1");
        assert_eq!(look().unwrap(), None);
        let good = veth("late");
        ip("addr add 10.2.0.2/24 dev late");
        assert_eq!(seen().index, good, "also when the tap has the default route");
    });
}

#[test]
fn without_address_or_down_or_not_ethernet() {
    fresh(|| {
        veth("v0");
        assert_eq!(look().unwrap(), None, "no address");
        ip("addr add 169.254.7.7/16 scope link dev v0");
        assert_eq!(look().unwrap(), None, "an address of link scope");
        ip("addr add 10.1.0.2/24 dev v0");
        ip("link set v0 down");
        assert_eq!(look().unwrap(), None, "down");
        ip("link set v0 up");
        assert_eq!(seen().name, "v0");
    });
}

#[test]
fn a_dual_stack_pod() {
    fresh(|| {
        let index = veth("x");
        ip("link set x mtu 1450 address 02:00:00:0a:0b:0c");
        ip("addr add 10.244.1.7/24 dev x");
        ip("addr add fd00:1::7/64 dev x nodad");
        ip("route add default via 10.244.1.1 dev x");
        ip("route add default via 10.244.1.9 dev x metric 50");
        ip("route add 192.168.0.0/16 via 10.244.1.2 dev x metric 7");
        ip("-6 route add default via fd00:1::1 dev x metric 300");
        ip("route add unreachable 172.16.0.0/12");
        ip("route add 172.20.0.0/16 dev x table 77");
        let seen = seen();
        assert_eq!((seen.index, seen.name.as_str(), seen.mtu), (index, "x", 1450));
        assert_eq!(seen.mac.to_string(), "02:00:00:0a:0b:0c");
        assert_eq!((seen.ingress, seen.tied.as_slice()), (Ingress::None, &[][..]));
        let address =
            |ip, prefix_len, gateway| Address { ip: addr(ip), prefix_len, gateway: Some(addr(gateway)) };
        assert_eq!(
            seen.addresses,
            [address("10.244.1.7", 24, "10.244.1.1"), address("fd00:1::7", 64, "fd00:1::1")]
        );
        let route = |destination: Option<(&str, u8)>, gateway: Option<&str>, metric| Route {
            destination: destination.map(|(ip, length)| (addr(ip), length)),
            gateway: gateway.map(addr),
            metric,
        };
        for expected in [
            route(None, Some("10.244.1.1"), 0),
            route(None, Some("10.244.1.9"), 50),
            route(Some(("192.168.0.0", 16)), Some("10.244.1.2"), 7),
            route(Some(("10.244.1.0", 24)), None, 0),
            route(Some(("fd00:1::", 64)), None, 256),
            route(None, Some("fd00:1::1"), 300),
        ] {
            assert!(seen.routes.contains(&expected), "{expected:?} in {:?}", seen.routes);
        }
        assert_eq!(seen.routes.len(), 6, "{:?}", seen.routes);

        let text = serde_json::to_string(&seen).unwrap();
        assert_eq!(serde_json::from_str::<Interface>(&text).unwrap(), seen, "{text}");
    });
}

#[test]
fn only_ipv6() {
    fresh(|| {
        veth("six");
        ip("addr add fd00::2/64 dev six nodad");
        let seen = seen();
        assert_eq!(seen.addresses, [Address { ip: addr("fd00::2"), prefix_len: 64, gateway: None }]);
    });
}

#[test]
fn an_address_that_is_somebody_elses() {
    fresh(|| {
        veth("dup");
        for end in ["dup", "dupp"] {
            ip(&format!("link set {end} down"));
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{end}/accept_dad"), "1").unwrap();
        }
        ip("link set dup up");
        ip("link set dupp up");
        ip("addr add fd00::5/64 dev dupp nodad");
        ip("addr add fd00::5/64 dev dup");
        eventually("the address is refused", || ip("-6 addr show dev dup").contains("dadfailed"));
        // The peer has the very address, so it would be chosen: away with it.
        ip("addr del fd00::5/64 dev dupp");
        assert_eq!(look().unwrap(), None);
    });
}

#[test]
fn the_one_with_the_default_route() {
    fresh(|| {
        for (n, name) in ["one", "two", "three"].iter().enumerate() {
            veth(name);
            ip(&format!("addr add 10.{n}.0.2/24 dev {name}"));
        }
        assert_eq!(seen().name, "one", "no default route: the lowest index");
        ip("-6 addr add fd00::2/64 dev three nodad");
        ip("-6 route add default via fd00::1 dev three metric 1");
        assert_eq!(seen().name, "three", "an IPv6 one is better than none");
        ip("route add default via 10.1.0.1 dev two metric 900");
        assert_eq!(seen().name, "two", "an IPv4 one is better than any IPv6 one");
        ip("route add default via 10.0.0.1 dev one metric 800");
        assert_eq!(seen().name, "one", "the lowest metric");
        ip("link set one down");
        ip("link set one name eth7");
        assert_eq!(seen().name, "two", "down");
        ip("link set two down");
        ip("link set two name renamed");
        ip("link set renamed up");
        ip("route add default via 10.1.0.1 dev renamed");
        assert_eq!(seen().name, "renamed", "a name means nothing");
    });
}

#[test]
fn gateways_of_other_kinds() {
    fresh(|| {
        veth("cal");
        // What Calico makes: a host address, and a gateway that is only on the link.
        ip("addr add 10.7.0.9/32 dev cal");
        ip("route add 169.254.1.1 dev cal scope link");
        ip("route add default via 169.254.1.1 dev cal");
        let first = seen();
        assert_eq!(
            first.addresses,
            [Address { ip: addr("10.7.0.9"), prefix_len: 32, gateway: Some(addr("169.254.1.1")) }]
        );
        let on_link = Route { destination: Some((addr("169.254.1.1"), 32)), gateway: None, metric: 0 };
        assert!(first.routes.contains(&on_link), "{:?}", first.routes);

        ip("route del default");
        ip("-4 route add default via inet6 fe80::1 dev cal");
        assert_eq!(seen().addresses[0].gateway, Some(addr("fe80::1")), "of the other family");

        veth("other");
        ip("addr add 10.8.0.9/24 dev other");
        ip("route del default");
        ip("route add default nexthop via 169.254.1.1 dev cal nexthop via 10.8.0.1 dev other");
        assert_eq!(seen().addresses[0].gateway, Some(addr("169.254.1.1")), "one of several next hops");
        ip("link set cal down");
        assert_eq!(seen().addresses[0].gateway, Some(addr("10.8.0.1")), "the other one");
    });
}

#[test]
fn a_point_to_point_address() {
    fresh(|| {
        veth("ptp");
        ip("addr add 10.3.0.2 peer 10.3.0.1/32 dev ptp");
        assert_eq!(seen().addresses, [Address { ip: addr("10.3.0.2"), prefix_len: 32, gateway: None }]);
    });
}

#[test]
fn which_qdisc_is_there() {
    fresh(|| {
        veth("v0");
        ip("addr add 10.1.0.2/24 dev v0");
        assert_eq!(seen().ingress, Ingress::None);
        tc("qdisc add dev v0 ingress");
        assert_eq!(seen().ingress, Ingress::Ingress);
        tc("qdisc del dev v0 ingress");
        assert_eq!(seen().ingress, Ingress::None);
        tc("qdisc add dev v0 clsact");
        assert_eq!(seen().ingress, Ingress::Clsact);
    });
}

#[test]
fn long_lists_come_in_parts() {
    fresh(|| {
        veth("v0");
        let batch: String =
            (0..3000).map(|n| format!("addr add 10.1.{}.{}/32 dev v0\n", n / 250, n % 250 + 1)).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), batch).unwrap();
        ip(&format!("-batch {}", file.path().display()));
        assert_eq!(seen().addresses.len(), 3000);
        assert_eq!(seen().index, index("v0"));
    });
}
