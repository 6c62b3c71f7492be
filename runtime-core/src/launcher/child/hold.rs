//! The sandbox's launcher behind its gate: it becomes nothing, it holds the pod's namespaces.
//!
//! As pid 1 of a shared pid namespace it reaps what its members leave. TERM and INT end it, as they end a pause
//! program; so does the daemon's death.

use std::{
    ffi::CStr,
    mem::MaybeUninit,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};

use host_mount::make_readonly;
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    mount::MountFlags,
    process::{WaitOptions, wait},
    thread::set_name,
};

use super::{Failure, exec::drop_privileges, fault_at, send, tie_to};
use crate::launcher::{message::FromLauncher, socket::Socket};

/// What `ps` shows.
const NAME: &CStr = c"urunc-sandbox";

/// Holds; returns only when that fails or the daemon is gone.
pub fn hold(socket: &Socket, daemon: &OwnedFd) -> Result<(), Failure> {
    fault_at("launcher.gate")?;
    set_name(NAME).map_err(Failure::of("name itself"))?;
    let signals = signals()?;
    make_readonly(Path::new("/"), MountFlags::NOSUID)?;
    drop_privileges()?;
    // Changed credentials clear the parent-death signal.
    tie_to(daemon)?;
    // It stays for as long as the pod, and needs nothing any more of what setting it up has taken.
    // SAFETY: malloc_trim(3) may be called at any time, by any thread.
    unsafe { libc::malloc_trim(0) };
    fault_at("launcher.hold")?;
    send(socket, &FromLauncher::Holding, &[])?;
    loop {
        let mut fds = [PollFd::new(&signals, PollFlags::IN), PollFd::new(daemon, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(Failure::of("wait")(e)),
        }
        if !fds[1].revents().is_empty() {
            return Ok(());
        }
        if !fds[0].revents().is_empty() {
            match next(&signals) {
                Some(libc::SIGCHLD) => while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {},
                Some(signal) => std::process::exit(128 + signal),
                None => {}
            }
        }
    }
}

/// An fd from which TERM, INT and CHLD are read instead of being delivered.
fn signals() -> Result<OwnedFd, Failure> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set that the others read; no pointer outlives the calls. This process has
    // one thread. The kernel has just made the fd for us.
    let fd = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGCHLD] {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
        libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if fd < 0 {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        return Err(Failure { action: "listen for signals".to_owned(), errno });
    }
    // SAFETY: see above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The next signal, `None`: there is none.
fn next(signals: &OwnedFd) -> Option<i32> {
    let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: the buffer has the size that is given, and is only looked at when all of it was written.
    let n = unsafe { libc::read(signals.as_raw_fd(), info.as_mut_ptr().cast(), size) };
    // SAFETY: signalfd(2) writes whole structures.
    (n == size.cast_signed()).then(|| unsafe { info.assume_init() }.ssi_signo.cast_signed())
}
