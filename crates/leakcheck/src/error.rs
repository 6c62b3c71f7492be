//! What can go wrong while the host is looked at.
//!
//! Most of these never reach a caller as an error: a snapshot goes on and lists them under `unreadable`, because
//! a leak detector that gives up at the first closed door proves nothing about the other rooms. Only a saved
//! snapshot that cannot be used is handed back as an error.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// A failure of the leak detector.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, folder or link of the host could not be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// What was read.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A kernel file does not look as documented.
    #[error("{path}: cannot make sense of {text:?}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line.
        text: String,
    },
    /// A process is ending but still holds what it had; nothing tells any more whose it was.
    #[error("process {process} is ending: nothing tells any more whose it was")]
    Ending {
        /// The process, as `PID@START`.
        process: String,
        /// When it was born, in clock ticks since boot.
        born: u64,
    },
    /// A process that was to be looked into is not there.
    #[error("process {process}, which was to be looked into, is gone")]
    Gone {
        /// The process, as `PID@START`.
        process: String,
    },
    /// A folder in scope holds so much that it cannot be a run directory.
    #[error("{path}: more than {limit} entries, the rest was not looked at", path = path.display())]
    TooMany {
        /// The folder.
        path: PathBuf,
        /// Where the walk stopped.
        limit: usize,
    },
    /// A network namespace that was found is not the one that its path opens.
    #[error("{path}: expected net:[{expected}], found inode {found}", path = path.display())]
    OtherNamespace {
        /// How it was to be opened.
        path: PathBuf,
        /// The inode that was announced.
        expected: u64,
        /// The inode that was opened.
        found: u64,
    },
    /// A network namespace could not be entered.
    #[error("cannot enter {namespace}: {source}")]
    Enter {
        /// The namespace.
        namespace: String,
        /// What the kernel said.
        source: Errno,
    },
    /// The kernel did not list what is in a network namespace.
    #[error("cannot list what is in {namespace}: {source}")]
    Netlink {
        /// The namespace.
        namespace: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The thread that visits network namespaces could not be started.
    #[error("cannot start a thread to visit network namespaces: {source}")]
    Thread {
        /// What the kernel said.
        source: io::Error,
    },
    /// The thread that visits network namespaces ended without an answer.
    #[error("the thread that visits network namespaces ended without an answer")]
    ThreadDied,
    /// A snapshot or a difference could not be written or read as JSON.
    #[error("not a snapshot in JSON: {source}")]
    Json {
        /// Where and why.
        #[from]
        source: serde_json::Error,
    },
    /// A saved snapshot was written by another version of this library.
    #[error("the snapshot has format {found}, this program knows {known}")]
    OtherFormat {
        /// What the file says.
        found: u32,
        /// What this program writes.
        known: u32,
    },
    /// A saved snapshot is of another boot: no pid, inode or mount id of it means anything now.
    #[error("the snapshot is of boot {saved}, this is boot {now}")]
    OtherBoot {
        /// The boot id in the file.
        saved: String,
        /// The boot id of the host.
        now: String,
    },
}

impl Error {
    /// The file, folder or link that could not be read.
    pub(crate) fn read(path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Read { path: path.into(), source: source.into() }
    }
}

/// Whether an error only says that the thing went away between being listed and being read. That is no failure:
/// what is gone cannot have been left behind.
pub(crate) fn vanished(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::SRCH | Errno::NODEV | Errno::NXIO | Errno::NOTDIR)
    )
}

/// A result of reading something; None if it vanished.
pub(crate) fn present<T>(result: io::Result<T>, path: &Path) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if vanished(&error) => Ok(None),
        Err(error) => Err(Error::read(path, error)),
    }
}
