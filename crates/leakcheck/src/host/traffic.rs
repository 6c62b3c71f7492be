//! Traffic control in the network namespace that this thread is in: qdiscs, and the filters that hang on them.
//!
//! Filters are listed one hook at a time. Those on a *class* of a classful qdisc, and in blocks that interfaces share,
//! are not looked for: nothing of ours makes any, and they go with their qdisc.

use std::io;

use rustix::io::Errno;

use super::netlink::{self, number};
use crate::ours;

/// `tcmsg`: family and padding, index, handle, parent, info.
const TCMSG: usize = 20;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;
/// Where a classifier keeps its actions, by its kind (linux/pkt_cls.h).
const ACTIONS: [(&str, u16); 3] = [("matchall", 2), ("flower", 3), ("u32", 7)];
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_ACT_COOKIE: u16 = 6;
const TCA_MIRRED_PARMS: u16 = 2;
/// `tc_mirred`: five numbers that every action has, what it does, the target's index.
const MIRRED_TARGET: usize = 24;
/// The two hooks of `ingress` and `clsact`, which are both called `ffff:`.
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;

/// A queueing discipline that somebody made: the kernel's defaults have no handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Qdisc {
    /// The interface.
    pub index: u32,
    /// `ingress`, `fq_codel`, ...
    pub kind: String,
    pub handle: u32,
}

/// A filter, or a classifier without any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    /// The interface.
    pub index: u32,
    pub kind: String,
    /// Where it hangs: `ingress`, `egress`, or a qdisc's handle.
    pub hook: String,
    pub priority: u32,
    /// The EtherType, in host byte order.
    pub protocol: u16,
    pub chain: u32,
    /// 0: the classifier is there, without a filter.
    pub handle: u32,
    /// The index of the interface that frames are sent to; 0: of one that is gone.
    pub target: Option<u32>,
    /// The cookie of its action, if that is text.
    pub cookie: String,
    /// Whether the cookie is a mark of ours.
    pub marked: bool,
}

/// What is there. A kernel without traffic control has nothing.
pub(super) fn list() -> io::Result<(Vec<Qdisc>, Vec<Filter>)> {
    let messages = dump(netlink::RTM_GETQDISC, &[0; TCMSG])?;
    let qdiscs: Vec<Qdisc> = messages.iter().filter_map(|message| parse_qdisc(message)).collect();
    let mut filters = Vec::new();
    for qdisc in &qdiscs {
        let hooks: &[u32] = match qdisc.kind.as_str() {
            "ingress" => &[INGRESS],
            "clsact" => &[INGRESS, EGRESS],
            _ => &[qdisc.handle],
        };
        for &hook in hooks {
            let mut body = [0; TCMSG];
            body[4..8].copy_from_slice(&qdisc.index.to_ne_bytes());
            body[12..16].copy_from_slice(&hook.to_ne_bytes());
            let messages = dump(netlink::RTM_GETTFILTER, &body)?;
            let all: Vec<_> = messages.iter().filter_map(|message| parse_filter(message, hook)).collect();
            filters.extend(all.iter().filter(|filter| filter.counts(&all)).cloned());
        }
    }
    Ok((qdiscs, filters))
}

fn dump(request: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    match netlink::dump(request, body) {
        // The qdisc or its interface went meanwhile, or the kernel knows none.
        Err(error)
            if matches!(
                Errno::from_io_error(&error),
                Some(Errno::NODEV | Errno::NOENT | Errno::OPNOTSUPP)
            ) =>
        {
            Ok(Vec::new())
        }
        other => other,
    }
}

fn parse_qdisc(message: &[u8]) -> Option<Qdisc> {
    let kind = netlink::text(netlink::attribute(message.get(TCMSG..)?, TCA_KIND)?);
    let handle = number(message, 8)?;
    (handle != 0).then_some(Qdisc { index: number(message, 4)?, kind, handle })
}

fn parse_filter(message: &[u8], hook: u32) -> Option<Filter> {
    let body = message.get(TCMSG..)?;
    let kind = netlink::text(netlink::attribute(body, TCA_KIND)?);
    let info = number(message, 16)?;
    let options = netlink::attribute(body, TCA_OPTIONS).unwrap_or_default();
    let place = ACTIONS.iter().find(|(name, _)| *name == kind).map(|(_, place)| *place);
    let actions = place.and_then(|place| netlink::attribute(options, place)).unwrap_or_default();
    let mut filter = Filter {
        index: number(message, 4)?,
        kind,
        hook: match hook {
            INGRESS => "ingress".to_owned(),
            EGRESS => "egress".to_owned(),
            handle => handle_text(handle),
        },
        priority: info >> 16,
        protocol: u16::from_be((info & 0xffff) as u16),
        chain: netlink::attribute(body, TCA_CHAIN).and_then(|chain| number(chain, 0)).unwrap_or(0),
        handle: number(message, 8)?,
        target: None,
        cookie: String::new(),
        marked: false,
    };
    for (_, action) in netlink::attributes(actions) {
        if let Some(cookie) = netlink::attribute(action, TCA_ACT_COOKIE) {
            filter.marked |= ours::is_mark(cookie);
            filter.cookie = netlink::text(cookie);
        }
        if netlink::attribute(action, TCA_ACT_KIND).map(netlink::text).as_deref() == Some("mirred") {
            let mirred = netlink::attribute(action, TCA_ACT_OPTIONS).unwrap_or_default();
            let parameters = netlink::attribute(mirred, TCA_MIRRED_PARMS).unwrap_or_default();
            filter.target = number(parameters, MIRRED_TARGET);
        }
    }
    Some(filter)
}

impl Filter {
    /// The kernel's list has a line for each classifier, for each table of a u32 classifier, and for each filter. Only
    /// filters count, and a classifier that has none.
    fn counts(&self, all: &[Self]) -> bool {
        let place = |filter: &Self| (filter.chain, filter.priority, filter.protocol);
        match self.handle {
            0 => !all.iter().any(|other| place(other) == place(self) && !other.is_line_only()),
            _ => !self.is_line_only(),
        }
    }

    fn is_line_only(&self) -> bool {
        self.handle == 0 || (self.kind == "u32" && self.handle & 0xf_ffff == 0)
    }
}

/// `ffff:`, `800:1`.
pub(crate) fn handle_text(handle: u32) -> String {
    match handle & 0xffff {
        0 => format!("{:x}:", handle >> 16),
        minor => format!("{:x}:{minor:x}", handle >> 16),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: &str, priority: u32, handle: u32) -> Filter {
        Filter {
            index: 1,
            kind: kind.into(),
            hook: "ingress".into(),
            priority,
            protocol: 3,
            chain: 0,
            handle,
            target: None,
            cookie: String::new(),
            marked: false,
        }
    }

    #[test]
    fn a_classifier_counts_if_it_has_no_filter() {
        let all = [
            line("u32", 7, 0),
            line("u32", 7, 0x8000_0000),
            line("u32", 7, 0x8000_0800),
            line("u32", 8, 0),
            line("u32", 8, 0x8010_0000),
            line("matchall", 9, 0),
            line("matchall", 9, 1),
        ];
        let counted: Vec<_> = all.iter().filter(|filter| filter.counts(&all)).collect();
        assert_eq!(counted, [&all[2], &all[3], &all[6]]);
    }

    #[test]
    fn handles_are_written_as_tc_writes_them() {
        assert_eq!(handle_text(0xffff_0000), "ffff:");
        assert_eq!(handle_text(0x77_0001), "77:1");
    }
}
