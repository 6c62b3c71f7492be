//! The container's stdio, opened once in Create.
//!
//! The guest's serial console is the monitor's stdin and stdout, and those are the client's FIFOs or its file
//! themselves, or a pipe to its logger: no byte passes through the daemon, and what was written before the end is in the pipe. The daemon
//! *holds* ends of FIFOs so that a restart of containerd neither breaks a pipe nor loses what is in it: the read end of
//! stdout and stderr, the write end of stdin. The client sees its EOF when the last write end is gone: the monitor's
//! with its death, ours of stderr with [`Stdio::ended`].

mod fifo;
mod file;
pub mod gated;
mod logger;
mod relay;
mod target;
mod terminal;
mod uri;

use std::os::fd::OwnedFd;

use rustix::{
    fs::{FileType, OFlags},
    termios::{Winsize, tcsetwinsize},
};

use crate::{Error, record::StdioPaths};

use fifo::open_end;
pub use logger::reserve_numbers;
pub use relay::{Owner, Relay, Terminal};
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
    /// What the daemon is to copy, until it begins.
    pub relay: Option<Relay>,
    /// The terminal's master, for its size.
    master: Option<OwnedFd>,
    held_stdin: Option<OwnedFd>,
    /// Of stderr, to which no monitor writes: it ends with the guest all the same.
    stderr: Option<OwnedFd>,
    read_ends: Vec<OwnedFd>,
}

impl Stdio {
    /// Opens what is wanted. Opening never waits for the other side.
    pub fn open(paths: &StdioPaths) -> Result<Self, Error> {
        let mut stdio = Self::open_targets(Targets::of(paths)?)?;
        if paths.terminal {
            stdio.put_terminal_between()?;
        }
        Ok(stdio)
    }

    /// The same for an ordinary container, or a process in one: its terminal is the OCI runtime's to make.
    pub fn open_plain(paths: &StdioPaths) -> Result<Self, Error> {
        Self::open_targets(Targets::of(paths)?)
    }

    /// What an ordinary process is given: its stdin, stdout and stderr; `None`: not wanted. Writing there waits, as a
    /// program expects it.
    pub fn take_ends(&mut self) -> Result<[Option<OwnedFd>; 3], Error> {
        let ends = [self.stdin.take(), self.stdout.take(), self.stderr.take()];
        for end in ends.iter().flatten() {
            relay::with_waiting(end).map_err(Error::system("set up its stdio"))?;
        }
        Ok(ends)
    }

    /// Puts the terminal that the OCI runtime made, by its master, before what is open.
    pub fn adopt_terminal(&mut self, master: OwnedFd) -> Result<(), Error> {
        let failed = Error::system("set up a terminal");
        let own = (|| {
            relay::without_waiting(&master)?;
            if let Some(output) = &self.stdout {
                relay::without_waiting(output)?;
            }
            Ok::<_, std::io::Error>((terminal::slave(&master)?, master.try_clone()?, master.try_clone()?))
        })();
        let (slave, own, to) = own.map_err(failed)?;
        self.master = Some(own);
        let input = self.stdin.take().map(|input| (input, to));
        let outputs = vec![(master, self.stdout.take())];
        self.relay = Some(Relay { input, outputs, terminal: Some(Terminal { slave: Some(slave) }) });
        Ok(())
    }

    /// The process gets pipes for its output instead of the client's FIFOs and files, which go behind them: what it leaves
    /// behind then does not keep the client's end open for ever.
    pub fn put_pipes_behind(&mut self) -> Result<(), Error> {
        self.put_pipes((0, 0), false, |_| true)
    }

    /// It gets pipes instead of files of the host, which it could else own, open anew and cut short.
    pub fn put_pipes_before_files(&mut self) -> Result<(), Error> {
        let is_file = |end: &OwnedFd| {
            rustix::fs::fstat(end).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile)
        };
        self.put_pipes((0, 0), false, is_file)
    }

    /// It gets pipes for everything, and they are this user's: a process that is not root can open them anew by
    /// `/proc/self/fd`. The client's FIFOs and files stay whose they are.
    pub fn put_pipes_of(&mut self, owner: Owner) -> Result<(), Error> {
        self.put_pipes(owner, true, |_| true)
    }

    fn put_pipes(
        &mut self,
        owner: Owner,
        input: bool,
        wanted: impl Fn(&OwnedFd) -> bool,
    ) -> Result<(), Error> {
        let failed = |e| Error::system("make pipes for its stdio")(e);
        let mut relay = Relay { input: None, outputs: vec![], terminal: None };
        if input && let Some(end) = self.stdin.take() {
            let (own, copied) = relay::before_input(end, owner).map_err(failed)?;
            (self.stdin, relay.input) = (Some(own), Some(copied));
        }
        for slot in [&mut self.stdout, &mut self.stderr] {
            let Some(end) = slot.take_if(|end| wanted(end)) else { continue };
            let (own, copied) = relay::before_output(end, owner).map_err(failed)?;
            *slot = Some(own);
            relay.outputs.push(copied);
        }
        self.relay = Some(relay).filter(|relay| relay.input.is_some() || !relay.outputs.is_empty());
        Ok(())
    }

    fn open_targets(targets: Targets) -> Result<Self, Error> {
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

    /// The monitor gets a terminal instead of what is open, which goes behind it.
    fn put_terminal_between(&mut self) -> Result<(), Error> {
        let failed = Error::system("set up a terminal");
        let (master, slave) = terminal::pty()?;
        let copies = (|| {
            if let Some(output) = &self.stdout {
                relay::without_waiting(output)?;
            }
            Ok::<_, std::io::Error>((slave.try_clone()?, master.try_clone()?, master.try_clone()?))
        })();
        let (copy, own, to) = copies.map_err(failed)?;
        let input = self.stdin.replace(copy).map(|input| (input, to));
        let output = self.stdout.replace(slave);
        self.master = Some(own);
        // The monitor holds it to its end.
        let terminal = Some(Terminal { slave: None });
        self.relay = Some(Relay { input, outputs: vec![(master, output)], terminal });
        Ok(())
    }

    /// Sets the terminal's size, if there is one; it keeps it.
    pub fn resize(&self, width: u16, height: u16) -> Result<(), Error> {
        let Some(master) = &self.master else { return Ok(()) };
        let size = Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(master, size).map_err(Error::system("set a terminal's size"))
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
        self.relay = None;
    }
}

/// Refuses what cannot be served, by name.
pub fn check(paths: &StdioPaths) -> Result<(), Error> {
    Targets::of(paths).map(drop)
}
