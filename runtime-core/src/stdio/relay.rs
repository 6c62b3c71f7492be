//! What passes through the daemon: the bytes of a terminal, and of pipes where the client's own ends are not handed over.
//!
//! Nothing is copied here; the daemon takes this and does it. None of the ends makes anybody wait.

use std::os::fd::OwnedFd;

use rustix::{
    fs::{Gid, OFlags, Uid, fchown, fcntl_getfl, fcntl_setfl},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
};

/// What is to be copied.
#[derive(Debug)]
pub struct Relay {
    /// From the client to the process; `None`: nothing, or not by us.
    pub input: Option<(OwnedFd, OwnedFd)>,
    /// From the process to the client; `None`: what it says goes nowhere.
    pub outputs: Vec<(OwnedFd, Option<OwnedFd>)>,
    /// It is a terminal: whoever may still hold it, what comes from it ends with the process.
    pub terminal: Option<Terminal>,
}

/// What a terminal needs for as long as it is copied.
#[derive(Debug)]
pub struct Terminal {
    /// A slave of our own, where it is for the process to decide when it has one open: without any, the master would be
    /// at its end for good.
    pub slave: Option<OwnedFd>,
}

/// Whose the pipes are: user and group.
pub type Owner = (u32, u32);

/// A pipe instead of `end`, which the process reads from: its end, and what is to be copied.
pub fn before_input(end: OwnedFd, owner: Owner) -> Result<(OwnedFd, (OwnedFd, OwnedFd)), Errno> {
    let (read, write) = pipe(owner)?;
    without_waiting(&write)?;
    without_waiting(&end)?;
    Ok((read, (end, write)))
}

/// A pipe instead of `end`, which the process writes to.
pub fn before_output(end: OwnedFd, owner: Owner) -> Result<(OwnedFd, (OwnedFd, Option<OwnedFd>)), Errno> {
    let (read, write) = pipe(owner)?;
    without_waiting(&read)?;
    without_waiting(&end)?;
    Ok((write, (read, Some(end))))
}

fn pipe((uid, gid): Owner) -> Result<(OwnedFd, OwnedFd), Errno> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    if (uid, gid) != (0, 0) {
        // Both ends are one inode: who is not root opens them anew by /proc/self/fd.
        fchown(&read, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    Ok((read, write))
}

/// Makes reads and writes not wait.
pub fn without_waiting(fd: &OwnedFd) -> Result<(), Errno> {
    fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)
}

/// Makes reads and writes wait.
pub fn with_waiting(fd: &OwnedFd) -> Result<(), Errno> {
    fcntl_setfl(fd, fcntl_getfl(fd)? - OFlags::NONBLOCK)
}
