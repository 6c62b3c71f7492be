//! A process with a pid of the test's choice: how a number that was used before comes to mean somebody else.

use std::{
    ffi::CString,
    io,
    os::fd::{FromRawFd, OwnedFd},
    ptr,
};

use super::{Proc, eventually};

/// `sleep` with a pid of choice, in a network namespace of its own. It is ended with this.
#[derive(Debug)]
pub struct Stranger {
    process: Proc,
    pidfd: OwnedFd,
}

/// The argument of clone3(2) up to what Linux 5.5 knows.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
}

impl Stranger {
    /// Takes the number `pid`, which nobody may have (any more); `None`: somebody was faster.
    pub fn with_pid(pid: u32) -> Option<Self> {
        let number = i32::try_from(pid).unwrap();
        let mut pidfd: i32 = -1;
        let arguments = CloneArgs {
            flags: u64::try_from(libc::CLONE_NEWNET | libc::CLONE_PIDFD).unwrap(),
            pidfd: ptr::from_mut(&mut pidfd) as u64,
            // None: then nobody who reaps what ends takes it for something of his.
            exit_signal: 0,
            set_tid: ptr::from_ref(&number) as u64,
            set_tid_size: 1,
            ..CloneArgs::default()
        };
        // Made before there is a second process, in which nothing may be allocated.
        let words = ["/bin/sleep", "3600"].map(|word| CString::new(word).unwrap());
        let arguments_of_sleep = [words[0].as_ptr(), words[1].as_ptr(), ptr::null()];
        let environment = [ptr::null()];
        // SAFETY: the arguments are as clone3(2) wants them and live until it returns. Without CLONE_VM the child has a
        // copy of everything; of this process's threads it has only this one, hence it calls nothing but execve(2) and
        // _exit(2), which are safe then.
        let cloned = unsafe {
            let cloned = libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArgs>());
            if cloned == 0 {
                libc::execve(words[0].as_ptr(), arguments_of_sleep.as_ptr(), environment.as_ptr());
                libc::_exit(127);
            }
            cloned
        };
        if cloned < 0 {
            let error = io::Error::last_os_error();
            assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "clone3 with pid {pid}: {error}");
            return None;
        }
        assert_eq!(cloned, i64::from(pid));
        // SAFETY: clone3 has just made this descriptor for us.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        let process = Proc::of(number);
        eventually("the stranger sleeps", || process.comm() == "sleep" && process.state() == Some('S'));
        Some(Self { process, pidfd })
    }

    /// Waits until the number is free, and takes it.
    pub fn in_place_of(pid: u32) -> Self {
        // The kernel tells start times in ticks of 10 ms: a number is not used again within one, but by this test.
        std::thread::sleep(std::time::Duration::from_millis(30));
        super::eventually_some("the number is free", || Self::with_pid(pid))
    }

    /// Nobody has touched it.
    #[track_caller]
    pub fn check(&self) {
        assert!(self.process.is_alive(), "the stranger with pid {} was killed", self.process.pid());
        assert_eq!(self.process.state(), Some('S'), "the stranger was touched");
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
        pidfd_send_signal(&self.pidfd, Signal::KILL).ok();
        // A child with exit signal 0 is only seen with __WALL.
        let options = WaitIdOptions::EXITED | WaitIdOptions::from_bits_retain(libc::__WALL.cast_unsigned());
        waitid(WaitId::PidFd(std::os::fd::AsFd::as_fd(&self.pidfd)), options).ok();
    }
}
