//! A directory of record files. It owns the fd; it fails without having changed anything but its temporary file.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, fstat, fstatfs, fsync, mkdir, open, openat, renameat, unlinkat},
    io::Errno,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::Error;

/// The fixed name under which a file is written before it takes its place. The file's own lock keeps its writers apart,
/// other files of the directory have other locks; a leftover of a crash is overwritten by the next write.
fn temporary(name: &str) -> String {
    format!(".{name}.new")
}

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

    /// Replaces the file `name` whole by `content`.
    pub fn replace(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        self.try_replace(name, content).map_err(|source| Error::Write { path: self.path.join(name), source })
    }

    fn try_replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let temporary = temporary(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut file = File::from(openat(&self.fd, &temporary, flags, Mode::from_raw_mode(0o600))?);
        fault::point("record.write")?;
        // In two halves, so that a test can be killed between them.
        let (first, second) = content.split_at(content.len() / 2);
        file.write_all(first)?;
        fault::point("record.torn")?;
        file.write_all(second)?;
        if !self.volatile {
            file.sync_data()?;
        }
        fault::point("record.rename")?;
        renameat(&self.fd, &temporary, &self.fd, name)?;
        if !self.volatile {
            fsync(&self.fd)?;
        }
        Ok(())
    }

    /// [`Dir::replace`] by a value as JSON.
    pub fn replace_json<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Error> {
        let mut content = serde_json::to_vec(value)
            .map_err(|source| Error::Encode { path: self.path.join(name), source })?;
        content.push(b'\n');
        self.replace(name, &content)
    }

    /// [`Dir::replace_json`] for what means nothing after a reboot: whole for every reader, but not synced.
    pub fn replace_json_unsynced<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Error> {
        Self {
            fd: self.fd.try_clone().map_err(|source| Error::Write { path: self.path.join(name), source })?,
            path: self.path.clone(),
            volatile: true,
        }
        .replace_json(name, value)
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
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let mut content = Vec::new();
            File::from(openat(&self.fd, name, flags, Mode::empty())?).read_to_end(&mut content)?;
            Ok(content)
        };
        match read() {
            Ok(content) => Ok(Some(content)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Read { path: self.path.join(name), source }),
        }
    }

    /// Reads a JSON record whose number `schema` must be at most `newest`.
    pub fn read_record<T: DeserializeOwned>(&self, name: &str, newest: u64) -> Read<T> {
        #[derive(serde::Deserialize)]
        struct Schema {
            schema: u64,
        }
        let content = match self.read(name) {
            Ok(Some(content)) => content,
            Ok(None) => return Read::Absent,
            Err(e) => return Read::Unreadable(e),
        };
        let decoded = serde_json::from_slice::<Schema>(&content).and_then(|Schema { schema }| {
            if schema > newest {
                Ok(Read::Newer(schema))
            } else {
                serde_json::from_slice(&content).map(Read::Record)
            }
        });
        decoded.unwrap_or_else(|e| {
            Read::Unreadable(Error::Read { path: self.path.join(name), source: io::Error::from(e) })
        })
    }

    /// Keeps the file `name` under another name, so that a new one can take its place.
    pub fn set_aside(&self, name: &str) -> Result<(), Error> {
        renameat(&self.fd, name, &self.fd, format!("{name}.unreadable"))
            .map_err(|e| Error::Remove { path: self.path.join(name), source: e.into() })
    }

    /// Removes the file `name`; `false`: it was not there.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> Result<bool, Error> {
        match unlinkat(&self.fd, name.as_ref(), AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
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
