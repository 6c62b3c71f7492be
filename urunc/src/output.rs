//! What a verb writes for other programs: to standard output, or to a file that appears complete or not at all.
//!
//! A file is written without a name (O_TMPFILE), so that whatever ends this process, also SIGKILL, leaves nothing; a
//! file system that cannot do that gets a hidden temporary name, removed on failure. Committing gives it that name and
//! renames it over the wanted one.

use std::{
    fs::{self, File, FileType, OpenOptions},
    io::{self, BufWriter, ErrorKind, IsTerminal, Write, stdout},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::FileTypeExt,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::error::Error;

/// What messages call standard output.
const STDOUT: &str = "/dev/stdout";

/// A file in the making.
pub struct Output {
    file: BufWriter<File>,
    written: u64,
    target: Option<Target>,
}

/// The name that a file gets when it is complete.
struct Target {
    path: PathBuf,
    /// Beside it, until then.
    temporary: PathBuf,
    /// Whether the file stands under its temporary name.
    named: bool,
}

/// Whether a path means standard output.
pub fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

impl Output {
    /// Opens what `option` names.
    pub fn create(option: &'static str, path: &Path) -> Result<Self, Error> {
        if is_stdout(path) {
            let failed = |source| Error::Write { path: STDOUT.into(), source };
            if stdout().is_terminal() {
                return Err(Error::Terminal { option });
            }
            // Our own descriptor of it: `Stdout` would look for line ends in what is not text.
            let file = File::from(stdout().as_fd().try_clone_to_owned().map_err(failed)?);
            return Ok(Self { file: BufWriter::new(file), written: 0, target: None });
        }
        let (file, target) = Target::open(option, path)?;
        Ok(Self { file: BufWriter::new(file), written: 0, target: Some(target) })
    }

    /// How many bytes were written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Takes all of `bytes`.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|source| self.failed(source))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Makes the file appear.
    pub fn commit(mut self) -> Result<(), Error> {
        self.file.flush().map_err(|source| self.failed(source))?;
        match &mut self.target {
            Some(target) => target.commit(self.file.get_ref()),
            None => Ok(()),
        }
    }

    fn failed(&self, source: io::Error) -> Error {
        let path = self.target.as_ref().map_or(Path::new(STDOUT), |target| &target.path);
        Error::Write { path: path.to_owned(), source }
    }
}

impl Target {
    fn open(option: &'static str, path: &Path) -> Result<(File, Self), Error> {
        let failed = |source| Error::Write { path: path.to_owned(), source };
        let not_a_file = |found| Error::NotAFile {
            option,
            path: path.to_owned(),
            found,
            wanted: "a file, or - for standard output",
        };
        // A rename would replace a link or a device itself, not what it leads to.
        match fs::symlink_metadata(path) {
            Ok(meta) if !meta.is_file() => return Err(not_a_file(describe(meta.file_type()))),
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        let Some(name) = path.file_name() else { return Err(not_a_file("a directory")) };
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.tmp", std::process::id()));
        let temporary = directory.join(hidden);
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let (file, named) = match rustix::fs::open(directory, flags, Mode::from_raw_mode(0o666)) {
            Ok(fd) => (File::from(fd), false),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                (OpenOptions::new().write(true).create_new(true).open(&temporary).map_err(failed)?, true)
            }
            Err(e) => return Err(failed(e.into())),
        };
        Ok((file, Self { path: path.to_owned(), temporary, named }))
    }

    fn commit(&mut self, file: &File) -> Result<(), Error> {
        let failed = |source| Error::Write { path: self.path.clone(), source };
        if !self.named {
            let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::linkat(CWD, unnamed, CWD, &self.temporary, AtFlags::SYMLINK_FOLLOW)
                .map_err(|e| failed(e.into()))?;
            self.named = true;
        }
        fs::rename(&self.temporary, &self.path).map_err(failed)?;
        self.named = false;
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.named {
            // The failure that brought us here is the one to tell of.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// What something that is not a plain file is.
pub fn describe(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}
