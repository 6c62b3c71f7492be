//! The interfaces of the network namespace that this thread is in.

use std::io;

use super::netlink::{self, number};

const IFINFOMSG: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_IFALIAS: u16 = 20;
const IFLA_CARRIER: u16 = 33;
const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub index: u32,
    pub name: String,
    pub alias: String,
    /// `veth`, `tun`, ...; empty for hardware.
    pub kind: String,
    pub up: bool,
    pub loopback: bool,
    /// For a tap: whether somebody has it open.
    pub carrier: bool,
}

impl Link {
    /// `NAME#INDEX`: names are given again, indices much later.
    pub fn id(&self) -> String {
        format!("{}#{}", self.name, self.index)
    }
}

pub(super) fn list() -> io::Result<Vec<Link>> {
    let messages = netlink::dump(netlink::RTM_GETLINK, &[0; IFINFOMSG])?;
    Ok(messages.iter().filter_map(|message| parse(message)).collect())
}

/// An `ifinfomsg` (family, padding, type, index, flags, change mask) and attributes.
fn parse(message: &[u8]) -> Option<Link> {
    let flags = number(message, 8)?;
    let mut link = Link {
        index: number(message, 4)?,
        up: flags & IFF_UP != 0,
        loopback: flags & IFF_LOOPBACK != 0,
        ..Link::default()
    };
    for (kind, value) in netlink::attributes(message.get(IFINFOMSG..)?) {
        match kind {
            IFLA_IFNAME => link.name = netlink::text(value),
            IFLA_IFALIAS => link.alias = netlink::text(value),
            IFLA_CARRIER => link.carrier = value.first() == Some(&1),
            IFLA_LINKINFO => {
                let kind = netlink::attribute(value, IFLA_INFO_KIND);
                link.kind = kind.map(netlink::text).unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_a_loopback() {
        let links = list().unwrap();
        assert!(links.iter().any(|link| link.id() == "lo#1" && link.loopback));
    }
}
