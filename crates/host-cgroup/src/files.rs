//! The few file operations that everything here is made of, as a trait, so that tests can fail them one by one.
//!
//! [`Kernel`] is the real thing. It holds no state and no fds. Paths are absolute.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Which directory this is, as long as the machine runs: a name may be used again, this pair is not (kernfs gives
/// every directory a new 64-bit number).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirId {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

/// The file operations that this crate uses on cgroup file systems.
pub trait Files {
    /// Makes one directory; `EXIST` if it is there.
    fn mkdir(&self, dir: &Path) -> Result<(), Errno>;
    /// Removes one empty directory.
    fn rmdir(&self, dir: &Path) -> Result<(), Errno>;
    /// The whole content of a file.
    fn read(&self, file: &Path) -> Result<String, Errno>;
    /// Writes an existing file with a single `write`, as the kernel demands of control files.
    fn write(&self, file: &Path, value: &str) -> Result<(), Errno>;
    /// Opens an existing file for writing, close-on-exec.
    fn open(&self, file: &Path) -> Result<OwnedFd, Errno>;
    /// Opens a directory, close-on-exec.
    fn open_dir(&self, dir: &Path) -> Result<OwnedFd, Errno> {
        rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    }
    /// The directories directly below `dir`.
    fn subdirs(&self, dir: &Path) -> Result<Vec<PathBuf>, Errno>;
    /// Which directory has this name now.
    fn identity(&self, dir: &Path) -> Result<DirId, Errno>;
}

/// The kernel itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kernel;

impl Files for Kernel {
    fn mkdir(&self, dir: &Path) -> Result<(), Errno> {
        rustix::fs::mkdir(dir, Mode::from_raw_mode(0o755))
    }

    fn rmdir(&self, dir: &Path) -> Result<(), Errno> {
        rustix::fs::rmdir(dir)
    }

    fn read(&self, file: &Path) -> Result<String, Errno> {
        let fd = rustix::fs::open(file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut content = Vec::new();
        let mut chunk = [0; 4096];
        // Not fs::read: its statx and its probing of the size are two needless system calls on every control file.
        loop {
            match rustix::io::read(&fd, &mut chunk) {
                Ok(0) => return String::from_utf8(content).map_err(|_| Errno::ILSEQ),
                Ok(n) => content.extend_from_slice(&chunk[..n]),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn write(&self, file: &Path, value: &str) -> Result<(), Errno> {
        let fd = self.open(file)?;
        match rustix::io::write(&fd, value.as_bytes())? {
            n if n == value.len() => Ok(()),
            // A control file takes all or nothing; half a limit is no limit.
            _ => Err(Errno::IO),
        }
    }

    fn open(&self, file: &Path) -> Result<OwnedFd, Errno> {
        rustix::fs::open(file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
    }

    fn subdirs(&self, dir: &Path) -> Result<Vec<PathBuf>, Errno> {
        let list = || {
            let mut found = Vec::new();
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    found.push(entry.path());
                }
            }
            Ok(found)
        };
        list().map_err(|e: std::io::Error| Errno::from_io_error(&e).unwrap_or(Errno::IO))
    }

    fn identity(&self, dir: &Path) -> Result<DirId, Errno> {
        let stat = rustix::fs::lstat(dir)?;
        Ok(DirId { dev: stat.st_dev, ino: stat.st_ino })
    }
}

/// The answers that mean "this directory or file is not there": also those of a cgroup that went away between the
/// lookup and the read.
pub(crate) fn is_absent(e: Errno) -> bool {
    matches!(e, Errno::NOENT | Errno::NOTDIR | Errno::NODEV)
}

/// The answers of `rmdir` to a directory that is in use: cgroup file systems say `BUSY` for children as well.
pub(crate) fn is_in_use(e: Errno) -> bool {
    matches!(e, Errno::BUSY | Errno::NOTEMPTY)
}
