//! Making a filter that sends everything that arrives at one interface out at another.

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use rustix::io::Errno;

use super::filter::{
    ALL_PROTOCOLS, BEFORE_OURS, MATCHALL, MIRRED, TCA_ACT_COOKIE, TCA_ACT_KIND, TCA_ACT_OPTIONS,
    TCA_EGRESS_REDIR, TCA_MATCHALL_ACT, TCA_MIRRED_PARMS, TCA_U32_ACT, U32, info, list,
};
use super::{FILTERS, TCA_KIND, TCA_OPTIONS, header, possible};
use crate::message::{attr, nest, request, text};
use crate::netlink::{Deed, Netlink};
use crate::{Error, Mark, lock};

/// How often somebody may take the priority that we chose.
const ATTEMPTS: usize = 8;
const TC_ACT_STOLEN: u32 = 4;
const TCA_U32_SEL: u16 = 5;
const TC_U32_TERMINAL: u8 = 1;
/// Our node in the table of a u32 classifier: always the same, so that a second one is refused.
const NODE: u32 = 0x800;
const DEED: &str = "making a redirect";

/// Everything that arrives at `from` goes out at `to`.
///
/// The filter comes after all that are there, so strangers see each frame first. It is a `matchall` (which is deleted
/// by its handle from Linux 4.20 on), or where the kernel has none, a `u32` that compares nothing.
pub fn redirect(from: u32, to: u32, mark: &Mark) -> Result<(), Error> {
    let deed = Deed { doing: DEED, index: from };
    if !possible(from) {
        return Err(Error::Kernel { doing: DEED, index: from, words: None, source: Errno::NODEV });
    }
    let _lock = lock::hold();
    let mut netlink = Netlink::open()?;
    let mut attempts = 1..=ATTEMPTS;
    loop {
        let priority = free_priority(&mut netlink, from)?;
        let made = match netlink.change(deed, matchall(from, priority, to, mark)) {
            // The kernel does not know the classifier. (Or not the action: then it says so again.)
            Err(e) if e.errno() == Some(Errno::NOENT) => {
                netlink.change(deed, u32_all(from, priority, to, mark))
            }
            made => made,
        };
        let Err(e) = made else { return Ok(()) };
        let again = match e.errno() {
            // There is a filter at this priority by now, or our node is there.
            Some(Errno::EXIST | Errno::NOSPC) => true,
            // The priority is another classifier's by now; but this errno has other reasons, too.
            Some(Errno::INVAL) => list(&mut netlink, from)?.iter().any(|f| f.priority == priority),
            _ => false,
        };
        if !again || attempts.next().is_none() {
            return Err(e);
        }
    }
}

/// A priority that nobody uses: after all others, or if the last one is taken, the last that is free.
fn free_priority(netlink: &mut Netlink, index: u32) -> Result<u16, Error> {
    let taken: Vec<u16> = list(netlink, index)?.iter().map(|filter| filter.priority).collect();
    choose(&taken).ok_or(Error::NoPriority { index })
}

fn choose(taken: &[u16]) -> Option<u16> {
    let last = taken.iter().copied().fold(BEFORE_OURS, u16::max);
    last.checked_add(1).or_else(|| (BEFORE_OURS + 1..=u16::MAX).rev().find(|p| !taken.contains(p)))
}

/// With a handle of the transaction's own, so that a deletion by handle cannot hit another's.
fn matchall(from: u32, priority: u16, to: u32, mark: &Mark) -> Vec<u8> {
    let options = [nest(TCA_MATCHALL_ACT, &[action(to, mark)])];
    message(from, priority, mark.txid.handle(), MATCHALL, &options)
}

fn u32_all(from: u32, priority: u16, to: u32, mark: &Mark) -> Vec<u8> {
    // struct tc_u32_sel without a single key: what is not compared need not be there, so the shortest frame matches.
    let mut selector = [0; 16];
    selector[0] = TC_U32_TERMINAL;
    let options = [attr(TCA_U32_SEL, &selector), nest(TCA_U32_ACT, &[action(to, mark)])];
    message(from, priority, NODE, U32, &options)
}

fn message(index: u32, priority: u16, handle: u32, kind: &str, options: &[DefaultNla]) -> Vec<u8> {
    let header = header(index, FILTERS, handle, info(priority, ALL_PROTOCOLS));
    let attributes = [text(TCA_KIND, kind), nest(TCA_OPTIONS, options)];
    request(libc::RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, &header, &attributes)
}

/// The action at place 1: redirect to `to`, with the mark as its cookie.
fn action(to: u32, mark: &Mark) -> DefaultNla {
    // struct tc_mirred: index (0: the kernel chooses), capab, action, refcnt, bindcnt, eaction, ifindex.
    let parameters = [0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, to].map(u32::to_ne_bytes).concat();
    nest(
        1,
        &[
            text(TCA_ACT_KIND, MIRRED),
            attr(TCA_ACT_COOKIE, &mark.cookie()),
            nest(TCA_ACT_OPTIONS, &[attr(TCA_MIRRED_PARMS, &parameters)]),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::choose;

    #[test]
    fn priorities() {
        assert_eq!(choose(&[]), Some(0xc001));
        assert_eq!(choose(&[1, 0xc000]), Some(0xc001));
        assert_eq!(choose(&[0xd000, 5]), Some(0xd001));
        assert_eq!(choose(&[0xffff, 0xfffe]), Some(0xfffd));
        assert_eq!(choose(&(0xc001..=0xffff).collect::<Vec<_>>()), None);
    }
}
