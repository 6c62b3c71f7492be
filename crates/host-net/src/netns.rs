//! Network namespaces: which one it is, finding it again, entering it.
//!
//! A namespace is known by device and inode of its file in nsfs. The inode is unique among *living* namespaces only:
//! the kernel may give it to another one later, so an identity is worth as much as the knowledge that its namespace
//! lived on.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fstat, fstatfs, open};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The namespace of the calling thread.
pub(crate) const CURRENT: &str = "/proc/thread-self/ns/net";
/// statfs(2)'s f_type of the kernel's namespace files (linux/magic.h).
const NSFS_MAGIC: u64 = 0x6e73_6673;
/// _IO(0xb7, 3) of linux/nsfs.h: which CLONE_NEW flag makes such a namespace.
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;

/// Which network namespace it is: device and inode of its nsfs file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NetnsId {
    /// The device number of nsfs.
    pub dev: u64,
    /// The inode number, the one in `net:[4026531840]`.
    pub ino: u64,
}

impl NetnsId {
    /// The namespace of the calling thread.
    pub fn current() -> Result<Self, Error> {
        let id = Self::of(Path::new(CURRENT))?;
        id.ok_or_else(|| Error::io("looking at", CURRENT)(Errno::NOENT))
    }

    /// The namespace at a path; `None`: the path is not there, or is no network namespace.
    pub fn of(path: &Path) -> Result<Option<Self>, Error> {
        match open_netns(path) {
            Ok(found) => Ok(found.map(|(_, id)| id)),
            // ESRCH: the process to which a path in /proc belongs is gone. ENXIO: a device or fifo without a driver or
            // writer, and sockets.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::SRCH | Errno::NXIO) => Ok(None),
            Err(e) => Err(Error::io("looking at", path)(e)),
        }
    }
}

/// Opens a path if it is a network namespace, and says which one was really opened.
fn open_netns(path: &Path) -> Result<Option<(OwnedFd, NetnsId)>, Errno> {
    // It may be anything: nothing is waited for, and no terminal is acquired.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = open(path, flags, Mode::empty())?;
    if u64::try_from(fstatfs(&file)?.f_type).ok() != Some(NSFS_MAGIC) {
        return Ok(None);
    }
    // SAFETY: the descriptor is open, and this request takes no argument and writes nowhere.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
    if kind != libc::CLONE_NEWNET {
        return Ok(None);
    }
    let stat = fstat(&file)?;
    Ok(Some((file, NetnsId { dev: stat.st_dev, ino: stat.st_ino })))
}

/// Finds a namespace: by the hints, else as the namespace of any process, else in any mount of nsfs that this mount
/// namespace knows. `None`: nobody has it, it is gone. (One that is held by a thread other than its process's first
/// one, by an open descriptor, or by a mount elsewhere is not found.)
///
/// A path is only a way to look: what counts is the identity of what was opened.
pub fn find(id: NetnsId, hints: &[PathBuf]) -> Result<Option<OwnedFd>, Error> {
    // What cannot be opened is not it: processes end while they are looked at, and hints grow old.
    let try_path = |path: &Path| match open_netns(path) {
        Ok(Some((file, found))) if found == id => Some(file),
        _ => None,
    };
    if let Some(file) = hints.iter().find_map(|hint| try_path(hint)) {
        return Ok(Some(file));
    }
    let name = format!("net:[{}]", id.ino);
    for process in processes()? {
        let path = process.join("ns/net");
        // Cheaper than opening each: most processes share one namespace.
        if fs::read_link(&path).is_ok_and(|link| link.as_os_str() == name.as_str())
            && let Some(file) = try_path(&path)
        {
            return Ok(Some(file));
        }
    }
    let mounts = "/proc/self/mountinfo";
    let table = fs::read(mounts).map_err(|e| Error::io("reading", mounts)(errno(&e)))?;
    Ok(mount_points(&table, &name).iter().find_map(|point| try_path(point)))
}

fn processes() -> Result<Vec<PathBuf>, Error> {
    let failed = |e: std::io::Error| Error::io("reading", "/proc")(errno(&e));
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit())) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The mount points of the namespace of this name (`net:[INODE]`) in a mountinfo table (proc(5)).
fn mount_points(table: &[u8], name: &str) -> Vec<PathBuf> {
    use std::os::unix::ffi::OsStringExt;

    let lines = table.split(|b| *b == b'\n');
    let found = lines.filter_map(|line| {
        let mut words = line.split(|b| *b == b' ').skip(3);
        let (root, point) = (words.next()?, words.next()?);
        (root == name.as_bytes()).then(|| PathBuf::from(std::ffi::OsString::from_vec(unescape(point))))
    });
    found.collect()
}

/// The kernel writes blanks, tabs, newlines and backslashes as a backslash and three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.first_chunk::<3>().filter(|d| *first == b'\\' && d.iter().all(u8::is_ascii_digit));
        let code =
            digits.and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 8).ok());
        out.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    out
}

fn errno(e: &std::io::Error) -> Errno {
    Errno::from_io_error(e).unwrap_or(Errno::IO)
}

/// Moves the calling thread into a network namespace; only for a process with one thread, since the others stay.
pub fn enter(netns: &OwnedFd) -> Result<(), Error> {
    use std::os::fd::AsFd;

    move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|source| Error::Enter { source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_mounts() {
        let table = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw\n\
            40 35 0:4 net:[4026531840] /run/netns/a\\040b\\134 rw shared:2 - nsfs nsfs rw\n\
            41 35 0:4 net:[402653184] /run/netns/c rw - nsfs nsfs rw\n\
            short line\n";
        assert_eq!(mount_points(table, "net:[4026531840]"), [PathBuf::from("/run/netns/a b\\")]);
        assert!(mount_points(table, "net:[1]").is_empty());
    }

    #[test]
    fn what_is_no_network_namespace() {
        for path in ["/proc/self/ns/mnt", "/nowhere", "/proc/self/stat/x", "/dev/null", "/proc/0/ns/net", "/"]
        {
            assert_eq!(NetnsId::of(Path::new(path)).unwrap(), None, "{path}");
        }
        assert_eq!(NetnsId::of(Path::new("/proc/self/ns/net")).unwrap(), Some(NetnsId::current().unwrap()));
    }
}
