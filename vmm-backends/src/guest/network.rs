//! What the command lines of all kinds of guest have in common when it comes to the network.

use std::net::IpAddr;

use vmm_api::{GuestAddress, GuestNetwork};

/// The guest's name if it is a plain DNS label (RFC 1123), which has a meaning in no parser of command lines. A name
/// that cannot be passed on is a reason.
pub(super) fn hostname<'a>(network: &'a GuestNetwork, reasons: &mut Vec<String>) -> Option<&'a str> {
    let name = network.hostname.as_deref()?;
    let plain = (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if !plain {
        reasons.push(format!("hostname {name:?} is not passed to the guest: it is not one plain DNS label"));
    }
    plain.then_some(name)
}

/// The gateway of an address. One of the other family, which routing protocols may know but guests do not, is a
/// reason.
pub(super) fn gateway(address: &GuestAddress, reasons: &mut Vec<String>) -> Option<IpAddr> {
    let gateway = address.gateway?;
    if gateway.is_ipv4() == address.ip.is_ipv4() {
        return Some(gateway);
    }
    reasons.push(format!("gateway {gateway} of {} is left out: it is of another family", address.ip));
    None
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use vmm_api::Mac;

    /// A network of these addresses: `ADDRESS/LENGTH` or `ADDRESS/LENGTH via GATEWAY`.
    pub fn network(hostname: Option<&str>, addresses: &[&str]) -> GuestNetwork {
        let address = |text: &&str| {
            let (address, gateway) = text.split_once(" via ").unwrap_or((text, ""));
            let (ip, len) = address.split_once('/').unwrap();
            GuestAddress {
                ip: ip.parse().unwrap(),
                prefix_len: len.parse().unwrap(),
                gateway: (!gateway.is_empty()).then(|| gateway.parse().unwrap()),
            }
        };
        GuestNetwork {
            mac: Mac([0x02, 0x42, 0xac, 0x11, 0x00, 0x02]),
            mtu: 1450,
            hostname: hostname.map(str::to_owned),
            addresses: addresses.iter().map(address).collect(),
        }
    }

    /// Names that are no plain label.
    pub const NASTY: [&str; 18] = [
        "",
        "-",
        "-a",
        "a-",
        "a.b",
        "a:b",
        "a b",
        "a\tb",
        "a\nb",
        "a\"b",
        "a'b",
        "a=b",
        "a,b",
        "a_b",
        "à",
        "\0",
        " -- ",
        "a::10.0.0.1:255.0.0.0:b rdinit=/bin/sh --",
    ];

    #[test]
    fn only_plain_labels_are_passed_on() {
        let passed = |name: &str| {
            let mut reasons = Vec::new();
            let network = network(Some(name), &[]);
            let passed = hostname(&network, &mut reasons) == Some(name);
            assert_eq!(passed, reasons.is_empty(), "{name:?}: {reasons:?}");
            passed
        };
        for name in ["a", "0", "web-0", "WEB", "a--b", &"x".repeat(63)] {
            assert!(passed(name), "{name:?}");
        }
        for name in NASTY {
            assert!(!passed(name), "{name:?}");
        }
        assert!(!passed(&"x".repeat(64)));
        let mut reasons = Vec::new();
        assert!(hostname(&network(None, &[]), &mut reasons).is_none() && reasons.is_empty());
    }

    #[test]
    fn a_gateway_is_of_its_addresses_family() {
        let mut reasons = Vec::new();
        let network = network(
            None,
            &["10.0.0.2/8 via 10.0.0.1", "fd00::2/64 via fe80::1", "10.0.0.2/8", "10.0.0.2/8 via fe80::1"],
        );
        let found: Vec<_> =
            network.addresses.iter().map(|address| gateway(address, &mut reasons).is_some()).collect();
        assert_eq!(found, [true, true, false, false]);
        assert_eq!(reasons, ["gateway fe80::1 of 10.0.0.2 is left out: it is of another family"]);
    }
}
