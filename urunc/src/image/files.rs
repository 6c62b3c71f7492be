//! The files of an image that is an archive or a layout: by name, regular ones only, nothing outside, no link followed,
//! nothing written to a place that has a name.
//!
//! Images are hostile: a name may lead to a FIFO, a device, or anywhere. In a folder the kernel refuses links on the way
//! (openat2(2)), and what is no regular file is never opened; an archive is read by an index of its own entries.

use std::{
    collections::HashMap,
    fmt::Display,
    fs::File,
    io::{self, BufReader, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{FileExt, FileTypeExt},
    },
    path::Path,
};

use flate2::read::MultiGzDecoder;
use rustix::{
    fs::{Mode, OFlags, ResolveFlags, open, openat2},
    io::Errno,
};
use tar::EntryType;

use crate::output::describe;

/// The most that is unpacked of one archive or layer, in bytes.
pub const MOST: u64 = 8 << 30;
/// The most entries that an archive or an image may have.
pub const MOST_ENTRIES: usize = 1 << 20;

/// Where an image's files are.
pub enum Files {
    /// In a folder.
    Folder(OwnedFd),
    /// In a tar file, and where in it; of what is no regular file, what it is.
    Archive(File, HashMap<String, Result<(u64, u64), &'static str>>),
}

/// A part of a file.
pub struct Part {
    file: File,
    at: u64,
    end: u64,
}

impl Files {
    /// A folder.
    pub fn folder(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self::Folder(open(path, flags, Mode::empty())?))
    }

    /// A tar file, plain or gzip.
    pub fn archive(file: File) -> io::Result<Self> {
        let whole = Part::whole(file)?;
        let file = match whole.is_gzip()? {
            false => whole.file,
            // It has no name, so that nothing of it stays behind, however we end.
            true => {
                let mut file = tempfile::tempfile()?;
                if io::copy(&mut whole.plain()?, &mut file)? == MOST {
                    return Err(too_large());
                }
                file
            }
        };
        let mut entries = HashMap::new();
        let mut archive = tar::Archive::new(Part::whole(file.try_clone()?)?);
        for entry in archive.entries()? {
            let entry = entry?;
            let Some(name) = entry.path()?.to_str().map(|name| name.trim_start_matches("./").to_owned())
            else {
                continue;
            };
            let kind = entry.header().entry_type();
            let found = match kind {
                EntryType::Regular | EntryType::Continuous => Ok((entry.raw_file_position(), entry.size())),
                kind => Err(describe_entry(kind)),
            };
            entries.insert(name, found);
            if entries.len() > MOST_ENTRIES {
                return Err(io::Error::other("it has too many entries"));
            }
        }
        Ok(Self::Archive(file, entries))
    }

    /// Opens a regular file; what is wrong with it is told by its name.
    pub fn open(&self, name: &str) -> Result<Part, String> {
        let fail = |e: &dyn Display| format!("{name}: {e}");
        match self {
            Self::Folder(folder) => open_in(folder, name).map_err(|e| fail(&e)),
            Self::Archive(file, entries) => match entries.get(name) {
                None => Err(fail(&"is not there")),
                Some(Err(kind)) => Err(fail(&no_file(kind))),
                Some(Ok((at, size))) => {
                    let file = file.try_clone().map_err(|e| fail(&e))?;
                    Ok(Part { file, at: *at, end: at.saturating_add(*size) })
                }
            },
        }
    }

    /// Whether there is a regular file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.open(name).is_ok()
    }
}

fn open_in(folder: &OwnedFd, name: &str) -> io::Result<Part> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // First a handle, which neither blocks on a FIFO nor wakes a device.
    let handle = match openat2(folder, name, flags, Mode::empty(), resolve) {
        Err(Errno::LOOP) => {
            return Err(io::Error::other("a symbolic link is on its way, which is not followed"));
        }
        handle => File::from(handle?),
    };
    let kind = handle.metadata()?.file_type();
    if !kind.is_file() {
        return Err(io::Error::other(no_file(describe(kind))));
    }
    let magic = format!("/proc/self/fd/{}", handle.as_raw_fd());
    Part::whole(File::open(magic)?)
}

fn no_file(kind: &str) -> String {
    format!("is {kind}, and only regular files are read")
}

/// What an entry of a tar file is, in words.
pub fn describe_entry(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Directory => "a directory",
        EntryType::Symlink => "a symbolic link",
        EntryType::Link => "a hard link",
        EntryType::Fifo => "a FIFO",
        EntryType::Char | EntryType::Block => "a device",
        _ => "of a kind that is not known",
    }
}

/// Of an image that is no end of bytes.
pub fn too_large() -> io::Error {
    io::Error::other("it is larger than 8 GiB")
}

impl Part {
    /// All of a file that is open.
    pub fn whole(file: File) -> io::Result<Self> {
        let meta = file.metadata()?;
        if meta.file_type().is_fifo() || !meta.is_file() {
            return Err(io::Error::other(no_file(describe(meta.file_type()))));
        }
        Ok(Self { file, at: 0, end: meta.len() })
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }

    /// The bytes of a tar stream, unpacked, from the beginning; at most [`MOST`].
    pub fn plain(&self) -> io::Result<Box<dyn Read>> {
        let raw = BufReader::new(Self { file: self.file.try_clone()?, ..*self });
        Ok(match self.magic()? {
            [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(raw).take(MOST)),
            [0x28, 0xb5, 0x2f, 0xfd] => {
                return Err(io::Error::other("zstd is not read here; use gzip or a plain tar file"));
            }
            _ => Box::new(raw.take(MOST)),
        })
    }

    fn is_gzip(&self) -> io::Result<bool> {
        Ok(self.magic()?.starts_with(&[0x1f, 0x8b]))
    }

    fn magic(&self) -> io::Result<[u8; 4]> {
        let mut magic = [0; 4];
        let mut part = Self { file: self.file.try_clone()?, ..*self };
        let mut filled = 0;
        while filled < magic.len() {
            match part.read(&mut magic[filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        Ok(magic)
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        let n = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}
