//! The `gc` that stands by where nobody would be called: while a `delete` works, which containerd asks once; and
//! as long as a daemon has no container that was created: before its first call, and behind its last Delete, containerd asks
//! for no `delete`. Whoever holds the other end of its pipe does without it; the end of that pipe without a word - an error,
//! a hang, a kill - is its turn.
//!
//! It lives on for itself: detached, bounded, its stdio on /dev/null.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, Command, Stdio},
};

use proc_id::Process;
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::Signal,
};

use crate::{error::Error, flags::Flags, handover::take_stdin};

/// What is said to it.
const DISMISSED: &[u8] = b"d";

/// A pipe: its own end, and that of whom it stands by for.
pub fn line() -> Result<(OwnedFd, OwnedFd), Error> {
    pipe_with(PipeFlags::CLOEXEC).map_err(Error::system("make a pipe"))
}

/// What there is to do when its turn comes, besides removing what daemons that are dead leave.
#[derive(Clone, Copy)]
pub enum Work<'a> {
    /// To finish this transaction of the container.
    Transaction(&'a str),
    /// The same of what is this daemon's, by its instance.
    Daemon(&'a str),
    /// Nothing.
    Remains,
}

/// Spawns it at its end of the pipe.
pub fn spawn(flags: &Flags, group: &str, work: Work<'_>, line: OwnedFd) -> Result<Child, Error> {
    fault::point("standby.spawn").map_err(runtime_core::Error::from)?;
    Command::new("/proc/self/exe")
        .arg0("containerd-shim-urunc-v2")
        .args(["-namespace", &flags.namespace, "-address", &flags.address, "-id", &flags.id])
        .args(["-group", group])
        .args(match work {
            Work::Transaction(txid) => vec!["-txid", txid],
            Work::Daemon(instance) => vec!["-instance", instance],
            Work::Remains => vec![],
        })
        .arg("gc")
        .current_dir("/")
        .stdin(Stdio::from(line))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Error::system("spawn gc"))
}

/// The one of a `delete`, or of a daemon that is about to leave, which see its end.
pub struct Standby {
    child: Child,
    process: Process,
    _line: OwnedFd,
}

impl Standby {
    /// Spawns it.
    pub fn spawn(flags: &Flags, group: &str, work: Work<'_>) -> Result<Self, Error> {
        let (theirs, line) = line()?;
        let mut child = spawn(flags, group, work, theirs)?;
        match Process::of_child(child.id()) {
            Ok(process) => Ok(Self { child, process, _line: line }),
            Err(e) => {
                // Not waited for yet, so the number is its own.
                child.kill().ok();
                child.wait().ok();
                Err(e.into())
            }
        }
    }

    /// Nothing is left for it to do: it is ended.
    pub fn dismiss(mut self) {
        self.process.signal(Signal::KILL).ok();
        self.child.wait().ok();
    }
}

/// The one of a daemon: `start` has spawned it, or the daemon itself.
pub enum OfDaemon {
    /// That of `start`, at the other end.
    Start(OwnedFd),
    /// Our own.
    Own(Standby),
}

impl OfDaemon {
    /// Does without it.
    pub fn dismiss(self) {
        match self {
            // One that was never there, or is gone, needs no word.
            Self::Start(line) => drop(File::from(line).write_all(DISMISSED)),
            Self::Own(standby) => standby.dismiss(),
        }
    }
}

/// For the `gc`: waits for its turn. `false`: it was dismissed.
pub fn await_turn() -> Result<bool, Error> {
    let mut line = File::from(take_stdin().map_err(Error::system("take over"))?);
    line.read(&mut [0]).map(|bytes| bytes == 0).map_err(Error::system("take over"))
}
