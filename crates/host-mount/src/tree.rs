//! A root file system for a program that needs it in the host's mount table: an OCI runtime.
//!
//! It is mounted apart first, by a thread in a mount namespace of its own that is gone at once, and held by nothing but
//! a descriptor: a lease. So it can be looked into before anybody has decided what becomes of it, and who it is - the
//! mount's id, which the kernel gives - can be written down before it is shown at its place. There it is no lease any
//! more. It is taken away again only if what stands there is the very mount that was written down; never lazily.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    fs::{AtFlags, CWD, StatxFlags, statx},
    io::Errno,
    mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount},
    thread::UnshareFlags,
};
use serde::{Deserialize, Serialize};

use crate::{Error, RootfsMount, detach_from_host, fail, mount_rootfs};

/// `STATX_MNT_ID_UNIQUE` (Linux 6.8): an id that is never used again.
const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
/// How long to wait before a mount that is in use is tried again.
const PAUSE: Duration = Duration::from_millis(5);

/// A root file system that nobody sees but who has this.
#[derive(Debug)]
pub struct Tree {
    top: OwnedFd,
    id: MountId,
}

/// Which mount it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountId {
    /// The id as `/proc/self/mountinfo` shows it, which is used again when it is gone.
    pub id: u64,
    /// The id that is not, where the kernel has it.
    pub unique: Option<u64>,
    /// The device of its file system.
    pub dev: u64,
}

/// A mount of ours in the host's table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounted {
    /// Which it is.
    pub id: MountId,
    /// Where.
    pub place: PathBuf,
}

impl Tree {
    /// Mounts `mounts` as [`mount_rootfs`] does. `folder` is any directory: it is mounted over where only that thread
    /// sees it.
    pub fn mount(mounts: &[RootfsMount], folder: &Path) -> Result<Self, Error> {
        // A thread that has changed its namespace is of no other use.
        let mounting = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("mount".to_owned());
            thread.spawn_scoped(scope, || apart(mounts, folder)).map(|thread| thread.join())
        });
        let failed = fail("mount the container's root file system apart from", folder);
        let top = match mounting {
            Ok(Ok(top)) => top?,
            Ok(Err(_)) => return Err(failed(Errno::IO)),
            Err(e) => return Err(failed(Errno::from_io_error(&e).unwrap_or(Errno::AGAIN))),
        };
        let id = MountId::of_fd(top.as_fd()).map_err(failed)?;
        Ok(Self { top, id })
    }

    /// Which mount it is.
    pub fn id(&self) -> MountId {
        self.id
    }

    /// Shows it at `place`.
    pub fn attach(&self, place: &Path) -> Result<(), Error> {
        move_mount(&self.top, c"", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(fail("mount the container's root file system on", place))
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.top.as_fd()
    }
}

fn apart(mounts: &[RootfsMount], folder: &Path) -> Result<OwnedFd, Error> {
    let failed = fail("mount the container's root file system apart from", folder);
    // SAFETY: it speaks of this thread's working directory and mount namespace, which nobody else shares from here on;
    // it lets go of no descriptor.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.map_err(&failed)?;
    detach_from_host()?;
    mount_rootfs(mounts, folder)?;
    let how = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, folder, how).map_err(failed)
}

impl MountId {
    fn of_fd(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        Self::look(fd, "", AtFlags::EMPTY_PATH)
    }

    /// The mount that stands on top at `path`; `None`: there is no such path.
    fn at(path: &Path) -> Result<Option<Self>, Errno> {
        match Self::look(CWD, path, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) {
            Ok(id) => Ok(Some(id)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn look(dir: impl AsFd, path: impl rustix::path::Arg + Copy, flags: AtFlags) -> Result<Self, Errno> {
        let plain = statx(&dir, path, flags, StatxFlags::MNT_ID)?;
        if plain.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
            return Err(Errno::OPNOTSUPP);
        }
        let unique = statx(&dir, path, flags, UNIQUE)?;
        Ok(Self {
            id: plain.stx_mnt_id,
            unique: (unique.stx_mask & UNIQUE.bits() != 0).then_some(unique.stx_mnt_id),
            dev: rustix::fs::makedev(plain.stx_dev_major, plain.stx_dev_minor),
        })
    }
}

impl Mounted {
    /// Whether it is there, on top of its place or hidden by another mount.
    pub fn is_there(&self) -> Result<bool, Error> {
        if self.is_on_top()? {
            return Ok(true);
        }
        let table = Line::all().map_err(fail("look below", &self.place))?;
        // Of an id that is never used again the kernel tells only where the mount is on top; the other one may be
        // somebody else's by now, but hardly at the same place.
        Ok(table.iter().any(|line| line.id == self.id.id && line.place == self.canonical()))
    }

    /// The place as the kernel shows it: without links on the way to it.
    fn canonical(&self) -> PathBuf {
        let parent = self.place.parent().and_then(|parent| fs::canonicalize(parent).ok());
        match (parent, self.place.file_name()) {
            (Some(parent), Some(name)) => parent.join(name),
            _ => self.place.clone(),
        }
    }

    fn is_on_top(&self) -> Result<bool, Error> {
        let now = MountId::at(&self.place).map_err(fail("look at", &self.place))?;
        Ok(now == Some(self.id))
    }

    /// Takes it away, with what is mounted below it. `false`: it is not there. What is in use, or hidden by another
    /// mount, is tried again until the deadline, and is an error then.
    pub fn detach(&self, deadline: Instant) -> Result<bool, Error> {
        let (mut was_there, mut last) = (false, None);
        while self.is_there()? {
            if let Some(error) = last {
                if Instant::now() >= deadline {
                    return Err(error);
                }
                sleep(PAUSE);
            }
            was_there = true;
            let tried = if self.is_on_top()? {
                self.unmount()
            } else {
                Err((Errno::BUSY, fail("unmount, below another mount,", &self.place)(Errno::BUSY)))
            };
            last = match tried {
                // Nobody says that it failed, and whether it did is seen at once.
                Ok(()) => Some(fail("unmount", &self.place)(Errno::BUSY)),
                Err((Errno::BUSY, error)) => Some(error),
                Err((_, error)) => return Err(error),
            };
        }
        Ok(was_there)
    }

    fn unmount(&self) -> Result<(), (Errno, Error)> {
        for place in self.below().map_err(|e| (e, fail("look below", &self.place)(e)))?.iter().rev() {
            match unmount(place, UnmountFlags::NOFOLLOW) {
                // Somebody else was faster.
                Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
                Err(e) => return Err((e, fail("unmount", place)(e))),
            }
        }
        Ok(())
    }

    /// The mount itself and those that hang below it: parents first.
    fn below(&self) -> Result<Vec<PathBuf>, Errno> {
        let mut ids = vec![self.id.id];
        let mut places = vec![self.place.clone()];
        for line in Line::all()? {
            if ids.contains(&line.parent) {
                ids.push(line.id);
                places.push(line.place);
            }
        }
        Ok(places)
    }
}

/// A line of `/proc/self/mountinfo`.
struct Line {
    id: u64,
    parent: u64,
    place: PathBuf,
}

impl Line {
    fn all() -> Result<Vec<Self>, Errno> {
        let table = fs::read("/proc/self/mountinfo");
        let table = table.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        Ok(table.split(|b| *b == b'\n').filter_map(Self::parse).collect())
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|b| *b == b' ');
        let mut number = || str::from_utf8(fields.next()?).ok()?.parse::<u64>().ok();
        let (id, parent) = (number()?, number()?);
        Some(Self { id, parent, place: unescape(fields.nth(2)?) })
    }
}

/// Undoes mountinfo's octal escapes.
fn unescape(field: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::new();
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let byte = octal.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    fn bind(source: &Path) -> RootfsMount {
        RootfsMount {
            kind: "bind".to_owned(),
            source: source.to_string_lossy().into_owned(),
            target: String::new(),
            options: vec!["rbind".to_owned(), "ro".to_owned()],
        }
    }

    #[test]
    fn it_is_nobodys_before_it_is_shown_and_only_the_very_mount_is_taken_away() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: mounts need root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (image, place) = (dir.path().join("image"), dir.path().join("a place"));
        for folder in [&image, &place] {
            fs::create_dir(folder).unwrap();
        }
        fs::write(image.join("file"), "x").unwrap();
        let tree = Tree::mount(&[bind(&image)], &place).unwrap();
        crate::open_beneath(&tree, "file", crate::Beneath::Handle).unwrap();
        let mounted = Mounted { id: tree.id(), place: place.clone() };
        assert!(!place.join("file").exists() && !mounted.is_there().unwrap());
        tree.attach(&place).unwrap();
        drop(tree);
        assert!(place.join("file").exists() && mounted.is_there().unwrap());
        // In use: tried until the deadline, and then still there.
        let file = fs::File::open(place.join("file")).unwrap();
        assert!(mounted.detach(Instant::now() + Duration::from_millis(20)).is_err());
        assert!(mounted.is_there().unwrap());
        drop(file);
        // Another one on top of it hides it: that one is a stranger's.
        let other = Tree::mount(&[bind(&image)], &image).unwrap();
        let strangers = Mounted { id: other.id(), place: place.clone() };
        other.attach(&place).unwrap();
        drop(other);
        assert!(mounted.detach(Instant::now()).is_err() && strangers.is_there().unwrap());
        assert!(strangers.detach(soon()).unwrap());
        assert!(mounted.detach(soon()).unwrap());
        assert!(!mounted.detach(soon()).unwrap() && !place.join("file").exists());
    }

    #[test]
    fn one_that_is_not_shown_ends_with_its_descriptor() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: mounts need root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let wrong = RootfsMount { source: "/nonexistent".to_owned(), ..bind(dir.path()) };
        assert!(Tree::mount(&[wrong], dir.path()).is_err());
        let before = fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
        drop(Tree::mount(&[bind(dir.path())], dir.path()).unwrap());
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains(dir.path().to_str().unwrap()), "{before}: {table}");
    }
}
