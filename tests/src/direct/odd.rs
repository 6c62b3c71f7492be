//! Processes of odd kinds, made to happen: one that has the pid of another one that is dead, one whose leader is dead
//! while a thread lives, one that takes long to die. Each ends with its handle.

use std::{
    fs, io,
    mem::zeroed,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, Stdio},
    ptr,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid},
};

use super::{Proc, eventually};

/// A child of the test that is no program of its own.
#[derive(Debug)]
pub struct Odd {
    pidfd: OwnedFd,
    pid: i32,
}

impl Odd {
    /// A `sleep` that has the pid of one that is dead, and reaped. Needs `CAP_SYS_ADMIN` or `CAP_CHECKPOINT_RESTORE` in
    /// the pid namespace, else it is EPERM; EEXIST: the number is taken.
    pub fn with_pid(pid: i32) -> io::Result<Self> {
        let argv = [c"sleep".as_ptr(), c"3600".as_ptr(), ptr::null()];
        let odd = clone(Some(pid), || {
            // SAFETY: the arguments end with a null pointer and outlive the call.
            unsafe { libc::execve(c"/bin/sleep".as_ptr(), argv.as_ptr(), argv[2..].as_ptr()) };
        })?;
        eventually("it sleeps", || odd.proc().comm() == "sleep" && odd.proc().state() == Some('S'));
        Ok(odd)
    }

    /// Its leader has ended and is a zombie; one thread of it lives on.
    pub fn headless() -> Self {
        let mut stack = vec![0u128; 4096];
        let flags = libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM;
        let odd = clone(None, || {
            // SAFETY: the stack is the child's own copy, as large as it says, and a stack grows down.
            unsafe {
                libc::clone(pauses, stack.as_mut_ptr_range().end.cast(), flags, ptr::null_mut());
                // Not exit_group: only this thread ends.
                libc::syscall(libc::SYS_exit, 0);
            }
        });
        let odd = odd.unwrap();
        eventually("the leader is a zombie", || odd.proc().state() == Some('Z'));
        odd
    }

    /// It has touched so much memory, and gets so little of the processor, that it takes seconds to die; until `Busy`
    /// goes.
    pub fn heavy(bytes: usize) -> (Self, Busy) {
        let odd = clone(None, || {
            // SAFETY: an anonymous mapping of the child's own, within whose bounds it writes.
            unsafe {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                let at = libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
                // In small pages: huge ones are freed at once.
                libc::madvise(at, bytes, libc::MADV_NOHUGEPAGE);
                libc::memset(at, 1, bytes);
                pauses(ptr::null_mut());
            }
        });
        let odd = odd.unwrap();
        let resident = || {
            let statm = fs::read_to_string(format!("/proc/{}/statm", odd.pid)).unwrap();
            statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        };
        eventually("its memory is touched", || resident() >= bytes);
        // Idle beside a process that never pauses on the same processor.
        // SAFETY: the structures are plain data, as large as they say.
        unsafe {
            let mut first: libc::cpu_set_t = zeroed();
            let mut allowed: libc::cpu_set_t = zeroed();
            assert_eq!(libc::sched_getaffinity(0, size_of_val(&allowed), &raw mut allowed), 0);
            let cpu = (0..libc::CPU_SETSIZE as usize).find(|n| libc::CPU_ISSET(*n, &allowed)).unwrap();
            libc::CPU_SET(cpu, &mut first);
            assert_eq!(libc::sched_setaffinity(odd.pid, size_of_val(&first), &raw const first), 0);
            let idle: libc::sched_param = zeroed();
            assert_eq!(libc::sched_setscheduler(odd.pid, libc::SCHED_IDLE, &raw const idle), 0);
            let mut command = Command::new("sh");
            command.args(["-c", "while :; do :; done"]).stdin(Stdio::null()).process_group(0);
            command.pre_exec(move || {
                libc::sched_setaffinity(0, size_of_val(&first), &raw const first);
                Ok(())
            });
            let busy = Busy { child: command.spawn().unwrap(), beside: odd.pid, allowed };
            (odd, busy)
        }
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// It as any other process.
    pub fn proc(&self) -> Proc {
        Proc::of(self.pid)
    }

    /// Whether a signal ended it, all of it, by now; it is not reaped.
    pub fn is_dead(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&now)).unwrap() > 0
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        pidfd_send_signal(&self.pidfd, Signal::KILL).ok();
        waitid(WaitId::Pid(Pid::from_raw(self.pid).unwrap()), WaitIdOptions::EXITED).ok();
    }
}

/// Keeps a processor busy, beside a process that gets nothing of any other.
pub struct Busy {
    child: Child,
    beside: libc::pid_t,
    allowed: libc::cpu_set_t,
}

impl Drop for Busy {
    /// The other one must have ended soon: others may keep its processor busy as well.
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        // SAFETY: plain data, as large as it says. The other one may be a zombie by now; nobody has waited for it.
        unsafe {
            let normal: libc::sched_param = zeroed();
            libc::sched_setscheduler(self.beside, libc::SCHED_OTHER, &raw const normal);
            libc::sched_setaffinity(self.beside, size_of_val(&self.allowed), &raw const self.allowed);
        }
    }
}

extern "C" fn pauses(_: *mut libc::c_void) -> libc::c_int {
    loop {
        // SAFETY: it takes nothing and only waits.
        unsafe { libc::pause() };
    }
}

/// clone3(2): a child that does `act`, in which only async-signal-safe calls are allowed, for we have threads.
fn clone(pid: Option<i32>, act: impl FnOnce()) -> io::Result<Odd> {
    let mut pidfd: libc::c_int = -1;
    let wanted = pid.unwrap_or(0);
    // SAFETY: plain data, of which zero means nothing wanted.
    let mut args: libc::clone_args = unsafe { zeroed() };
    args.flags = libc::CLONE_PIDFD.cast_unsigned().into();
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD.cast_unsigned().into();
    if pid.is_some() {
        args.set_tid = (&raw const wanted) as u64;
        args.set_tid_size = 1;
    }
    // SAFETY: the arguments are as large as they say; the child has a copy of everything, and does not return.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            act();
            // SAFETY: it ends here and now.
            unsafe { libc::_exit(127) }
        }
        pid => {
            // SAFETY: the kernel has just made it for us.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            assert!(pidfd.as_raw_fd() > 2);
            Ok(Odd { pidfd, pid: i32::try_from(pid).unwrap() })
        }
    }
}
