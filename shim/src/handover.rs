//! Between `start` and the daemon that it makes. The daemon is spawned first, with one end of a socket as its stdin, and
//! is handed what `start` makes afterwards: listener, owner lock, the pipe on which it is let go, and that of a `gc`. So whenever `start`
//! dies, somebody is there who sees it and removes what it had made.
//!
//! `start` owns the process until it lets it go: dropped before, it is killed and reaped.

use std::{
    fs::File,
    io::Write,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, Stdio},
};

use proc_id::{Process, ProcessId};
use runtime_core::launcher::Socket;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, open},
    io::{Errno, fcntl_dupfd_cloexec},
    net::sockopt::socket_peercred,
    pipe::{PipeFlags, pipe_with},
    process::{PidfdFlags, Signal, pidfd_open},
    stdio::{dup2_stdin, stdin},
};

use crate::{error::Error, flags::Flags};

/// A daemon that has been spawned and is not let go yet.
pub struct Daemon {
    child: Option<(Child, Process)>,
    socket: Socket,
    release: Option<File>,
}

impl Daemon {
    /// Spawns it, for the group, as this instance.
    pub fn spawn(flags: &Flags, group: &str, instance: &str) -> Result<Self, Error> {
        let (ours, theirs) = Socket::pair().map_err(Error::system("make a socket"))?;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("containerd-shim-urunc-v2")
            .args(["-namespace", &flags.namespace, "-address", &flags.address, "-id", &flags.id])
            .args(["-group", group, "-instance", instance])
            .args(flags.debug.then_some("-debug"))
            .arg("daemon")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().map_err(Error::system("spawn the daemon"))?;
        match Process::of_child(child.id()) {
            Ok(process) => Ok(Self { child: Some((child, process)), socket: ours, release: None }),
            Err(e) => {
                // It finds nobody at the socket, and ends.
                drop(ours);
                child.wait().ok();
                Err(e.into())
            }
        }
    }

    /// Who it is.
    pub fn id(&self) -> Option<&ProcessId> {
        self.child.as_ref().map(|(_, process)| process.id())
    }

    /// Hands it what it serves with.
    pub fn hand_over(
        &mut self,
        listener: &impl AsFd,
        owner: &impl AsFd,
        standby: &impl AsFd,
    ) -> Result<(), Error> {
        let (wait, release) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::system("make a pipe"))?;
        self.socket
            .send(&(), &[listener.as_fd(), owner.as_fd(), wait.as_fd(), standby.as_fd()])
            .map_err(Error::system("hand the socket to the daemon"))?;
        self.release = Some(release.into());
        Ok(())
    }

    /// Lets it go: from here on it lives for itself.
    pub fn let_go(mut self) -> Result<(), Error> {
        if let Some(release) = &mut self.release {
            release.write_all(b"g").map_err(Error::system("let the daemon go"))?;
        }
        self.child = None;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some((mut child, process)) = self.child.take() {
            process.signal(Signal::KILL).ok();
            child.wait().ok();
        }
    }
}

/// For the daemon: listener, owner lock, release pipe, and the line of whoever stands by. `None`: `start` is gone, or had no use for a daemon.
pub fn receive() -> Result<Option<[OwnedFd; 4]>, Error> {
    let socket: Socket = take_stdin().map_err(Error::system("take over from start"))?.into();
    match socket.receive::<()>().map_err(Error::system("take over from start"))? {
        None => {
            see_end(&socket).map_err(Error::system("wait for the end of start"))?;
            Ok(None)
        }
        Some(((), fds)) => fds.try_into().map(Some).map_err(|fds: Vec<OwnedFd>| Error::Usage {
            problem: format!("the daemon was handed {} descriptors, not 4: only start makes one", fds.len()),
        }),
    }
}

/// Takes what was given as stdin; that becomes what a detached process's is.
pub fn take_stdin() -> Result<OwnedFd, Errno> {
    let given = fcntl_dupfd_cloexec(stdin(), 3)?;
    let null = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    dup2_stdin(&null)?;
    Ok(given)
}

/// A process that dies closes its descriptors one by one: its locks are free only once it is gone.
fn see_end(socket: &Socket) -> Result<(), Errno> {
    let start = match pidfd_open(socket_peercred(socket)?.pid, PidfdFlags::empty()) {
        Err(e) if proc_id::is_no_process(e) => return Ok(()),
        result => result?,
    };
    let most = Timespec { tv_sec: 2, tv_nsec: 0 };
    poll(&mut [PollFd::new(&start, PollFlags::IN)], Some(&most)).map(drop)
}
