//! How a guest and the processes of its pod reach each other.
//!
//! Both have the pod's addresses: what one sends there never leaves it. So the tap has a link-local address for the pod,
//! the guest one of the same small network, and frames that are for the pod are let through to it before all others are
//! sent on to the pod's interface. All of it is at the tap and ends with it.

use std::net::Ipv4Addr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily,
    address::{AddressHeader, AddressScope},
};
use rustix::io::Errno;

use crate::{
    Error, lock,
    message::{attr, request},
    netlink::{Deed, Netlink},
    tc::let_through,
};

/// Where the pod's processes are for its guest. The range is RFC 3927's, of which nobody else uses this part by a rule.
pub const POD: Ipv4Addr = Ipv4Addr::new(169, 254, 117, 1);
/// Where the guest is for them.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(169, 254, 117, 2);
/// The length of their network, bits.
pub const PREFIX_LEN: u8 = 30;

/// linux/if_addr.h.
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// Gives the pod its address at a tap that has an ingress qdisc, and lets through what is for it. What is there already
/// stays. It comes before [`crate::redirect`], whose filters are asked later. `false`: the kernel has no classifier for
/// it, and a guest without such a neighbour is one all the same.
pub fn let_meet(tap: u32) -> Result<bool, Error> {
    let _lock = lock::hold();
    let mut netlink = Netlink::open()?;
    // An address with filters that are missing would swallow nothing, but promise what is not kept.
    if !let_through(&mut netlink, tap, POD)? {
        return Ok(false);
    }
    let header = AddressHeader {
        family: AddressFamily::Inet,
        prefix_len: PREFIX_LEN,
        // It is never chosen for what goes elsewhere.
        scope: AddressScope::Link,
        index: tap,
        ..AddressHeader::default()
    };
    let address = POD.octets();
    let attributes = [attr(IFA_LOCAL, &address), attr(IFA_ADDRESS, &address)];
    let message = request(libc::RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &header, &attributes);
    match netlink.change(Deed { doing: "giving an address to the tap", index: tap }, message) {
        Err(e) if e.errno() == Some(Errno::EXIST) => Ok(true),
        done => done.map(|()| true),
    }
}
