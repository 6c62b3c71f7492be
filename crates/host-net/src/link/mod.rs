//! The pod's interface: what it is and how it is found.

mod address;
mod device;
mod look;
mod route;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{Mac, Mark};

pub(crate) use device::index_of;
pub use look::look;

/// An interface, with all that a guest behind it has to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address.
    pub mac: Mac,
    /// The longest packet, bytes, without the Ethernet header.
    pub mtu: u32,
    /// Its addresses of global scope, IPv4 first.
    pub addresses: Vec<Address>,
    /// The unicast routes of the main table that lead through it, IPv4 first; not those to link-local networks.
    pub routes: Vec<Route>,
    /// Which qdisc is at its ingress hook.
    pub ingress: Ingress,
    /// The marks of *our* redirect filters at its ingress whose target still exists, in the order in which the kernel
    /// asks them.
    pub tied: Vec<Mark>,
    /// The marks of those whose target is gone: what a dead process left.
    pub stale: Vec<Mark>,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address itself.
    pub ip: IpAddr,
    /// Length of the network's prefix, bits.
    pub prefix_len: u8,
    /// The gateway of the default route of its family through this interface, the one with the lowest metric. (An
    /// IPv4 route may have an IPv6 gateway.)
    pub gateway: Option<IpAddr>,
}

/// A route through an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Network and length of its prefix, bits; `None`: the default route.
    pub destination: Option<(IpAddr, u8)>,
    /// The next hop; `None`: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The lower, the better; 0 where the kernel has none.
    pub metric: u32,
}

/// Which qdisc is at an interface's ingress hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ingress {
    /// None.
    None,
    /// `ingress`: ours or a stranger's.
    Ingress,
    /// `clsact`, which has an egress hook as well: a stranger's.
    Clsact,
}
