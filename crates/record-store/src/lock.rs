//! An flock on a lock file. It owns the fd: the lock ends with it, also by a crash.
//!
//! flock belongs to the open file description, so an fd that is inherited keeps the lock: every fd here is CLOEXEC,
//! and one that is handed over on purpose ([`Lock::into_fd`]) carries the lock with it. Waiting is done by trying
//! again, so that it can end at a deadline.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fstat, openat, statat, unlinkat},
    io::Errno,
};

use crate::{Dir, Error};

/// A lock that is held.
#[derive(Debug)]
pub struct Lock {
    fd: OwnedFd,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock `name` in `dir`, making its file where it is missing, and waits for it until `deadline`.
    /// `None`: somebody holds it still. The directory having been removed is an [`Error`] that `is_absent`.
    pub fn acquire(dir: &Dir, name: &str, deadline: Instant) -> Result<Option<Self>, Error> {
        let mut pause = Duration::from_micros(200);
        loop {
            if let Some(lock) = Self::attempt(dir, name, OFlags::CREATE)? {
                return Ok(Some(lock));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Takes the lock `name` in `dir` if its file is there and nobody holds it.
    pub fn try_acquire(dir: &Dir, name: &str) -> Result<Option<Self>, Error> {
        match Self::attempt(dir, name, OFlags::empty()) {
            Err(e) if e.is_absent() => Ok(None),
            result => result,
        }
    }

    /// Whether somebody holds the lock `name` in `dir`. A lock whose file is not there is held by nobody.
    pub fn is_held(dir: &Dir, name: &str) -> Result<bool, Error> {
        Ok(matches!(Self::ask(dir, name)?, Asked::Held))
    }

    /// Removes the file of the lock `name` in `dir` if nobody holds it, for a name that is never used again. Nobody who
    /// asks meanwhile takes this for a holder, as he would if the lock were taken.
    pub fn forget(dir: &Dir, name: &str) -> Result<(), Error> {
        match Self::ask(dir, name)? {
            Asked::Free(_fd) => dir.remove(name).map(drop),
            Asked::Absent | Asked::Held => Ok(()),
        }
    }

    fn ask(dir: &Dir, name: &str) -> Result<Asked, Error> {
        let fail = |e: Errno| Error::Lock { path: dir.path().join(name), source: e.into() };
        let fd = match open_lock(dir, name, OFlags::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(Asked::Absent),
            Err(e) => return Err(fail(e)),
        };
        // A shared lock: two who only ask do not see each other.
        match flock(&fd, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Asked::Free(fd)),
            Err(Errno::WOULDBLOCK) => Ok(Asked::Held),
            Err(e) => Err(fail(e)),
        }
    }

    /// Makes the lock `name`, which must not be there yet, and takes it.
    pub fn create(dir: &Dir, name: &str) -> Result<Self, Error> {
        let fail = |e: Errno| Error::Lock { path: dir.path().join(name), source: e.into() };
        loop {
            drop(open_lock(dir, name, OFlags::CREATE | OFlags::EXCL).map_err(fail)?);
            // Somebody who clears away locks that nobody holds may come between: then it is made again.
            if let Ok(Some(lock)) = Self::attempt(dir, name, OFlags::empty()) {
                return Ok(lock);
            }
            std::thread::sleep(Duration::from_micros(200));
            match unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(fail(e)),
            }
        }
    }

    /// Takes over an fd that carries the lock already.
    pub fn from_fd(fd: OwnedFd, path: PathBuf) -> Self {
        Self { fd, path }
    }

    /// Gives the fd away; the lock goes with it.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// The lock file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the lock file and gives the lock up. Who waits for it finds out and tries again.
    pub fn unlink(self, dir: &Dir) -> Result<(), Error> {
        self.path.file_name().map_or(Ok(()), |name| dir.remove(name).map(drop))
    }

    fn attempt(dir: &Dir, name: &str, create: OFlags) -> Result<Option<Self>, Error> {
        let path = dir.path().join(name);
        let fail = |source: io::Error| Error::Lock { path: path.clone(), source };
        loop {
            let fd = match open_lock(dir, name, create) {
                // Nobody can hold that; it is not ours.
                Err(Errno::ISDIR) => {
                    dir.set_aside(name)?;
                    continue;
                }
                result => result.map_err(|e| fail(e.into()))?,
            };
            match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(e) => return Err(fail(e.into())),
            }
            // The holder before us may have unlinked the file: then this is a lock on nothing.
            let ours = fstat(&fd).map_err(|e| fail(e.into()))?;
            match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(there) if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino) => {
                    return Ok(Some(Self { fd, path }));
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(e) => return Err(fail(e.into())),
            }
        }
    }
}

/// How a lock was found.
enum Asked {
    /// Its file is not there.
    Absent,
    /// Nobody held it; nobody can take it while this is open.
    Free(OwnedFd),
    /// Somebody holds it.
    Held,
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn open_lock(dir: &Dir, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat(dir, name, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | flags, Mode::from_raw_mode(0o600))
}
