//! A visit to network namespaces, by a thread that ends afterwards: a thread that entered a namespace and goes on
//! would be a helper in the wrong place, and the caller's thread is never moved.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::namespaces::Namespace;
use super::netlink;
use crate::entry::{Kind, Unreadable};
use crate::error::Error;

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
    pub index: i32,
    pub name: String,
    pub alias: String,
    /// `veth`, `tun`, ...; empty for hardware.
    pub kind: String,
    pub up: bool,
    pub loopback: bool,
    /// For a tap: whether somebody has it open.
    pub carrier: bool,
}

/// Visits all of them and fills in what is there. What turns out to be no network namespace is dropped.
pub(crate) fn all(namespaces: &mut Vec<Namespace>, unreadable: &mut Vec<Unreadable>) {
    let visited = std::thread::scope(|scope| {
        let body = || visit_each(namespaces);
        let thread = std::thread::Builder::new().name("leakcheck-netns".into()).spawn_scoped(scope, body);
        thread.map_err(|source| Error::Thread { source })?.join().map_err(|_| Error::ThreadDied)
    });
    match visited {
        Ok(mut missed) => unreadable.append(&mut missed),
        Err(error) => unreadable.push(Unreadable::new(Kind::NetNs, &error)),
    }
}

fn visit_each(namespaces: &mut Vec<Namespace>) -> Vec<Unreadable> {
    let mut missed = Vec::new();
    // First where we are already: entering it again later would ask for a privilege that an ordinary user lacks.
    namespaces.sort_by_key(|namespace| !namespace.here);
    namespaces.retain_mut(|namespace| {
        if !namespace.here {
            match move_into_link_name_space(namespace.fd.as_fd(), Some(LinkNameSpaceType::Network)) {
                Ok(()) => {}
                // A namespace of another kind, found behind an fd.
                Err(Errno::INVAL) => return false,
                Err(source) => {
                    let error = Error::Enter { namespace: namespace.name.clone(), source };
                    missed.push(Unreadable::new(Kind::NetNs, &error));
                    return true;
                }
            }
        }
        match links() {
            Ok(links) => namespace.links = links,
            Err(source) => {
                let error = Error::Netlink { namespace: namespace.name.clone(), source };
                missed.push(Unreadable::new(Kind::Link, &error));
            }
        }
        // Not /proc/net: that is the first thread's.
        match read_lossy("/proc/thread-self/net/unix") {
            Ok(text) => namespace.unix = text,
            Err(error) => missed.push(Unreadable::new(Kind::UnixSocket, &error)),
        }
        true
    });
    missed
}

fn read_lossy(path: &str) -> Result<String, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::read(path, source))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn links() -> std::io::Result<Vec<Link>> {
    let messages = netlink::dump(netlink::RTM_GETLINK, &[0; netlink::IFINFOMSG])?;
    Ok(messages.iter().filter_map(|message| parse(message)).collect())
}

/// An `ifinfomsg` (family, padding, type, index, flags, change mask) and attributes.
fn parse(message: &[u8]) -> Option<Link> {
    let word = |at: usize| message.get(at..)?.first_chunk().copied();
    let flags = u32::from_ne_bytes(word(8)?);
    let mut link = Link {
        index: i32::from_ne_bytes(word(4)?),
        up: flags & IFF_UP != 0,
        loopback: flags & IFF_LOOPBACK != 0,
        ..Link::default()
    };
    for (kind, value) in netlink::attributes(message.get(netlink::IFINFOMSG..)?) {
        match kind {
            IFLA_IFNAME => link.name = netlink::text(value),
            IFLA_IFALIAS => link.alias = netlink::text(value),
            IFLA_CARRIER => link.carrier = value.first() == Some(&1),
            IFLA_LINKINFO => {
                let kind = netlink::attributes(value).find(|(kind, _)| *kind == IFLA_INFO_KIND);
                link.kind = kind.map(|(_, value)| netlink::text(value)).unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(link)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn every_host_has_a_loopback() {
        let links = links().unwrap();
        assert!(links.iter().any(|link| link.name == "lo" && link.loopback && link.index == 1));
    }

    #[test]
    fn a_namespace_of_another_kind_is_dropped() {
        let fd = File::open("/proc/self/ns/uts").unwrap();
        let namespace = Namespace {
            name: "x".into(),
            holders: Default::default(),
            home: false,
            here: false,
            fd,
            links: Vec::new(),
            unix: String::new(),
        };
        let (mut namespaces, mut unreadable) = (vec![namespace], Vec::new());
        all(&mut namespaces, &mut unreadable);
        assert!(namespaces.is_empty());
        assert_eq!(unreadable, []);
    }
}
