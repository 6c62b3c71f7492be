//! The container's stdio: FIFOs made by the client, opened once in Create.
//!
//! The guest's serial console is the monitor's stdin and stdout, and those are the FIFOs themselves: no byte passes
//! through the daemon, and what was written before the end is in the pipe. The daemon *holds* ends so that a restart
//! of containerd neither breaks a pipe nor loses what is in it: the read end of stdout and stderr, the write end of
//! stdin. The client sees its EOF when the last write end is gone: the monitor's with its death, ours of stderr with
//! [`Stdio::ended`].

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, Mode, OFlags, fstat, open};

use crate::{Error, contract::invalid, record::StdioPaths};

/// What is open for a container.
#[derive(Debug, Default)]
pub struct Stdio {
    /// For the monitor: its stdin and stdout; `None`: not wanted, or handed over.
    pub stdin: Option<OwnedFd>,
    /// See `stdin`.
    pub stdout: Option<OwnedFd>,
    held_stdin: Option<OwnedFd>,
    write_ends: Vec<OwnedFd>,
    read_ends: Vec<OwnedFd>,
}

impl Stdio {
    /// Opens what is wanted. Opening never waits for the other side.
    pub fn open(paths: &StdioPaths) -> Result<Self, Error> {
        let mut stdio = Self::default();
        if let Some(path) = fifo(&paths.stdin, "stdin")? {
            stdio.stdin = Some(open_fifo(&path, OFlags::RDONLY)?);
            stdio.held_stdin = Some(open_fifo(&path, OFlags::WRONLY)?);
        }
        if let Some(path) = fifo(&paths.stdout, "stdout")? {
            // The read end first: without a reader a write end cannot be opened without waiting.
            stdio.read_ends.push(open_fifo(&path, OFlags::RDONLY)?);
            stdio.stdout = Some(open_fifo(&path, OFlags::WRONLY)?);
        }
        if let Some(path) = fifo(&paths.stderr, "stderr")? {
            stdio.read_ends.push(open_fifo(&path, OFlags::RDONLY)?);
            stdio.write_ends.push(open_fifo(&path, OFlags::WRONLY)?);
        }
        Ok(stdio)
    }

    /// No more input will come: the monitor sees its end once the client has closed its own end, and has read what is
    /// in the pipe.
    pub fn close_stdin(&mut self) {
        self.held_stdin = None;
    }

    /// The process is gone: nothing will be written any more. What is in the pipes stays until the container is
    /// deleted.
    pub fn ended(&mut self) {
        self.stdin = None;
        self.stdout = None;
        self.held_stdin = None;
        self.write_ends.clear();
    }
}

/// Refuses what cannot be served, by name.
pub fn check(paths: &StdioPaths) -> Result<(), Error> {
    for (value, field) in [(&paths.stdin, "stdin"), (&paths.stdout, "stdout"), (&paths.stderr, "stderr")] {
        fifo(value, field)?;
    }
    Ok(())
}

/// The path of a FIFO, `None` for what is not wanted.
fn fifo(value: &str, field: &'static str) -> Result<Option<PathBuf>, Error> {
    let path = match value.split_once("://") {
        None => value,
        Some(("fifo", path)) => path,
        Some((scheme, _)) => {
            return Err(Error::Unsupported {
                feature: format!("{field}: {scheme}:// stdio"),
                remedy: "use FIFOs (ctr without --log-uri, nerdctl without -d)",
            });
        }
    };
    match path {
        "" => Ok(None),
        path if path.starts_with('/') => Ok(Some(path.into())),
        _ => Err(invalid(field, value, "is not an absolute path", "give the path of a FIFO")),
    }
}

fn open_fifo(path: &Path, mode: OFlags) -> Result<OwnedFd, Error> {
    let fd = open(path, mode | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::file("open the FIFO", path)(e.into()))?;
    let stat = fstat(&fd).map_err(|e| Error::file("look at", path)(e.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
        return Err(invalid("stdio", &path.to_string_lossy(), "is not a FIFO", "give the path of a FIFO"));
    }
    Ok(fd)
}
