//! Record files: replaced whole, read whole, locked across processes.
//!
//! * [`Dir`] is a directory of records, held by an fd: when the directory was removed under us, writing fails with
//!   `ENOENT` and nothing is ever made anew at its path.
//! * [`Dir::replace`] writes a file whole: one fixed temporary name, fsync of file and directory (skipped on a
//!   tmpfs, which loses everything with the machine anyway), rename. A crash at any moment leaves the old content or
//!   the new one. So does a failed write: the old one, and the new one only if nothing but the last sync failed.
//! * Every record carries the checksum of its own bytes (`seal.rs` has the format): a torn or changed one is garbled,
//!   never another valid one.
//! * [`Lock`] is an flock on a lock file; a lock file may be unlinked by its holder.
//! * [`Dir::read_record`] tells apart a record that is absent, readable, of a newer schema and unreadable. It never
//!   removes what it could not read: [`Dir::set_aside`] keeps it under another name.

mod dir;
mod lock;
mod seal;
mod write;

use std::{io, path::PathBuf};

use thiserror::Error;

pub use dir::{Dir, Read};
pub use lock::Lock;

/// What can go wrong with a record file or a lock.
#[derive(Debug, Error)]
pub enum Error {
    /// A directory could not be opened or made.
    #[error("cannot open the directory {}", path.display())]
    OpenDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be replaced: its old content is as it was, or the new one stands and was not synced.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be removed or renamed.
    #[error("cannot remove {}", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A lock could not be taken for another reason than that somebody holds it.
    #[error("cannot lock {}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A value could not be written as JSON.
    #[error("cannot encode {}", path.display())]
    Encode {
        /// The file it was meant for.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl Error {
    /// Whether a file was read and made no sense, as opposed to one that could not be read.
    pub fn is_garbled(&self) -> bool {
        let kind = match self {
            Self::Read { source, .. } => source.kind(),
            _ => return false,
        };
        matches!(kind, io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
    }

    /// Whether the cause is that a file or directory is not there (any more).
    pub fn is_absent(&self) -> bool {
        let source = match self {
            Self::OpenDir { source, .. }
            | Self::Read { source, .. }
            | Self::Write { source, .. }
            | Self::Remove { source, .. }
            | Self::Lock { source, .. } => source,
            Self::Encode { .. } => return false,
        };
        source.kind() == io::ErrorKind::NotFound
    }
}

#[cfg(test)]
mod tests;
