//! Files in memory that are handed to a runtime by a path.
//!
//! The path leads through our own `/proc`, so nothing is inherited, nothing lies about on a disk, and all of it ends
//! with us. (One who is not dumpable needs CAP_SYS_PTRACE for it, which root has.)

use std::{
    fs::File,
    io::Write,
    os::{fd::AsRawFd, unix::fs::FileExt},
};

use rustix::fs::{MemfdFlags, memfd_create};

use crate::Error;

/// More than this of a log or an answer is not read.
const LIMIT: usize = 1 << 20;

pub(crate) struct Handed(File);

impl Handed {
    /// An empty one, to be written by the runtime.
    pub(crate) fn empty() -> Result<Self, Error> {
        let file = memfd_create("oci-runtime", MemfdFlags::CLOEXEC);
        Ok(Self(File::from(file.map_err(Error::system("make a file in memory"))?)))
    }

    /// One that holds these bytes.
    pub(crate) fn holding(bytes: &[u8]) -> Result<Self, Error> {
        let mut file = Self::empty()?;
        file.0.write_all(bytes).map_err(Error::system("write a file in memory"))?;
        Ok(file)
    }

    /// Where it is opened.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Another descriptor of it, for the runtime's stdout or stderr.
    pub(crate) fn stream(&self) -> Result<File, Error> {
        self.0.try_clone().map_err(Error::system("copy a descriptor"))
    }

    /// What is in it.
    pub(crate) fn text(&self) -> Result<String, Error> {
        let mut bytes = vec![];
        let mut chunk = [0; 4096];
        while bytes.len() < LIMIT {
            // From where we are, not from where the runtime's writes have moved the offset to.
            let read = self.0.read_at(&mut chunk, bytes.len() as u64);
            match read.map_err(Error::system("read a file in memory"))? {
                0 => break,
                n => bytes.extend_from_slice(&chunk[..n]),
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
