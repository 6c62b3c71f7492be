//! Removing redirect filters of ours, and only those.

use rustix::io::Errno;

use super::filter::{Filter, Ours, U32, list};
use super::{FILTERS, TCA_KIND, header};
use crate::message::{request, text};
use crate::netlink::{Deed, Netlink};
use crate::{Error, Mark, Txid, lock};

/// How often the list is read again when a filter vanished, or its place changed, under our hands.
const ATTEMPTS: usize = 4;

/// Removes the redirect filters at an interface that this transaction made, whatever their flag; all others stay. How
/// many were removed.
pub fn remove_redirect(index: u32, txid: &Txid) -> Result<usize, Error> {
    Ok(remove(index, |ours| ours.mark.txid == *txid)?.len())
}

/// Removes our redirect filters whose target is gone (a tap that died with its process): such a filter drops all that
/// arrives. The marks of those that were removed.
pub fn remove_stale(index: u32) -> Result<Vec<Mark>, Error> {
    remove(index, |ours| ours.target == 0)
}

/// Whether a filter that this transaction made is at the interface.
pub fn has_redirect(index: u32, txid: &Txid) -> Result<bool, Error> {
    let filters = list(&mut Netlink::open()?, index)?;
    Ok(filters.iter().any(|filter| filter.ours.is_some_and(|ours| ours.mark.txid == *txid)))
}

fn remove(index: u32, which: impl Fn(Ours) -> bool) -> Result<Vec<Mark>, Error> {
    let _lock = lock::hold();
    let mut netlink = Netlink::open()?;
    let mut removed = Vec::new();
    let mut refused = None;
    for _ in 0..ATTEMPTS {
        let all = list(&mut netlink, index)?;
        let mut doomed = all.iter().filter(|f| f.ours.is_some_and(&which)).peekable();
        let Some(first) = doomed.peek() else { return Ok(removed) };
        let still = Error::StillThere { index, priority: first.priority };
        for filter in doomed {
            match netlink.change(Deed { doing: "deleting a redirect", index }, deletion(index, filter, &all))
            {
                Ok(()) => removed.extend(filter.ours.map(|ours| ours.mark)),
                // Gone, with its interface, its qdisc or alone: the next look tells.
                Err(e) if matches!(e.errno(), Some(Errno::NOENT | Errno::NODEV | Errno::INVAL)) => {
                    refused = Some(e);
                }
                Err(e) => return Err(e),
            }
        }
        refused.get_or_insert(still);
    }
    match refused {
        Some(e) if list(&mut netlink, index)?.iter().any(|f| f.ours.is_some_and(&which)) => Err(e),
        _ => Ok(removed),
    }
}

/// The request that deletes this filter.
///
/// By its handle, and the kernel takes the classifier away with its last filter. Except u32: its tables hang together
/// across priorities, and an emptied one stays as long as there is any u32 filter at this hook. So where nothing but
/// ours is in it, the classifier goes as a whole, in one step: after it nothing would be left to show that it is ours.
fn deletion(index: u32, filter: &Filter, all: &[Filter]) -> Vec<u8> {
    let alone = || {
        let beside = all.iter().filter(|other| other.beside(filter));
        let (tables, nodes): (Vec<_>, Vec<_>) =
            beside.filter(|other| other.handle != 0).partition(|f| f.handle & 0xfff == 0);
        tables.len() <= 1 && nodes == [filter]
    };
    let handle = if filter.kind == U32 && alone() { 0 } else { filter.handle };
    let header = header(index, FILTERS, handle, filter.info());
    request(libc::RTM_DELTFILTER, 0, &header, &[text(TCA_KIND, &filter.kind)])
}
