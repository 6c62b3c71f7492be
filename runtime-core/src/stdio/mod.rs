//! The container's stdio, opened once in Create.
//!
//! The guest's serial console is the monitor's stdin and stdout, and those are the client's FIFOs or its file
//! themselves, or a pipe to its logger: no byte passes through the daemon, and what was written before the end is in the pipe. The daemon
//! *holds* ends of FIFOs so that a restart of containerd neither breaks a pipe nor loses what is in it: the read end of
//! stdout and stderr, the write end of stdin. The client sees its EOF when the last write end is gone: the monitor's
//! with its death, ours of stderr with [`Stdio::ended`].

mod fifo;
mod file;
mod logger;
mod target;
mod uri;

use std::os::fd::OwnedFd;

use rustix::fs::OFlags;

use crate::{Error, record::StdioPaths};

use fifo::open_end;
pub use logger::reserve_numbers;
pub use target::{Target, Targets};

/// What is open for a container.
#[derive(Debug, Default)]
pub struct Stdio {
    /// For the monitor: its stdin and stdout; `None`: not wanted, or handed over.
    pub stdin: Option<OwnedFd>,
    /// See `stdin`.
    pub stdout: Option<OwnedFd>,
    /// For the logger, where there is one, until it is spawned.
    pub logger: Option<logger::Streams>,
    held_stdin: Option<OwnedFd>,
    /// Of stderr, to which no monitor writes: it ends with the guest all the same.
    stderr: Option<OwnedFd>,
    read_ends: Vec<OwnedFd>,
}

impl Stdio {
    /// Opens what is wanted. Opening never waits for the other side.
    pub fn open(paths: &StdioPaths) -> Result<Self, Error> {
        let targets = Targets::of(paths)?;
        let mut stdio = Self::default();
        if let Target::Fifo(path) = &targets.stdin {
            stdio.stdin = Some(open_end(path, OFlags::RDONLY, "stdin")?);
            stdio.held_stdin = Some(open_end(path, OFlags::WRONLY, "stdin")?);
        }
        if let Target::Logger(logger) = targets.stdout {
            let (streams, stdout, stderr) = logger::pipes(logger)?;
            (stdio.logger, stdio.stdout) = (Some(streams), Some(stdout));
            stdio.stderr = match targets.stderr {
                Target::Nothing | Target::Logger(_) => Some(stderr),
                other => stdio.write_end(&other, "stderr")?,
            };
            return Ok(stdio);
        }
        stdio.stdout = stdio.write_end(&targets.stdout, "stdout")?;
        stdio.stderr = stdio.write_end(&targets.stderr, "stderr")?;
        Ok(stdio)
    }

    fn write_end(&mut self, target: &Target, field: &'static str) -> Result<Option<OwnedFd>, Error> {
        match target {
            // A logger has its pipes already.
            Target::Nothing | Target::Logger(_) => Ok(None),
            Target::Fifo(path) => {
                // The read end first: without a reader a write end cannot be opened without waiting.
                self.read_ends.push(open_end(path, OFlags::RDONLY, field)?);
                open_end(path, OFlags::WRONLY, field).map(Some)
            }
            Target::File(path) => file::open_file(path, field).map(Some),
        }
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
        self.stderr = None;
    }
}

/// Refuses what cannot be served, by name.
pub fn check(paths: &StdioPaths) -> Result<(), Error> {
    Targets::of(paths).map(drop)
}
