//! Filters that let frames through to the stack although others behind them send everything away.

use std::net::Ipv4Addr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rustix::io::Errno;

use super::{
    FILTERS, TCA_KIND, TCA_OPTIONS,
    filter::{U32, info},
    header, possible,
};
use crate::{
    Error,
    message::{attr, nest, request, text},
    netlink::{Deed, Netlink},
};

const DEED: &str = "letting frames through";
const TCA_U32_CLASSID: u16 = 1;
const TCA_U32_SEL: u16 = 5;
const TC_U32_TERMINAL: u8 = 1;
/// Where the destination's address is in an IPv4 packet, and the target's in an ARP packet, bytes.
const PLACES: [(u16, i32, i32); 2] = [(1, libc::ETH_P_IP, 16), (2, libc::ETH_P_ARP, 24)];
/// The same node in each table, so that a second one is refused.
const NODE: u32 = 0x800;

/// At the ingress of this interface, IPv4 packets for `address` and ARP packets about it go to the stack. `false`: the
/// kernel does not know the classifier.
pub fn let_through(netlink: &mut Netlink, index: u32, address: Ipv4Addr) -> Result<bool, Error> {
    let deed = Deed { doing: DEED, index };
    if !possible(index) {
        return Err(Error::Kernel { doing: DEED, index, words: None, source: Errno::NODEV });
    }
    for (priority, protocol, at) in PLACES {
        match netlink.change(deed, filter(index, priority, protocol, at, address)) {
            Ok(()) => {}
            Err(e) if matches!(e.errno(), Some(Errno::EXIST | Errno::NOSPC)) => {}
            Err(e) if e.errno() == Some(Errno::NOENT) => return Ok(false),
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}

fn filter(index: u32, priority: u16, protocol: i32, at: i32, address: Ipv4Addr) -> Vec<u8> {
    // struct tc_u32_sel with one struct tc_u32_key (linux/pkt_cls.h): flags, offshift, nkeys, then what is left zero; the
    // key: mask, value, where it is behind the frame's own header.
    let mut selector = vec![0; 16];
    (selector[0], selector[2]) = (TC_U32_TERMINAL, 1);
    selector.extend([0xff; 4]);
    selector.extend(address.octets());
    selector.extend(at.to_ne_bytes());
    selector.extend([0; 4]);
    // Without an action a match is the verdict "ok"; there has to be a class, of which an ingress knows nothing.
    let options = [attr(TCA_U32_CLASSID, &1u32.to_ne_bytes()), attr(TCA_U32_SEL, &selector)];
    let protocol = u16::try_from(protocol).unwrap_or_default().to_be();
    let header = header(index, FILTERS, NODE, info(priority, protocol));
    let attributes = [text(TCA_KIND, U32), nest(TCA_OPTIONS, &options)];
    request(libc::RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, &header, &attributes)
}
