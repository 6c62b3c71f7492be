//! Finding the pod's interface by what it is, never by its name.

use super::{Address, Ingress, Interface, address, device, route};
use crate::Error;
use crate::netlink::Netlink;
use crate::tc::{ingress_of, marks};

/// The pod's interface: an Ethernet interface that is up, is no loopback and nobody's tun or tap, and has an address
/// of global scope. Among several the one with a default route (IPv4 before IPv6, then the lowest metric), then the
/// one with the lowest index. `None`: there is none.
///
/// Only the main routing table is looked at.
pub fn look() -> Result<Option<Interface>, Error> {
    let mut netlink = Netlink::open()?;
    let devices = device::list(&mut netlink)?;
    let addresses = address::list(&mut netlink)?;
    let routes = route::list(&mut netlink)?;

    // Routes are in order: the first default route of an interface is its best.
    let default = |index: u32| routes.iter().find(|r| r.index == index && r.route.destination.is_none());
    let rank = |index: u32| match default(index) {
        Some(best) => (u8::from(best.v6), best.route.metric, index),
        None => (u8::MAX, 0, index),
    };
    let able = devices.into_iter().filter(|device| addresses.iter().any(|a| a.index == device.index));
    let Some(device) = able.min_by_key(|device| rank(device.index)) else { return Ok(None) };

    let index = device.index;
    let gateway = |v6: bool| {
        let mut own = routes.iter().filter(|r| r.index == index && r.v6 == v6);
        own.find(|r| r.route.destination.is_none()).and_then(|r| r.route.gateway)
    };
    let own = addresses.iter().filter(|a| a.index == index).map(|a| Address {
        ip: a.ip,
        prefix_len: a.prefix_len,
        gateway: gateway(a.ip.is_ipv6()),
    });
    let ingress = ingress_of(&mut netlink, index)?;
    let (tied, stale) =
        if ingress == Ingress::None { Default::default() } else { marks(&mut netlink, index)? };
    Ok(Some(Interface {
        index,
        name: device.name,
        mac: device.mac,
        mtu: device.mtu,
        addresses: own.collect(),
        routes: routes.iter().filter(|r| r.index == index).map(|r| r.route.clone()).collect(),
        ingress,
        tied,
        stale,
    }))
}
