//! The console socket: how the terminal of a process in a container comes to us.
//!
//! The runtime makes the terminal inside the container, connects to a socket and sends the master through it. It does
//! not wait for an answer: what it has sent is in the socket when its call returns, and is asked for then.
//!
//! The socket is a file of mode 0600 in a folder of the caller's, made before anybody can connect. It is reached through
//! our own `/proc`, so that the folder's path may have any length. The file goes with the [`Console`]; after our death
//! it is a dead name in that folder.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{AtFlags, Mode, OFlags, chmodat, fcntl_getfl, fcntl_setfl, open, unlinkat},
    io::{Errno, IoSliceMut},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags,
        SocketType, accept_with, bind, listen, recvmsg, socket_with, sockopt::socket_peercred,
    },
    process::geteuid,
    termios::isatty,
};

use crate::Error;

/// A socket that waits for a terminal.
#[derive(Debug)]
pub struct Console {
    socket: OwnedFd,
    folder: OwnedFd,
    name: String,
}

impl Console {
    /// Makes a socket with this name in a folder; what had the name before is removed.
    pub fn listen(folder: &Path, name: &str) -> Result<Self, Error> {
        let failed =
            |action: &str| Error::system(format!("{action} console socket {name} in {}", folder.display()));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = open(folder, flags, Mode::empty()).map_err(failed("open the folder of"))?;
        match unlinkat(&folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(failed("replace")(e)),
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let socket = socket.map_err(failed("make"))?;
        let address = format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
        let address = SocketAddrUnix::new(address).map_err(failed("name"))?;
        bind(&socket, &address).map_err(failed("bind"))?;
        let console = Self { socket, folder, name: name.to_owned() };
        // Nobody can connect before it listens.
        chmodat(&console.folder, name, Mode::RUSR | Mode::WUSR, AtFlags::empty())
            .map_err(failed("protect"))?;
        listen(&console.socket, 1).map_err(failed("listen at"))?;
        Ok(console)
    }

    /// Where a runtime connects to.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}/{}", std::process::id(), self.folder.as_raw_fd(), self.name)
    }

    /// The master of the terminal, close-on-exec and non-blocking. To be called when the runtime's call has returned;
    /// the deadline is for a runtime that has sent none.
    pub fn receive(self, deadline: Instant) -> Result<OwnedFd, Error> {
        let failed = |action: &str| Error::system(format!("{action} a console socket"));
        let problem = |problem: &str| Error::NoTerminal { problem: problem.to_owned() };
        if !readable(&self.socket, deadline)? {
            return Err(problem("nobody has connected in time"));
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let peer = accept_with(&self.socket, flags).map_err(failed("accept at"))?;
        let who = socket_peercred(&peer).map_err(failed("ask who is at"))?.uid;
        if !who.is_root() && who != geteuid() {
            return Err(problem("somebody else has connected"));
        }
        if !readable(&peer, deadline)? {
            return Err(problem("nothing was sent in time"));
        }
        // What is more than one is closed by the kernel. The bytes are the terminal's name, of no use here.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 4096];
        recvmsg(&peer, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
            .map_err(failed("receive from"))?;
        let fds = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let master = fds.flatten().next().ok_or_else(|| problem("no descriptor was sent"))?;
        if !isatty(&master) {
            return Err(problem("what was sent is none"));
        }
        let flags = fcntl_getfl(&master).map_err(failed("set up what came from"))?;
        fcntl_setfl(&master, flags | OFlags::NONBLOCK).map_err(failed("set up what came from"))?;
        Ok(master)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        unlinkat(&self.folder, &self.name, AtFlags::empty()).ok();
    }
}

/// Waits until there is something to take. `false`: not by the deadline.
fn readable(fd: impl AsFd, deadline: Instant) -> Result<bool, Error> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&left)) {
            Ok(n) => return Ok(n > 0),
            Err(Errno::INTR) => {}
            Err(e) => return Err(Error::system("wait at a console socket")(io::Error::from(e))),
        }
    }
}
