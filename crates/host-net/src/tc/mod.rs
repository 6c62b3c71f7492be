//! Traffic control at an interface's ingress hook: the qdisc that opens it, and the filters in it.
//!
//! `tc` calls both qdiscs that open the hook `ffff:`, and minor 0xfff2 of that is the ingress side of either: requests
//! for filters need not know which one it is.

mod filter;
mod ingress;
mod redirect;
mod remove;
mod through;

use netlink_packet_route::tc::{TcHandle, TcHeader};

use crate::Error;
use crate::netlink::Deed;

pub(crate) use filter::marks;
pub(crate) use ingress::ingress_of;
pub use ingress::{IngressRemoval, make_ingress, remove_ingress};
pub use redirect::redirect;
pub use remove::{has_redirect, remove_redirect, remove_stale};
pub(crate) use through::let_through;

/// linux/rtnetlink.h.
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;
/// Length of `struct tcmsg`, bytes.
const HEADER: usize = 20;
/// Where filters stand that see what arrives.
const FILTERS: TcHandle = TcHandle { major: u16::MAX, minor: TcHandle::MIN_INGRESS };

/// `struct tcmsg` for this interface.
fn header(index: u32, parent: TcHandle, handle: u32, info: u32) -> TcHeader {
    TcHeader { index: index.cast_signed(), parent, handle: handle.into(), info, ..TcHeader::default() }
}

/// Whether an interface can have this index at all. Others have a meaning of their own in tc: a block of filters that
/// several interfaces share.
fn possible(index: u32) -> bool {
    (1..=i32::MAX as u32).contains(&index)
}

fn parse(deed: Deed, body: &[u8]) -> Result<(TcHeader, &[u8]), Error> {
    let header = TcHeader::parse(body);
    let header = header.map_err(|e| Error::Answer { doing: deed.doing, reason: e.to_string() })?;
    Ok((header, body.get(HEADER..).unwrap_or_default()))
}
