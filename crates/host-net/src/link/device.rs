//! Links: what the kernel says of each, as far as the choice of the pod's interface needs it.

use netlink_packet_route::link::LinkHeader;

use crate::message::{attributes, number, request, string, value};
use crate::netlink::{Deed, Item, Netlink};
use crate::{Error, Mac};

/// linux/if_link.h.
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
/// Length of `struct ifinfomsg`, bytes.
const HEADER: usize = 16;

/// A link that may be the pod's: Ethernet, up, no loopback, no tun or tap.
pub(super) struct Device {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: Mac,
    pub(super) mtu: u32,
}

/// All links of this namespace that may be the pod's.
pub(super) fn list(netlink: &mut Netlink) -> Result<Vec<Device>, Error> {
    let deed = Deed { doing: "listing links", index: 0 };
    let items = netlink.list(deed, request(libc::RTM_GETLINK, 0, &LinkHeader::default(), &[]))?;
    let mut found = Vec::new();
    for Item { body, .. } in items.iter().filter(|item| item.kind == libc::RTM_NEWLINK) {
        found.extend(device(deed, body)?);
    }
    Ok(found)
}

fn device(deed: Deed, body: &[u8]) -> Result<Option<Device>, Error> {
    let strange = |reason: &str| Error::Answer { doing: deed.doing, reason: reason.to_owned() };
    let header =
        LinkHeader::parse(body).map_err(|e| Error::Answer { doing: deed.doing, reason: e.to_string() })?;
    let flags = header.flags.bits().cast_signed();
    let ethernet = u16::from(header.link_layer_type) == libc::ARPHRD_ETHER;
    if !ethernet || flags & libc::IFF_UP == 0 || flags & libc::IFF_LOOPBACK != 0 {
        return Ok(None);
    }
    let attributes_of = |bytes| attributes(deed.doing, bytes);
    let list = attributes_of(body.get(HEADER..).unwrap_or_default())?;
    let info = attributes_of(value(&list, IFLA_LINKINFO).unwrap_or_default())?;
    if value(&info, IFLA_INFO_KIND).is_some_and(|kind| string(kind) == "tun") {
        return Ok(None);
    }
    let mac = value(&list, IFLA_ADDRESS).and_then(|mac| mac.try_into().ok());
    Ok(Some(Device {
        index: header.index,
        name: string(value(&list, IFLA_IFNAME).ok_or_else(|| strange("a link without a name"))?),
        mac: Mac(mac.ok_or_else(|| strange("an Ethernet link without an address"))?),
        mtu: value(&list, IFLA_MTU).and_then(number).ok_or_else(|| strange("a link without an MTU"))?,
    }))
}

/// The index of the link of this name.
pub(crate) fn index_of(netlink: &mut Netlink, name: &str) -> Result<Option<u32>, Error> {
    let deed = Deed { doing: "listing links", index: 0 };
    let items = netlink.list(deed, request(libc::RTM_GETLINK, 0, &LinkHeader::default(), &[]))?;
    for Item { body, .. } in items.iter().filter(|item| item.kind == libc::RTM_NEWLINK) {
        let list = attributes(deed.doing, body.get(HEADER..).unwrap_or_default())?;
        if value(&list, IFLA_IFNAME).is_some_and(|found| string(found) == name) {
            let header = LinkHeader::parse(body);
            let header = header.map_err(|e| Error::Answer { doing: deed.doing, reason: e.to_string() })?;
            return Ok(Some(header.index));
        }
    }
    Ok(None)
}
