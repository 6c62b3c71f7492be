//! The `gc` that stands by while a `delete` works. containerd asks once: whatever becomes of that `delete` - it fails, it
//! hangs, it is killed - the end of a pipe tells its `gc`, which goes on in its place.
//!
//! `delete` owns the process until it has done all of its work and dismisses it. Dropped before, the pipe ends, and the
//! process lives on for itself: detached, bounded, its stdio on /dev/null.

use std::{
    fs::File,
    io::Read as _,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, Command, Stdio},
};

use proc_id::Process;
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::Signal,
};

use crate::{error::Error, flags::Flags, handover::take_stdin};

/// A `gc` that waits.
pub struct Standby {
    child: Child,
    process: Process,
    _line: OwnedFd,
}

impl Standby {
    /// Spawns it, for this transaction of the container.
    pub fn spawn(flags: &Flags, group: &str, txid: &str) -> Result<Self, Error> {
        let (theirs, line) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::system("make a pipe"))?;
        let mut child = Command::new("/proc/self/exe")
            .arg0("containerd-shim-urunc-v2")
            .args(["-namespace", &flags.namespace, "-address", &flags.address, "-id", &flags.id])
            .args(["-group", group, "-txid", txid, "gc"])
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::system("spawn gc"))?;
        match Process::of_child(child.id()) {
            Ok(process) => Ok(Self { child, process, _line: line }),
            Err(e) => {
                // It finds the work done, or does it.
                drop(line);
                child.try_wait().ok();
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

/// For the `gc`: waits until its `delete` has ended without a word.
pub fn await_turn() -> Result<(), Error> {
    let mut line = File::from(take_stdin().map_err(Error::system("take over from delete"))?);
    // Nothing is ever written: this is its end.
    line.read(&mut [0]).map_err(Error::system("take over from delete"))?;
    Ok(())
}
