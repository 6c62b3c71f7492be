//! Reading the filters at an interface's ingress, and telling ours from all others.

use netlink_packet_route::tc::TcHeader;
use rustix::io::Errno;

use super::{FILTERS, TCA_CHAIN, TCA_KIND, TCA_OPTIONS, header, parse, possible};
use crate::message::{attributes, number, request, string, value};
use crate::netlink::{Deed, Netlink};
use crate::{Error, Mark};

pub(super) const MATCHALL: &str = "matchall";
pub(super) const U32: &str = "u32";
pub(super) const MIRRED: &str = "mirred";
/// linux/pkt_cls.h, and linux/tc_act/tc_mirred.h: where each classifier has its actions, and what those have.
pub(super) const TCA_MATCHALL_ACT: u16 = 2;
pub(super) const TCA_U32_ACT: u16 = 7;
pub(super) const TCA_ACT_KIND: u16 = 1;
pub(super) const TCA_ACT_OPTIONS: u16 = 2;
pub(super) const TCA_ACT_COOKIE: u16 = 6;
pub(super) const TCA_MIRRED_PARMS: u16 = 2;
pub(super) const TCA_EGRESS_REDIR: u32 = 1;
/// Length of what the parameters of every action begin with (`tc_gen`), bytes.
const GENERIC: usize = 20;
/// ETH_P_ALL as it stands in tcm_info: in network byte order.
pub(super) const ALL_PROTOCOLS: u16 = (libc::ETH_P_ALL as u16).to_be();
/// Where the kernel begins (downwards) to give priorities to filters that ask for none. Ours come after it.
pub(super) const BEFORE_OURS: u16 = 0xc000;

/// One line of the kernel's list: a filter, a table of a u32 classifier, or (handle 0) a priority with its classifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) kind: String,
    pub(super) priority: u16,
    /// In network byte order.
    pub(super) protocol: u16,
    pub(super) chain: u32,
    pub(super) handle: u32,
    pub(super) ours: Option<Ours>,
}

/// What makes a filter ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ours {
    pub(super) mark: Mark,
    /// Where it redirects to; 0: that interface is gone.
    pub(super) target: u32,
}

impl Filter {
    /// Whether both belong to the same classifier: what a deletion without a handle deletes.
    pub(super) fn beside(&self, other: &Self) -> bool {
        (self.chain, self.priority, self.protocol) == (other.chain, other.priority, other.protocol)
    }

    pub(super) fn info(&self) -> u32 {
        info(self.priority, self.protocol)
    }
}

pub(super) fn info(priority: u16, protocol: u16) -> u32 {
    u32::from(priority) << 16 | u32::from(protocol)
}

/// All filters at the ingress, in the order in which the kernel asks them. Of an interface that is gone, or has no
/// ingress qdisc: none.
pub(super) fn list(netlink: &mut Netlink, index: u32) -> Result<Vec<Filter>, Error> {
    if !possible(index) {
        return Ok(Vec::new());
    }
    let deed = Deed { doing: "listing filters", index };
    let message = request(libc::RTM_GETTFILTER, 0, &header(index, FILTERS, 0, 0), &[]);
    let items = match netlink.list(deed, message) {
        // The last: a kernel without classifiers.
        Err(e) if matches!(e.errno(), Some(Errno::NODEV | Errno::NOENT | Errno::OPNOTSUPP)) => Vec::new(),
        items => items?,
    };
    let news = items.iter().filter(|item| item.kind == libc::RTM_NEWTFILTER);
    news.map(|item| filter(deed, &item.body)).collect()
}

/// The marks of our filters: those whose target still exists, and those whose target is gone.
pub(crate) fn marks(netlink: &mut Netlink, index: u32) -> Result<(Vec<Mark>, Vec<Mark>), Error> {
    let ours = list(netlink, index)?.into_iter().filter_map(|filter| filter.ours);
    let (tied, stale): (Vec<Ours>, Vec<Ours>) = ours.partition(|ours| ours.target != 0);
    let marks = |ours: Vec<Ours>| ours.into_iter().map(|ours| ours.mark).collect();
    Ok((marks(tied), marks(stale)))
}

fn filter(deed: Deed, body: &[u8]) -> Result<Filter, Error> {
    let (TcHeader { info, handle, .. }, rest) = parse(deed, body)?;
    let list = attributes(deed.doing, rest)?;
    let mut filter = Filter {
        kind: value(&list, TCA_KIND).map(string).unwrap_or_default(),
        priority: (info >> 16) as u16,
        protocol: info as u16,
        chain: value(&list, TCA_CHAIN).and_then(number).unwrap_or(0),
        handle: handle.into(),
        ours: None,
    };
    filter.ours = value(&list, TCA_OPTIONS).and_then(|options| ours(&filter, options));
    Ok(filter)
}

/// A filter is ours if it looks like ours in every respect and its only action carries a mark. The mark alone would
/// not do: a stranger's filter can use an action of ours by its number, and then shows our cookie. What cannot be
/// understood is not ours.
fn ours(filter: &Filter, options: &[u8]) -> Option<Ours> {
    let list = |bytes| attributes("reading a filter", bytes).ok();
    let place = match filter.kind.as_str() {
        MATCHALL => TCA_MATCHALL_ACT,
        U32 => TCA_U32_ACT,
        _ => return None,
    };
    if filter.chain != 0 || filter.protocol != ALL_PROTOCOLS || filter.priority <= BEFORE_OURS {
        return None;
    }
    let options = list(options)?;
    let actions = list(value(&options, place)?)?;
    let [(_, action)] = actions.as_slice() else { return None };
    let action = list(action)?;
    if string(value(&action, TCA_ACT_KIND)?) != MIRRED {
        return None;
    }
    let mark = Mark::of_cookie(value(&action, TCA_ACT_COOKIE)?)?;
    let mirred = list(value(&action, TCA_ACT_OPTIONS)?)?;
    // struct tc_mirred: the five numbers that every action has, then what it does, then to which interface.
    let parameters = value(&mirred, TCA_MIRRED_PARMS)?;
    let deed = number(parameters.get(GENERIC..GENERIC + 4)?)?;
    let target = number(parameters.get(GENERIC + 4..GENERIC + 8)?)?;
    (deed == TCA_EGRESS_REDIR).then_some(Ours { mark, target })
}
