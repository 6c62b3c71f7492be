//! The ingress qdisc: without one there is nowhere to put a filter for what arrives.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::tc::{TcHandle, TcHeader};
use rustix::io::Errno;

use super::{TCA_KIND, filter, header, parse, possible};
use crate::message::{attributes, request, string, text, value};
use crate::netlink::{Deed, Item, Netlink};
use crate::{Error, Ingress, lock};

/// The handle that both kinds have, `ffff:`.
const HANDLE: u32 = 0xffff_0000;
const KIND: &str = "ingress";
/// Whose filters are shared with other interfaces.
const TCA_INGRESS_BLOCK: u16 = 13;

/// What became of an ingress qdisc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IngressRemoval {
    /// It was there, and is gone.
    Removed,
    /// There is none of kind `ingress`.
    Absent,
    /// Somebody has a filter in it: it stays.
    InUse,
}

/// Makes an ingress qdisc, exclusively. `false`: there is an ingress or clsact qdisc already, which is somebody's and
/// stays.
pub fn make_ingress(index: u32) -> Result<bool, Error> {
    let deed = Deed { doing: "making an ingress qdisc", index };
    if !possible(index) {
        return Err(Error::Kernel { doing: deed.doing, index, words: None, source: Errno::NODEV });
    }
    let header = header(index, TcHandle::INGRESS, HANDLE, 0);
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    let message = request(libc::RTM_NEWQDISC, flags, &header, &[text(TCA_KIND, KIND)]);
    match Netlink::open()?.change(deed, message) {
        Err(e) if e.errno() == Some(Errno::EXIST) => Ok(false),
        done => done.map(|()| true),
    }
}

/// Removes the ingress qdisc (of kind `ingress`, never `clsact`) unless somebody has a filter in it.
///
/// Others of us wait meanwhile. A stranger who puts his first filter between our look and the removal loses it: the
/// kernel knows no other way.
pub fn remove_ingress(index: u32) -> Result<IngressRemoval, Error> {
    let deed = Deed { doing: "removing the ingress qdisc", index };
    let _lock = lock::hold();
    let mut netlink = Netlink::open()?;
    let Some(qdisc) = look(&mut netlink, index)? else { return Ok(IngressRemoval::Absent) };
    if qdisc.kind != Ingress::Ingress {
        return Ok(IngressRemoval::Absent);
    }
    if qdisc.shared || !filter::list(&mut netlink, index)?.is_empty() {
        return Ok(IngressRemoval::InUse);
    }
    let header = header(index, TcHandle::INGRESS, HANDLE, 0);
    // With the kind the kernel refuses if it has become a clsact since we looked.
    match netlink.change(deed, request(libc::RTM_DELQDISC, 0, &header, &[text(TCA_KIND, KIND)])) {
        Ok(()) => Ok(IngressRemoval::Removed),
        Err(e) if ingress_of(&mut netlink, index)? == Ingress::Ingress => Err(e),
        Err(_) => Ok(IngressRemoval::Absent),
    }
}

/// Which qdisc is at the ingress hook; of an interface that is gone: none.
pub(crate) fn ingress_of(netlink: &mut Netlink, index: u32) -> Result<Ingress, Error> {
    Ok(look(netlink, index)?.map_or(Ingress::None, |qdisc| qdisc.kind))
}

struct Qdisc {
    kind: Ingress,
    shared: bool,
}

fn look(netlink: &mut Netlink, index: u32) -> Result<Option<Qdisc>, Error> {
    let deed = Deed { doing: "listing qdiscs", index };
    // All of the namespace: older kernels do not select by interface.
    let items = netlink.list(deed, request(libc::RTM_GETQDISC, 0, &TcHeader::default(), &[]))?;
    for Item { body, .. } in items.iter().filter(|item| item.kind == libc::RTM_NEWQDISC) {
        let (header, rest) = parse(deed, body)?;
        if header.index != index.cast_signed() || header.parent != TcHandle::INGRESS {
            continue;
        }
        let list = attributes(deed.doing, rest)?;
        let kind = match value(&list, TCA_KIND).map(string).as_deref() {
            Some(KIND) => Ingress::Ingress,
            // What else a kernel may have there is not ours either, and its filters are reached in the same way.
            _ => Ingress::Clsact,
        };
        return Ok(Some(Qdisc { kind, shared: value(&list, TCA_INGRESS_BLOCK).is_some() }));
    }
    Ok(None)
}
