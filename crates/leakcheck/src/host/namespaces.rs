//! Network namespaces: the caller's, pid 1's, those that a process, thread, open fd or mount in scope holds, and those
//! that the scope names.
//!
//! Each is opened once and held until the snapshot is done, so its inode stands for one namespace meanwhile. Inode
//! numbers are used again soon after; since Linux 6.18 a namespace also has an id that is not, and it is made part of
//! the name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::ioctl::{Getter, ioctl, opcode};

use super::mounts::Table;
use super::processes::Process;
use super::visit::Network;
use crate::entry::{Kind, Unreadable};
use crate::error::{Error, vanished};
use crate::scope::Scope;

#[derive(Debug)]
pub(crate) struct Namespace {
    /// `net:[INODE]`, and `#ID` where the kernel has ids.
    pub name: String,
    /// Who keeps it alive, as far as we looked.
    pub holders: BTreeSet<String>,
    /// The caller's or pid 1's: nobody's leak.
    pub home: bool,
    /// The one that this thread is in.
    pub here: bool,
    pub fd: File,
    /// Filled in by the visit.
    pub network: Network,
    /// Filled in by the visit: `/proc/net/unix` as seen from inside.
    pub unix: String,
}

impl Namespace {
    /// `net:[INODE]`, as a link to it reads.
    pub fn link(&self) -> &str {
        self.name.split('#').next().unwrap_or_default()
    }
}

/// Finds and opens the namespaces.
pub(crate) fn find(
    scope: &Scope,
    processes: &[Process],
    tables: &[Table],
    unreadable: &mut Vec<Unreadable>,
) -> Vec<Namespace> {
    let mut finder = Finder { device: 0, found: BTreeMap::new(), unreadable };
    // Not /proc/self: that is the first thread's, and this thread may be somewhere else.
    finder.add(Path::new("/proc/thread-self/ns/net"), None, "the caller");
    for namespace in finder.found.values_mut() {
        namespace.here = true;
    }
    if super::init_is_open() {
        finder.add(Path::new("/proc/1/ns/net"), None, "pid 1");
    }
    for namespace in finder.found.values_mut() {
        namespace.home = true;
    }
    for path in scope.namespaces() {
        finder.add(path, None, "the scope");
    }
    for process in processes {
        finder.add_process(process);
    }
    for table in tables {
        for mount in table.mounts.iter().filter(|mount| mount.fstype == "nsfs" && mount.in_scope(scope)) {
            let holder = match table.owner.as_str() {
                "" => format!("mount {}", mount.point),
                owner => format!("mount {} in {owner}", mount.point),
            };
            if let Some(inode) = inode_in(&mount.root) {
                finder.add(&table.reach(&mount.point), Some(inode), &holder);
            }
        }
    }
    finder.found.into_values().collect()
}

struct Finder<'a> {
    /// The device number of all namespaces.
    device: u64,
    found: BTreeMap<u64, Namespace>,
    unreadable: &'a mut Vec<Unreadable>,
}

impl Finder<'_> {
    fn add_process(&mut self, process: &Process) {
        let Some(dir) = process.dir() else { return };
        let who = format!("{} ({})", process.id, process.stat.comm);
        let base = PathBuf::from(format!("/proc/{}", process.id.pid));
        let inode = |name: &str| dir.link(name).ok().and_then(|target| inode_in(&target));

        if let Some(inode) = inode("ns/net") {
            self.add(&base.join("ns/net"), Some(inode), &who);
        }
        if process.stat.threads > 1 {
            for thread in dir.numbers("task").unwrap_or_default() {
                let name = format!("task/{thread}/ns/net");
                if let Some(inode) = inode(&name)
                    && self.found.get(&inode).is_none_or(|known| !known.holders.contains(&who))
                {
                    self.add(&base.join(name), Some(inode), &format!("thread {thread} of {who}"));
                }
            }
        }
        for (fd, target) in &process.fds {
            let path = base.join(format!("fd/{fd}"));
            // An fd that was opened through a mount shows that mount's path, or "/" once it is unmounted.
            let inode = inode_in(target).or_else(|| self.inode_behind(target, &path));
            if let Some(inode) = inode {
                self.add(&path, Some(inode), &format!("fd {fd} of {who}"));
            }
        }
    }

    /// The inode of what an fd has open, if it is a namespace; of which kind shows when it is entered.
    fn inode_behind(&self, target: &str, path: &Path) -> Option<u64> {
        if !target.starts_with('/') || target.starts_with("/dev/") {
            return None;
        }
        // DONT_SYNC: a file on a dead network file system must not hold us up.
        let stat = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::INO).ok()?;
        let device = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
        (device == self.device).then_some(stat.stx_ino)
    }

    /// Adds a holder, and opens the namespace if it is a new one. `expected` is the inode that was announced: since
    /// then the path may have come to mean something else.
    fn add(&mut self, path: &Path, expected: Option<u64>, holder: &str) {
        if let Some(known) = expected.and_then(|inode| self.found.get_mut(&inode)) {
            known.holders.insert(holder.to_owned());
            return;
        }
        match self.open(path, expected) {
            Ok((inode, namespace)) => {
                self.found.entry(inode).or_insert(namespace).holders.insert(holder.to_owned());
            }
            Err(Error::Read { source, .. }) if vanished(&source) => {}
            Err(error) => self.unreadable.push(Unreadable::new(Kind::NetNs, &error)),
        }
    }

    fn open(&mut self, path: &Path, expected: Option<u64>) -> Result<(u64, Namespace), Error> {
        let failed = |source: io::Error| Error::read(path, source);
        let fd = File::open(path).map_err(failed)?;
        let stat = fd.metadata().map_err(failed)?;
        let inode = stat.ino();
        if self.device == 0 {
            self.device = stat.dev();
        }
        match expected {
            Some(expected) if expected != inode || stat.dev() != self.device => {
                return Err(Error::OtherNamespace { path: path.into(), expected, found: inode });
            }
            _ => {}
        }
        let name = match unique_id(&fd) {
            Some(id) => format!("net:[{inode}]#{id}"),
            None => format!("net:[{inode}]"),
        };
        let (holders, network, unix) = (BTreeSet::new(), Network::default(), String::new());
        let namespace = Namespace { name, holders, home: false, here: false, fd, network, unix };
        Ok((inode, namespace))
    }
}

/// NS_GET_ID of the kernel's nsfs.h.
const NS_GET_ID: rustix::ioctl::Opcode = opcode::read::<u64>(0xb7, 13);

/// The id of a namespace that is never given to another one; None before Linux 6.18.
fn unique_id(namespace: &File) -> Option<u64> {
    // SAFETY: NS_GET_ID writes one u64 through its argument; on a kernel that does not know it, it fails.
    unsafe { ioctl(namespace, Getter::<NS_GET_ID, u64>::new()) }.ok()
}

/// The number in `net:[4026531833]`.
fn inode_in(target: &str) -> Option<u64> {
    target.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_found_and_marked() {
        let mut unreadable = Vec::new();
        let found = find(&Scope::new(), &[], &[], &mut unreadable);
        assert!(found.iter().all(|namespace| namespace.home));
        assert_eq!(found.iter().filter(|namespace| namespace.here).count(), 1);
        assert_eq!(unreadable, []);
    }

    #[test]
    fn only_network_namespaces_have_such_links() {
        assert_eq!(inode_in("net:[4026531833]"), Some(4_026_531_833));
        assert_eq!(inode_in("mnt:[4026531832]"), None);
        assert_eq!(inode_in("/run/netns/x"), None);
    }

    #[test]
    fn a_path_that_came_to_mean_something_else_is_told() {
        let mut unreadable = Vec::new();
        let mut finder = Finder { device: 0, found: BTreeMap::new(), unreadable: &mut unreadable };
        finder.add(Path::new("/proc/self/ns/net"), Some(1), "x");
        assert!(finder.found.is_empty());
        assert_eq!(unreadable.len(), 1);
    }
}
