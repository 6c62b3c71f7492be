//! The daemon's side of a launcher: spawn it, see it ready, let it through the gate, prove the exec.
//!
//! It owns the socket and the process's pidfd. When it fails, the process may live: the caller's step undoes it.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{fs::MetadataExt, net::UnixStream},
    },
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use proc_id::Process;
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, pidfd_open, waitid},
};

use super::{
    Exec, Setup, Spawn, Spawned,
    message::{FromLauncher, Network, NetworkAct, ToLauncher},
    socket::Socket,
};
use crate::{Error, last_words::LastWords};

/// How long a launcher that ended may take to be seen dead.
const DYING: Duration = Duration::from_secs(2);

/// A launcher that is ready and waits at its gate.
#[derive(Debug)]
pub struct Launcher {
    /// The process; it becomes the monitor.
    pub process: Arc<Process>,
    /// What it and the monitor say.
    pub words: Arc<LastWords>,
    /// The gate.
    pub gate: Gate,
    /// The image's root; to be closed before the plan is durable. `None`: a sandbox.
    pub image: Option<OwnedFd>,
    /// Its network namespace, as it is now.
    pub network: Network,
}

/// Our end of the socket.
#[derive(Debug)]
pub struct Gate {
    socket: Socket,
    /// It was asked something and has not answered yet.
    owes: bool,
}

impl Launcher {
    /// Spawns a launcher and waits until it is ready. `known` is called as soon as its identity is known, while it
    /// sets itself up.
    pub fn spawn(
        spawner: &dyn Spawn,
        txid: &str,
        setup: Setup,
        cgroups: &[OwnedFd],
        deadline: Instant,
        known: impl FnOnce(&Arc<Process>) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let (ours, theirs) = Socket::pair().map_err(Error::system("make a socket pair"))?;
        let (words, stderr) =
            pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(Error::system("make a pipe"))?;
        // The launcher and its monitor write to theirs without O_NONBLOCK, or a long complaint would be cut off.
        rustix::fs::fcntl_setfl(&stderr, rustix::fs::OFlags::empty())
            .map_err(Error::system("set up a pipe"))?;
        let words = Arc::new(LastWords::new(words));

        let spawned = Spawned { socket: theirs.into(), stderr, txid: txid.to_owned() };
        let pid = spawner.spawn(spawned).map_err(Error::system("spawn the launcher"))?;
        let mut first = FirstStage(Some(Process::of_child(pid)?));
        let daemon =
            pidfd_open(getpid(), PidfdFlags::empty()).map_err(Error::system("open a pidfd of ourselves"))?;
        let mut fds = vec![daemon.as_fd()];
        fds.extend(cgroups.iter().map(OwnedFd::as_fd));
        let mut gate = Gate { socket: ours, owes: false };
        fault::point("launcher.spawned")?;
        gate.send(&ToLauncher::Setup(setup), &fds)?;

        let mut known = Some(known);
        let mut process: Option<Arc<Process>> = None;
        let mut ready = None;
        loop {
            if let Some(process) = &process
                && let Some(known) = known.take()
            {
                known(process)?;
            }
            if let Some(process) = &process
                && let Some((network, image)) = ready.take()
            {
                return Ok(Self { process: process.clone(), words, gate, image, network });
            }
            let doing = "set itself up";
            if process.is_none() && first.ended_silently(&gate, deadline)? {
                drop(gate);
                first.reap_child();
                return Err(Error::LauncherDied { action: doing, words: words.text() });
            }
            match gate.receive(deadline, doing, &words)? {
                (FromLauncher::Child, fd) => {
                    process = Some(Arc::new(Process::from_pidfd(fd.ok_or_else(no_fd)?)?));
                    first.ends();
                }
                (FromLauncher::Ready(network), fd) => ready = Some((network, fd)),
                (other, _) => return Err(unexpected(&other)),
            }
        }
    }
}

impl Gate {
    /// Waits for what a question that was given up is still answered, whatever that is: behind it the launcher waits as
    /// before. An error: it does not.
    pub fn settle(&mut self, deadline: Instant, words: &LastWords) -> Result<(), Error> {
        if !self.owes {
            return Ok(());
        }
        match self.receive(deadline, "answer", words) {
            Ok(_) | Err(Error::Launcher { .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Asks for an fd of the image's root once more.
    pub fn image(&mut self, deadline: Instant, words: &LastWords) -> Result<OwnedFd, Error> {
        self.send(&ToLauncher::Image, &[])?;
        match self.receive(deadline, "show the image", words)? {
            (FromLauncher::Image, fd) => fd.ok_or_else(no_fd),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Asks what is in its network namespace now.
    pub fn look(&mut self, deadline: Instant, words: &LastWords) -> Result<Network, Error> {
        self.send(&ToLauncher::Look, &[])?;
        match self.receive(deadline, "look at its network", words)? {
            (FromLauncher::Network(network), _) => Ok(network),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Changes something in its network namespace, or asks about it.
    pub fn act(&mut self, act: NetworkAct, deadline: Instant, words: &LastWords) -> Result<bool, Error> {
        self.send(&ToLauncher::Network(act), &[])?;
        match self.receive(deadline, "set up the network", words)? {
            (FromLauncher::Done(done), _) => Ok(done),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// The gate of a sandbox: from here on it holds its namespaces, and says nothing any more.
    pub fn hold(mut self, deadline: Instant, words: &LastWords) -> Result<(), Error> {
        self.send(&ToLauncher::Hold, &[])?;
        match self.receive(deadline, "hold the pod's namespaces", words)? {
            (FromLauncher::Holding, _) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Sends the gate message. From here on the container cannot go back to Created.
    pub fn open(
        &mut self,
        exec: Exec,
        stdio: [BorrowedFd<'_>; 2],
        control: &UnixStream,
    ) -> Result<(), Error> {
        self.send(&ToLauncher::Exec(exec), &[stdio[0], stdio[1], control.as_fd()])
    }

    /// Waits for the exec, and proves it: the socket's end alone is no proof, for a killed launcher gives that too.
    pub fn passed(
        mut self,
        process: &Process,
        program: &Path,
        deadline: Instant,
        words: &LastWords,
    ) -> Result<(), Error> {
        let doing = "start the monitor";
        if !self.socket.wait(deadline).map_err(Error::system("wait for the launcher"))? {
            return Err(Error::Deadline { id: process.pid().to_string(), verb: doing });
        }
        match self.try_receive()? {
            None => {}
            Some((FromLauncher::Failed { action, errno }, _)) => return Err(failed(action, errno)),
            Some((other, _)) => return Err(unexpected(&other)),
        }
        let planned = program.metadata().map_err(Error::file("look at", program))?;
        let exe = format!("/proc/{}/exe", process.pid());
        // The pidfd holds the process, so the number in the path is still its own; of a dead one there is no exe.
        match std::fs::metadata(&exe) {
            Ok(running) if (running.dev(), running.ino()) == (planned.dev(), planned.ino()) => Ok(()),
            _ => Err(Error::LauncherDied { action: doing, words: words.text() }),
        }
    }

    fn send(&mut self, message: &ToLauncher, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        self.owes = true;
        self.socket.send(message, fds).map_err(Error::system("send a message to the launcher"))
    }

    fn try_receive(&mut self) -> Result<Option<(FromLauncher, Vec<OwnedFd>)>, Error> {
        self.socket.receive().map_err(Error::system("receive a message from the launcher"))
    }

    /// The next message, its first fd beside it. A failure that the launcher reports is an error.
    fn receive(
        &mut self,
        deadline: Instant,
        doing: &'static str,
        words: &LastWords,
    ) -> Result<(FromLauncher, Option<OwnedFd>), Error> {
        if !self.socket.wait(deadline).map_err(Error::system("wait for the launcher"))? {
            return Err(Error::Deadline { id: "launcher".to_owned(), verb: doing });
        }
        self.owes = false;
        match self.try_receive()? {
            Some((FromLauncher::Failed { action, errno }, _)) => Err(failed(action, errno)),
            Some((message, fds)) => Ok((message, fds.into_iter().next())),
            None => Err(Error::LauncherDied { action: doing, words: words.text() }),
        }
    }
}

fn failed(action: String, errno: i32) -> Error {
    Error::Launcher { action, source: io::Error::from_raw_os_error(errno) }
}

fn no_fd() -> Error {
    Error::Message { message: "a message without its fd".to_owned() }
}

fn unexpected(message: &FromLauncher) -> Error {
    Error::Message { message: format!("{message:?}") }
}

/// The process that was spawned, until it has handed over to the one that goes on. Nobody else waits for it.
struct FirstStage(Option<Process>);

impl FirstStage {
    /// Waits for its message. `true`: it was killed before it told who goes on. That one may be there, ready at its gate,
    /// and holds the other end of the socket: no end of it would ever be seen.
    fn ended_silently(&self, gate: &Gate, deadline: Instant) -> Result<bool, Error> {
        let Some(process) = &self.0 else { return Ok(false) };
        gate.socket.wait_or_end(process.as_fd(), deadline).map_err(Error::system("wait for the launcher"))
    }

    /// Reaps the child that it made and did not tell of, which ends with the socket: nobody else will know of it. It is
    /// in the first stage's process group, whose number is in use until the first stage itself is reaped.
    fn reap_child(&mut self) {
        let Some(group) = self.0.as_ref().and_then(|process| Pid::from_raw(process.pid())) else { return };
        let options = reaping();
        let deadline = Instant::now() + DYING;
        // An error: no child of ours is in it any more.
        while waitid(WaitId::Pgid(Some(group)), options).is_ok() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.0 = None;
    }

    /// It has said its last word: it ends by itself.
    fn ends(&mut self) {
        if let Some(process) = &self.0
            && process.wait(Some(DYING)).is_ok_and(|dead| dead)
        {
            reap(process);
            self.0 = None;
        }
    }
}

impl Drop for FirstStage {
    /// Setting up has failed, or it does not end: it is ended.
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            process.signal(Signal::KILL).ok();
            self.ends();
        }
    }
}

/// Reaps a dead child; how it ended, `None` if it is no (longer a) child of ours or lives.
pub fn reap(process: &Process) -> Option<vmm_api::RawExit> {
    let status = waitid(WaitId::PidFd(process.as_fd()), reaping()).ok()??;
    if let Some(code) = status.exit_status() {
        return Some(vmm_api::RawExit::Code(code));
    }
    status.terminating_signal().map(vmm_api::RawExit::Signal)
}

/// A child that was cloned with exit signal 0 is only seen with __WALL.
fn reaping() -> WaitIdOptions {
    let all = WaitIdOptions::from_bits_retain(libc::__WALL.cast_unsigned());
    WaitIdOptions::EXITED | WaitIdOptions::NOHANG | all
}
