//! The addresses in the network namespace that this thread is in.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::netlink::{self, number};

const IFADDRMSG: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// The interface.
    pub index: u32,
    pub ip: IpAddr,
    pub prefix: u8,
}

impl Address {
    /// Whether the kernel gives it by itself, at a moment of its own choice, to an interface that goes up: such a one
    /// tells nothing beyond the interface.
    pub fn is_the_kernels(&self) -> bool {
        match self.ip {
            IpAddr::V4(ip) => ip == Ipv4Addr::LOCALHOST,
            IpAddr::V6(ip) => ip == Ipv6Addr::LOCALHOST || ip.is_unicast_link_local(),
        }
    }
}

pub(super) fn list() -> io::Result<Vec<Address>> {
    let messages = netlink::dump(netlink::RTM_GETADDR, &[0; IFADDRMSG])?;
    Ok(messages.iter().filter_map(|message| parse(message)).collect())
}

/// An `ifaddrmsg` (family, prefix length, flags, scope, index) and attributes. Where both ends of a line have an address,
/// the local one is in IFA_LOCAL.
fn parse(message: &[u8]) -> Option<Address> {
    let body = message.get(IFADDRMSG..)?;
    let bytes = netlink::attribute(body, IFA_LOCAL).or_else(|| netlink::attribute(body, IFA_ADDRESS))?;
    let ip = match *bytes {
        [a, b, c, d] => Ipv4Addr::new(a, b, c, d).into(),
        _ => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
    };
    Some(Address { index: number(message, 4)?, ip, prefix: *message.get(1)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_are_told_from_those_that_were_given() {
        let kernels = |ip: &str| Address { index: 1, ip: ip.parse().unwrap(), prefix: 8 }.is_the_kernels();
        assert!(kernels("127.0.0.1") && kernels("::1") && kernels("fe80::1"));
        assert!(!kernels("127.0.0.2") && !kernels("10.0.0.1") && !kernels("fd00::1"));
    }

    #[test]
    fn the_local_end_of_a_line_is_its_address() {
        let mut message = vec![2, 32, 0, 0, 7, 0, 0, 0];
        message.extend([8, 0, 1, 0, 10, 0, 0, 2]);
        message.extend([8, 0, 2, 0, 10, 0, 0, 1]);
        let expected = Address { index: 7, ip: "10.0.0.1".parse().unwrap(), prefix: 32 };
        assert_eq!(parse(&message), Some(expected));
        assert_eq!(parse(&message[..8]), None);
    }
}
