//! The launcher: a gated re-exec of ourselves that becomes the monitor.
//!
//! The daemon never forks and goes on, and never calls setns. It spawns `/proc/self/exe launch` with one end of a
//! SOCK_SEQPACKET pair as its stdin. That process joins cgroup and namespaces, builds the monitor's private root in a
//! mount namespace of its own, says *ready*, and waits at its gate. The gate's message turns it into the monitor by
//! `execve`: pid and start time stay, so the identity recorded in Create is the monitor's.
//!
//! Everything the launcher has is a lease: it ends with the daemon (PDEATHSIG, and a pidfd of the daemon that it
//! polls), and its mounts and namespaces end with it.
//!
//! A pod's sandbox is a launcher that becomes nothing: behind its gate it goes on holding the pod's namespaces.
//!
//! `daemon` is our side of the socket, `child` the launcher's, `message` what is said; `helper` is a process of the
//! same kind that undoes what a dead launcher left in a network namespace.

pub mod child;
mod daemon;
mod helper;
mod message;
mod socket;

use std::{
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Command, Stdio},
};

pub use daemon::{Gate, Launcher, reap};
pub use helper::Helper;
pub use message::{Device, Door, Exec, Network, NetworkAct, Setup, View};
pub use socket::Socket;

/// The hidden action of the shim that is the launcher, or a helper of its kind.
pub const ACTION: &str = "launch";
/// The environment variable that marks every process of a transaction.
pub const MARKER: &str = "URUNC_TX";

/// What a launcher process is spawned with.
#[derive(Debug)]
pub struct Spawned {
    /// Its stdin: the socket.
    pub socket: OwnedFd,
    /// Its stderr, and later the monitor's.
    pub stderr: OwnedFd,
    /// The transaction, for its environment ([`MARKER`]).
    pub txid: String,
}

/// Spawns launchers on the daemon's main thread: PDEATHSIG fires when the parent *thread* ends, and the threads of a
/// pool do. The caller blocks meanwhile.
pub trait Spawn: Send + Sync {
    /// Spawns `/proc/self/exe launch`; the child's pid, unreaped.
    fn spawn(&self, what: Spawned) -> io::Result<u32>;
}

/// The command that makes a process of the launcher's kind: ourselves once more, with nothing of our environment.
///
/// Not by current_exe(): after an upgrade by rename its path ends in " (deleted)".
pub fn command(txid: &str, socket: OwnedFd) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("containerd-shim-urunc-v2")
        .arg(ACTION)
        .env_clear()
        .env(MARKER, txid)
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null());
    fault::pass_on(&mut command);
    // SAFETY: between fork and exec one system call is made, and nothing is allocated.
    unsafe { command.pre_exec(fd_limit::restore) };
    command
}

/// Closes every fd from 3 on but `keep`: containerd hands what it inherited itself on to its shims.
pub fn close_inherited(keep: &[std::os::fd::RawFd]) {
    let mut keep: Vec<u32> = keep.iter().map(|fd| fd.cast_unsigned()).collect();
    keep.sort_unstable();
    let mut from = 3u32;
    for fd in keep.into_iter().chain([u32::MAX]) {
        if fd > from {
            // SAFETY: called first thing in a process, before anything of ours owns an fd beyond those in `keep`.
            unsafe { libc::syscall(libc::SYS_close_range, from, fd - 1, 0) };
        }
        from = fd.saturating_add(1);
    }
}
