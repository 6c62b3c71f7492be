//! One thing that was seen on the host: what sort of thing, who it is, and words for a reader.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::scope::Scope;

/// The sorts of things that are looked at. The order is the order of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A process, zombies included; kernel threads are not looked at.
    Process,
    /// A network namespace other than the host's.
    #[serde(rename = "netns")]
    NetNs,
    /// A network interface other than a loopback.
    Link,
    /// An address of a network interface, without those that the kernel gives by itself.
    Address,
    /// A queueing discipline of a network interface, without the kernel's defaults.
    Qdisc,
    /// A traffic control filter.
    Filter,
    /// A mount in any mount table that was read.
    Mount,
    /// A directory of a cgroup hierarchy.
    Cgroup,
    /// A named unix socket, or a socket file.
    UnixSocket,
    /// A file, folder, fifo, symlink or node.
    File,
    /// A loop device with a backing file.
    LoopDevice,
    /// A process that is not ours and has something of ours open, or lives in a network namespace of ours.
    Holder,
    /// An open descriptor of a process that the scope looks into.
    Fd,
    /// A thread of a process that the scope looks into.
    Thread,
    /// A child that a process that the scope looks into has not waited for.
    Zombie,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 15] = [
        Self::Process,
        Self::NetNs,
        Self::Link,
        Self::Address,
        Self::Qdisc,
        Self::Filter,
        Self::Mount,
        Self::Cgroup,
        Self::UnixSocket,
        Self::File,
        Self::LoopDevice,
        Self::Holder,
        Self::Fd,
        Self::Thread,
        Self::Zombie,
    ];

    /// The word for one of them.
    pub fn singular(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::NetNs => "network namespace",
            Self::Link => "link",
            Self::Address => "address",
            Self::Qdisc => "qdisc",
            Self::Filter => "filter",
            Self::Mount => "mount",
            Self::Cgroup => "cgroup",
            Self::UnixSocket => "unix socket",
            Self::File => "file",
            Self::LoopDevice => "loop device",
            Self::Holder => "holder",
            Self::Fd => "fd",
            Self::Thread => "thread",
            Self::Zombie => "zombie",
        }
    }

    /// The word for any other number of them.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Process => "processes",
            Self::NetNs => "network namespaces",
            Self::Link => "links",
            Self::Address => "addresses",
            Self::Qdisc => "qdiscs",
            Self::Filter => "filters",
            Self::Mount => "mounts",
            Self::Cgroup => "cgroups",
            Self::UnixSocket => "unix sockets",
            Self::File => "files",
            Self::LoopDevice => "loop devices",
            Self::Holder => "holders",
            Self::Fd => "fds",
            Self::Thread => "threads",
            Self::Zombie => "zombies",
        }
    }
}

/// One thing on the host. Two entries are the same thing iff `kind` and `name` are equal: `name` is an identity
/// (a process is `PID@START`, a mount `/path#ID`), `detail` is only for the reader and may change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// What sort of thing.
    pub kind: Kind,
    /// Who it is, never used again for something else where the kernel offers such a number.
    pub name: String,
    /// Words for the reader: command line, file system, holders.
    pub detail: String,
}

/// Something that could not be looked at, so that nothing is known about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Unreadable {
    /// What sort of thing would have been found there.
    pub kind: Kind,
    /// Where and why.
    pub reason: String,
    /// When it came to be, in clock ticks since boot, if that is known.
    pub born: Option<u64>,
}

impl Unreadable {
    pub(crate) fn new(kind: Kind, error: &Error) -> Self {
        let born = if let Error::Ending { born, .. } = error { Some(*born) } else { None };
        Self { kind, reason: error.to_string(), born }
    }
}

/// What the look at one kind brought.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    kind: Kind,
    scope: &'a Scope,
    /// Names and details of what is in scope.
    pub entries: BTreeMap<String, String>,
    /// How many things were examined, strangers included: "0 leaked" means nothing without it.
    pub looked_at: usize,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
}

impl<'a> Found<'a> {
    pub fn new(kind: Kind, scope: &'a Scope) -> Self {
        Self { kind, scope, entries: BTreeMap::new(), looked_at: 0, unreadable: Vec::new() }
    }

    /// Adds something that is in scope, unless the scope excepts its name.
    pub fn add(&mut self, name: String, detail: String) {
        if !self.scope.excepts(&name) {
            self.entries.insert(name, detail);
        }
    }

    /// Adds something that could not be read.
    pub fn miss(&mut self, error: &Error) {
        self.unreadable.push(Unreadable::new(self.kind, error));
    }
}
