//! A directory of record files. It owns the fd; it fails without having changed anything but its temporary file.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, fstat, fstatfs, mkdir, open, openat, renameat, unlinkat},
    io::Errno,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Error,
    seal::{is_whole, seal},
    write::{self, temporary},
};

/// What reading a record gave.
#[derive(Debug)]
pub enum Read<T> {
    /// There is none.
    Absent,
    /// Here it is.
    Record(T),
    /// It was written by a newer version of us: this is its schema. It must be kept.
    Newer(u64),
    /// It is there and cannot be understood. It must be kept.
    Unreadable(Error),
}

/// A directory of records, held by an fd.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
    volatile: bool,
}

impl Dir {
    /// Opens a directory that is there.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let at = |source: Errno| Error::OpenDir { path: path.clone(), source: source.into() };
        let fd =
            open(&path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(at)?;
        const TMPFS_MAGIC: i64 = 0x0102_1994;
        let volatile = fstatfs(&fd).map_err(at)?.f_type == TMPFS_MAGIC;
        Ok(Self { fd, path, volatile })
    }

    /// Makes the directory (0700) where it is missing, its parents too, and opens it.
    pub fn make(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        make_all(&path).map_err(|source| Error::OpenDir { path: path.clone(), source: source.into() })?;
        Self::open(path)
    }

    /// The path under which it was opened; another directory may stand there now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the record `name` whole by a value.
    pub fn replace<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Error> {
        self.write(name, value, !self.volatile)
    }

    /// [`Dir::replace`] for what means nothing after a reboot: whole for every reader, but not synced.
    pub fn replace_unsynced<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Error> {
        self.write(name, value, false)
    }

    fn write<T: Serialize>(&self, name: &str, value: &T, synced: bool) -> Result<(), Error> {
        let path = || self.path.join(name);
        let content = seal(value).map_err(|source| Error::Encode { path: path(), source })?;
        write::replace(&mut write::Kernel, self.fd.as_fd(), name, &content, synced)
            .map_err(|source| Error::Write { path: path(), source })
    }

    /// Makes a small file that must not be there yet.
    pub fn mark(&self, name: &str, content: &str) -> Result<(), Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))
            .map_err(io::Error::from)
            .and_then(|fd| File::from(fd).write_all(content.as_bytes()))
            .map_err(|source| Error::Write { path: self.path.join(name), source })
    }

    /// The whole content of the file `name`, `None` if it is absent.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let read = || -> io::Result<Vec<u8>> {
            // NONBLOCK: somebody may have put a FIFO there.
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let mut file = match openat(&self.fd, name, flags, Mode::empty()) {
                Ok(fd) => File::from(fd),
                Err(Errno::LOOP | Errno::NXIO) => return Err(no_file()),
                Err(e) => return Err(e.into()),
            };
            if !file.metadata()?.is_file() {
                return Err(no_file());
            }
            let mut content = Vec::new();
            file.read_to_end(&mut content)?;
            Ok(content)
        };
        match read() {
            Ok(content) => Ok(Some(content)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Read { path: self.path.join(name), source }),
        }
    }

    /// Reads a record whose number `schema` must be at most `newest`.
    pub fn read_record<T: DeserializeOwned>(&self, name: &str, newest: u64) -> Read<T> {
        #[derive(serde::Deserialize)]
        struct Schema {
            schema: u64,
        }
        let content = match self.read_whole(name) {
            Ok(Some(content)) => content,
            Ok(None) => return Read::Absent,
            Err(e) => return Read::Unreadable(e),
        };
        let decoded = self.decode(name, &content).and_then(|Schema { schema }| {
            if schema > newest {
                Ok(Read::Newer(schema))
            } else {
                self.decode(name, &content).map(Read::Record)
            }
        });
        decoded.unwrap_or_else(Read::Unreadable)
    }

    /// Reads a record that has no schema of its own; `None` if it is absent.
    pub fn read_part<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        self.read_whole(name)?.map(|content| self.decode(name, &content)).transpose()
    }

    /// The content of a record, if its checksum is right.
    fn read_whole(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        match self.read(name)? {
            Some(content) if !is_whole(&content) => Err(self.garbled(name, "its checksum is wrong".into())),
            content => Ok(content),
        }
    }

    fn decode<T: DeserializeOwned>(&self, name: &str, content: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(content).map_err(|e| self.garbled(name, e.into()))
    }

    /// What is said of a record that was read and makes no sense.
    pub fn garbled(&self, name: &str, problem: Box<dyn std::error::Error + Send + Sync>) -> Error {
        Error::Read {
            path: self.path.join(name),
            source: io::Error::new(io::ErrorKind::InvalidData, problem),
        }
    }

    /// Keeps the file `name` under another name, so that a new one can take its place.
    pub fn set_aside(&self, name: impl AsRef<OsStr>) -> Result<(), Error> {
        let name = name.as_ref();
        let mut aside = name.to_owned();
        aside.push(".unreadable");
        renameat(&self.fd, name, &self.fd, aside)
            .map_err(|e| Error::Remove { path: self.path.join(name), source: e.into() })
    }

    /// Removes the file `name`; `false`: it was not there. A folder in its place is not ours, and is set aside.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> Result<bool, Error> {
        match unlinkat(&self.fd, name.as_ref(), AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(Errno::ISDIR) => self.set_aside(name).map(|()| false),
            Err(e) => Err(Error::Remove { path: self.path.join(name.as_ref()), source: e.into() }),
        }
    }

    /// Removes what a write of `name` that was cut off left under its temporary name. The caller keeps other writers
    /// out.
    pub fn remove_leftover(&self, name: &str) -> Result<bool, Error> {
        self.remove(temporary(name))
    }

    /// The names of the files in it.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let fail = |e: Errno| Error::Read { path: self.path.clone(), source: e.into() };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Whether the directory still stands somewhere: a removed one has no links left.
    pub fn is_linked(&self) -> bool {
        fstat(&self.fd).is_ok_and(|s| s.st_nlink > 0)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What stands in a record's place, a FIFO, a folder, a link, was never written by us: it makes no sense.
fn no_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is no regular file")
}

fn make_all(path: &Path) -> Result<(), Errno> {
    match mkdir(path, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(Errno::NOENT) => {
            make_all(path.parent().ok_or(Errno::NOENT)?)?;
            match mkdir(path, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => Ok(()),
                Err(e) => Err(e),
            }
        }
        Err(e) => Err(e),
    }
}
