//! The files that go into an image.
//!
//! An [`Input`] is opened and checked once and then read through that one descriptor, as often as needed and never as
//! a whole: what its path names later does not matter. A file that shrinks meanwhile is [`Error::Changed`].

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use vmm_api::kernel::Format;

use super::archive::Sink;
use crate::{error::Error, output::describe};

const CHUNK: usize = 256 * 1024;

/// A file that goes into the image.
pub struct Input {
    path: PathBuf,
    file: File,
    size: u64,
}

impl Input {
    /// Opens a file that `option` named: it must be a plain one with something in it.
    pub fn open(option: &'static str, path: &Path) -> Result<Self, Error> {
        let path = path.to_owned();
        let opened = |source| Error::Open { option, path: path.clone(), source };
        // Looked at before it is opened: opening a FIFO would wait for its writer.
        let kind = fs::metadata(&path).map_err(opened)?.file_type();
        if !kind.is_file() {
            return Err(Error::NotAFile { option, path, found: describe(kind), wanted: "a plain file" });
        }
        let file = File::open(&path).map_err(opened)?;
        let size = file.metadata().map_err(opened)?.len();
        if size == 0 {
            return Err(Error::EmptyFile { option, path });
        }
        Ok(Self { path, file, size })
    }

    /// Opens a kernel: it must be of a format that a monitor could boot.
    pub fn kernel(path: &Path) -> Result<Self, Error> {
        let input = Self::open("--kernel", path)?;
        match Format::probe(&input.file) {
            Ok(Format::Unknown) => {
                Err(Error::NotAKernel { path: input.path, found: Format::Unknown.describe() })
            }
            Ok(Format::BzImage { .. } | Format::PvhElf | Format::OtherElf) => Ok(input),
            Err(source) => Err(Error::Read { path: input.path, source }),
        }
    }

    /// How many bytes it has, and [`Input::stream`] gives.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Hands all bytes on.
    pub fn stream(&self, to: &mut dyn Sink) -> Result<(), Error> {
        let mut buffer = vec![0; CHUNK];
        let mut offset = 0;
        while offset < self.size {
            let most = usize::try_from(self.size - offset).map_or(CHUNK, |left| left.min(CHUNK));
            match self.file.read_at(&mut buffer[..most], offset) {
                Ok(0) => return Err(Error::Changed),
                Ok(n) => {
                    to.put(&buffer[..n])?;
                    offset += n as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Read { path: self.path.clone(), source }),
            }
        }
        Ok(())
    }
}
