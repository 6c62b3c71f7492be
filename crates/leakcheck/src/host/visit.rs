//! A visit to network namespaces, by a thread that ends afterwards: a thread that entered a namespace and goes on
//! would be a helper in the wrong place, and the caller's thread is never moved.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::address::Address;
use super::link::Link;
use super::namespaces::Namespace;
use super::traffic::{Filter, Qdisc};
use super::{address, link, traffic};
use crate::entry::{Kind, Unreadable};
use crate::error::Error;

/// What is in a network namespace.
#[derive(Debug, Default)]
pub(crate) struct Network {
    pub links: Vec<Link>,
    pub addresses: Vec<Address>,
    pub qdiscs: Vec<Qdisc>,
    pub filters: Vec<Filter>,
}

impl Network {
    /// The interface of this index.
    pub fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }
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
        let (network, name) = (&mut namespace.network, &namespace.name);
        let mut miss = |kind: Kind, source: std::io::Error| {
            let error = Error::Netlink { namespace: name.clone(), source };
            missed.push(Unreadable::new(kind, &error));
        };
        match link::list() {
            Ok(links) => network.links = links,
            Err(source) => miss(Kind::Link, source),
        }
        match address::list() {
            Ok(addresses) => network.addresses = addresses,
            Err(source) => miss(Kind::Address, source),
        }
        match traffic::list() {
            Ok((qdiscs, filters)) => (network.qdiscs, network.filters) = (qdiscs, filters),
            Err(source) => miss(Kind::Filter, source),
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

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_namespace_of_another_kind_is_dropped() {
        let fd = File::open("/proc/self/ns/uts").unwrap();
        let namespace = Namespace {
            name: "x".into(),
            holders: Default::default(),
            home: false,
            here: false,
            fd,
            network: Network::default(),
            unix: String::new(),
        };
        let (mut namespaces, mut unreadable) = (vec![namespace], Vec::new());
        all(&mut namespaces, &mut unreadable);
        assert!(namespaces.is_empty());
        assert_eq!(unreadable, []);
    }
}
