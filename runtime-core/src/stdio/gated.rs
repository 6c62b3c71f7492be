//! A logger before it is let go: ourselves, executed once more, with the logger's fds and environment.
//!
//! The program is the client's and may do anything, so it runs only when the record names this process. The daemon's
//! end before that is the end of the gate, and of this process, which has not become anything yet. Pid and start time
//! stay over the exec.

use std::{
    io::{Read, Write},
    os::unix::{net::UnixStream, process::CommandExt},
    process::{Command, exit},
};

use rustix::{
    fs::{Mode, OFlags, open},
    io::{Errno, fcntl_dupfd_cloexec},
    stdio::{dup2_stdin, stdin},
};

/// The hidden action of the shim that becomes a logger; the program and its arguments follow.
pub const ACTION: &str = "log";

/// Waits at the gate, which is stdin, and becomes the program; never returns.
pub fn main(args: impl Iterator<Item = String>) -> ! {
    let Ok(mut gate) = take_gate() else { exit(2) };
    if !matches!(gate.read(&mut [0u8; 1]), Ok(1)) {
        exit(0);
    }
    let errno = become_logger(args);
    gate.write_all(&errno.raw_os_error().to_ne_bytes()).ok();
    exit(127)
}

/// Out of the way of the logger's fds, and closed by its exec: that is how the daemon hears of it.
fn take_gate() -> Result<UnixStream, Errno> {
    let gate = fcntl_dupfd_cloexec(stdin(), 10)?;
    dup2_stdin(&open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)?;
    Ok(gate.into())
}

fn become_logger(mut args: impl Iterator<Item = String>) -> Errno {
    let Some(program) = args.next() else { return Errno::INVAL };
    let error = Command::new(program).args(args).exec();
    Errno::from_io_error(&error).unwrap_or(Errno::INVAL)
}
