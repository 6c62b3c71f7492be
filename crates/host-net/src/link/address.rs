//! Addresses of global scope.

use std::net::IpAddr;

use netlink_packet_route::address::AddressHeader;

use crate::Error;
use crate::message::{attributes, number, request, value};
use crate::netlink::{Deed, Item, Netlink};

/// linux/if_addr.h.
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// Length of `struct ifaddrmsg`, bytes.
const HEADER: usize = 8;

/// An address, and whose it is.
pub(super) struct Found {
    pub(super) index: u32,
    pub(super) ip: IpAddr,
    pub(super) prefix_len: u8,
}

/// All usable addresses of global scope in this namespace, IPv4 first, else in the kernel's order.
pub(super) fn list(netlink: &mut Netlink) -> Result<Vec<Found>, Error> {
    let deed = Deed { doing: "listing addresses", index: 0 };
    let items = netlink.list(deed, request(libc::RTM_GETADDR, 0, &AddressHeader::default(), &[]))?;
    let mut found = Vec::new();
    for Item { body, .. } in items.iter().filter(|item| item.kind == libc::RTM_NEWADDR) {
        found.extend(address(deed, body)?);
    }
    found.sort_by_key(|address| address.ip.is_ipv6());
    Ok(found)
}

fn address(deed: Deed, body: &[u8]) -> Result<Option<Found>, Error> {
    let header =
        AddressHeader::parse(body).map_err(|e| Error::Answer { doing: deed.doing, reason: e.to_string() })?;
    let list = attributes(deed.doing, body.get(HEADER..).unwrap_or_default())?;
    // The header has room for the first eight flags only.
    let flags = value(&list, IFA_FLAGS).and_then(number).unwrap_or_else(|| header.flags.bits().into());
    if u8::from(header.scope) != libc::RT_SCOPE_UNIVERSE || flags & libc::IFA_F_DADFAILED != 0 {
        return Ok(None);
    }
    // On a point-to-point link IFA_ADDRESS is the other end.
    let ip = value(&list, IFA_LOCAL).or_else(|| value(&list, IFA_ADDRESS)).and_then(ip);
    Ok(ip.map(|ip| Found { index: header.index, ip, prefix_len: header.prefix_len }))
}

/// An address in network byte order; its length says which family.
pub(super) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}
