//! Unicast routes of the main table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::RouteHeader;

use super::Route;
use super::address::ip;
use crate::Error;
use crate::message::{attributes, number, request, value};
use crate::netlink::{Deed, Item, Netlink};

/// linux/rtnetlink.h.
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
/// Length of `struct rtmsg`, bytes.
const HEADER: usize = 12;
/// Length of `struct rtnexthop`, bytes.
const HOP: usize = 8;

/// A route, and through which interface: a route with several next hops is found once for each.
pub(super) struct Found {
    pub(super) index: u32,
    pub(super) v6: bool,
    pub(super) route: Route,
}

/// All unicast routes of the main table, IPv4 first, each family in order of metric.
pub(super) fn list(netlink: &mut Netlink) -> Result<Vec<Found>, Error> {
    let deed = Deed { doing: "listing routes", index: 0 };
    let items = netlink.list(deed, request(libc::RTM_GETROUTE, 0, &RouteHeader::default(), &[]))?;
    let mut found = Vec::new();
    for Item { body, .. } in items.iter().filter(|item| item.kind == libc::RTM_NEWROUTE) {
        routes(deed, body, &mut found)?;
    }
    found.sort_by_key(|route| (route.v6, route.route.metric));
    Ok(found)
}

fn routes(deed: Deed, body: &[u8], found: &mut Vec<Found>) -> Result<(), Error> {
    let header =
        RouteHeader::parse(body).map_err(|e| Error::Answer { doing: deed.doing, reason: e.to_string() })?;
    let list = attributes(deed.doing, body.get(HEADER..).unwrap_or_default())?;
    let v6 = match header.address_family {
        AddressFamily::Inet => false,
        AddressFamily::Inet6 => true,
        _ => return Ok(()),
    };
    let table = value(&list, RTA_TABLE).and_then(number).unwrap_or_else(|| header.table.into());
    let cached = header.flags.bits() & libc::RTM_F_CLONED != 0;
    if table != u32::from(libc::RT_TABLE_MAIN) || u8::from(header.kind) != libc::RTN_UNICAST || cached {
        return Ok(());
    }
    let any = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let network = value(&list, RTA_DST).and_then(ip).unwrap_or(any);
    let length = header.destination_prefix_length;
    let destination = (length > 0).then_some((network, length));
    if destination.is_some_and(|(ip, _)| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())) {
        return Ok(());
    }
    let metric = value(&list, RTA_PRIORITY).and_then(number).unwrap_or(0);
    let mut add = |index, gateway| {
        found.push(Found { index, v6, route: Route { destination, gateway, metric } });
    };
    if let Some(index) = value(&list, RTA_OIF).and_then(number) {
        add(index, gateway(&list));
    }
    let mut hops = value(&list, RTA_MULTIPATH).unwrap_or_default();
    while let Some((length, index)) = hop(hops) {
        let own = hops.get(HOP..length).unwrap_or_default();
        add(index, gateway(&attributes(deed.doing, own)?));
        hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(())
}

/// Length in bytes and interface of the first of several next hops.
fn hop(bytes: &[u8]) -> Option<(usize, u32)> {
    let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let index = number(bytes.get(4..HOP)?)?;
    (HOP..=bytes.len()).contains(&length).then_some((length, index))
}

fn gateway(list: &[(u16, &[u8])]) -> Option<IpAddr> {
    // RTA_VIA is a gateway of another family: two bytes of family, then the address.
    let via = || value(list, RTA_VIA).and_then(|via| via.get(2..));
    value(list, RTA_GATEWAY).or_else(via).and_then(ip)
}
