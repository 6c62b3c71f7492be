//! Tar streams whose bytes follow from their entries alone, and what they are written to.
//!
//! Every entry belongs to 0:0, is from 1970 and has the same mode whatever the input had: the same inputs give the
//! same bytes. Bytes go to a [`Sink`] as they come; nothing is held. Errors are those of the sink and of the inputs.

use std::io;

use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use super::input::Input;
use crate::{error::Error, output::Output};

/// Tar knows no smaller unit; an archive ends with two empty ones.
const BLOCK: usize = 512;

/// What bytes can be written to.
pub trait Sink {
    /// Takes all of `bytes`.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Error>;
}

impl Sink for Output {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.write(bytes)
    }
}

/// Digest and size of the bytes that went by.
#[derive(Default)]
pub struct Measure {
    hash: Sha256,
    size: u64,
}

impl Measure {
    /// Measures bytes at hand.
    pub fn of(bytes: &[u8]) -> (String, u64) {
        let mut measure = Self::default();
        measure.add(bytes);
        measure.finish()
    }

    /// The digest (`sha256:` and 64 hexadecimal digits) and the size.
    pub fn finish(self) -> (String, u64) {
        let hex: String = self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        (format!("sha256:{hex}"), self.size)
    }

    fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
    }
}

impl io::Write for Measure {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Measure {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.add(bytes);
        Ok(())
    }
}

/// Measures what goes by on its way to another sink.
pub struct Tee<'a> {
    /// What went by.
    pub measure: Measure,
    /// Where it goes.
    pub to: &'a mut dyn Sink,
}

impl Sink for Tee<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.measure.add(bytes);
        self.to.put(bytes)
    }
}

/// A tar stream that is being written.
pub struct Archive<'a> {
    to: &'a mut dyn Sink,
}

impl<'a> Archive<'a> {
    /// Begins an archive.
    pub fn new(to: &'a mut dyn Sink) -> Self {
        Self { to }
    }

    /// Adds a directory.
    pub fn dir(&mut self, path: &str) -> Result<(), Error> {
        self.header(path, EntryType::Directory, 0o755, 0)
    }

    /// Adds a file whose bytes are at hand.
    pub fn bytes(&mut self, path: &str, bytes: &[u8]) -> Result<(), Error> {
        self.entry(path, bytes.len() as u64, |to| to.put(bytes))
    }

    /// Adds a file from outside.
    pub fn file(&mut self, path: &str, input: &Input) -> Result<(), Error> {
        self.entry(path, input.size(), |to| input.stream(to))
    }

    /// Adds a file of `size` bytes, which `write` must put exactly.
    pub fn entry(
        &mut self,
        path: &str,
        size: u64,
        write: impl FnOnce(&mut dyn Sink) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.header(path, EntryType::Regular, 0o644, size)?;
        write(&mut *self.to)?;
        let over = (size % BLOCK as u64) as usize;
        if over == 0 { Ok(()) } else { self.to.put(&[0; BLOCK][over..]) }
    }

    /// Ends the archive.
    pub fn finish(self) -> Result<(), Error> {
        self.to.put(&[0; 2 * BLOCK])
    }

    fn header(&mut self, path: &str, kind: EntryType, mode: u32, size: u64) -> Result<(), Error> {
        let mut header = Header::new_ustar();
        header.set_path(path).map_err(|source| Error::ArchivePath { path: path.to_owned(), source })?;
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        self.to.put(header.as_bytes())
    }
}
