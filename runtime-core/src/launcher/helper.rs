//! A helper: a short-lived process of the launcher's kind that enters a network namespace whose launcher may be dead, and
//! undoes there what a transaction did. It ends with its socket; whoever unwinds, unwinds with its own helper.

use std::{
    os::fd::{AsFd, OwnedFd},
    process::Stdio,
    time::{Duration, Instant},
};

use proc_id::Process;
use rustix::process::Signal;

use super::{
    command,
    daemon::reap,
    message::{FromLauncher, NetworkAct, ToLauncher},
    socket::Socket,
};
use crate::Error;

/// How long a helper may take to end.
const ENDING: Duration = Duration::from_millis(500);

/// A helper in a network namespace.
#[derive(Debug)]
pub struct Helper {
    process: Process,
    socket: Option<Socket>,
}

impl Helper {
    /// Spawns one and sends it into `netns`.
    pub fn spawn(txid: &str, netns: &OwnedFd, deadline: Instant) -> Result<Self, Error> {
        let (ours, theirs) = Socket::pair().map_err(Error::system("make a socket pair"))?;
        // The command goes with this statement: it holds the helper's end, whose end would not be seen then.
        let child = command(txid, theirs.into())
            .current_dir("/")
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::system("spawn a helper"))?;
        let process = Process::of_child(child.id())?;
        let mut helper = Self { process, socket: Some(ours) };
        helper.ask(&ToLauncher::Enter, Some(netns), deadline)?;
        Ok(helper)
    }

    /// Has it act.
    pub fn act(&mut self, act: NetworkAct, deadline: Instant) -> Result<bool, Error> {
        self.ask(&ToLauncher::Network(act), None, deadline)
    }

    fn ask(&mut self, what: &ToLauncher, fd: Option<&OwnedFd>, deadline: Instant) -> Result<bool, Error> {
        let doing = "undo the network";
        let died = || Error::LauncherDied { action: doing, words: String::new() };
        let socket = self.socket.as_ref().ok_or_else(died)?;
        let fds: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
        socket.send(what, &fds).map_err(Error::system("send a message to a helper"))?;
        if !socket.wait(deadline).map_err(Error::system("wait for a helper"))? {
            return Err(Error::Deadline { id: "helper".to_owned(), verb: doing });
        }
        match socket.receive().map_err(Error::system("receive a message from a helper"))? {
            Some((FromLauncher::Done(done), _)) => Ok(done),
            Some((FromLauncher::Failed { action, errno }, _)) => {
                Err(Error::Launcher { action, source: std::io::Error::from_raw_os_error(errno) })
            }
            Some((other, _)) => Err(Error::Message { message: format!("{other:?}") }),
            None => Err(died()),
        }
    }
}

impl Drop for Helper {
    /// It ends by itself when its socket does; one that hangs is killed.
    fn drop(&mut self) {
        self.socket = None;
        if !self.process.wait(Some(ENDING)).unwrap_or(false) {
            self.process.signal(Signal::KILL).ok();
            self.process.wait(Some(ENDING)).ok();
        }
        reap(&self.process);
    }
}
