//! Who a process is, and whether it lives.
//!
//! A pid alone says nothing: it is used again. A process is known by boot id, pid and start time (field 22 of
//! `/proc/PID/stat`, raw clock ticks; proc_pid_stat(5)), which together are never used again. Signals go through a
//! pidfd that was opened first and checked then, so they cannot reach a stranger; nothing here sends a signal to a
//! bare number, and a number that can be no process of ours (0, negative, 1, ourselves) is refused.
//!
//! Dead means: the pidfd polls readable, or the pid is absent, or its start time differs. The state `Z` alone
//! proves nothing: a leader can be a zombie while its threads live.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, pidfd_open, pidfd_send_signal, waitid,
    },
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

mod session;

/// The start time's place in `/proc/PID/stat`, counted from behind the command's name.
const START_TIME: usize = 19;

/// What can go wrong when a process is looked up.
#[derive(Debug, Error)]
pub enum Error {
    /// `/proc` could not be read.
    #[error("cannot read {path}")]
    Proc {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of `/proc` has another form than the kernel gives it.
    #[error("{path} has an unexpected form")]
    Form {
        /// Which file.
        path: String,
    },
    /// A pidfd could not be opened.
    #[error("cannot open a pidfd of process {pid}")]
    Open {
        /// The process.
        pid: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The number can be no process of ours: not positive, init, or ourselves.
    #[error("pid {pid} can be no process of ours")]
    NotAProcess {
        /// The number.
        pid: i32,
    },
    /// A signal could not be sent.
    #[error("cannot send signal {signal} to process {pid}")]
    Signal {
        /// The process.
        pid: i32,
        /// The signal's number.
        signal: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Waiting on the pidfd failed.
    #[error("cannot wait for process {pid}")]
    Wait {
        /// The process.
        pid: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The running kernel's boot id (`/proc/sys/kernel/random/boot_id`).
pub fn boot_id() -> Result<String, Error> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(path).map_err(|source| Error::Proc { path: path.to_owned(), source })?;
    Ok(text.trim().to_owned())
}

/// A process, in a form that can be written down and recognised later, after a reboot too.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The boot it lived in.
    pub boot_id: String,
    /// Its pid in the host's pid namespace.
    pub pid: i32,
    /// Its start time in clock ticks since boot: field 22 of `/proc/PID/stat`, never converted.
    pub start_time: u64,
}

impl ProcessId {
    /// The identity of the calling process.
    pub fn own() -> Result<Self, Error> {
        let pid = getpid().as_raw_pid();
        let start_time = start_time(pid)?.ok_or(Error::NotAProcess { pid })?;
        Ok(Self { boot_id: boot_id()?, pid, start_time })
    }

    /// Opens the process if it still is the one that was written down; `None` if that one is dead: another boot, no
    /// such pid, or another start time. A record that names 0, a negative number, 1 or ourselves is refused.
    pub fn open(&self) -> Result<Option<Process>, Error> {
        if self.pid <= 1 || self.pid == getpid().as_raw_pid() {
            return Err(Error::NotAProcess { pid: self.pid });
        }
        if boot_id()? != self.boot_id {
            return Ok(None);
        }
        let pid = Pid::from_raw(self.pid).ok_or(Error::NotAProcess { pid: self.pid })?;
        // First the pidfd, then the check: what the pidfd holds cannot change under us any more.
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(e) if is_no_process(e) => return Ok(None),
            Err(e) => return Err(Error::Open { pid: self.pid, source: e.into() }),
        };
        match start_time(self.pid)? {
            Some(start) if start == self.start_time => Ok(Some(Process { pidfd, id: self.clone() })),
            _ => Ok(None),
        }
    }

    /// Whether the process is dead.
    pub fn is_dead(&self) -> Result<bool, Error> {
        match self.open()? {
            Some(process) => process.is_dead(),
            None => Ok(true),
        }
    }
}

/// A process that is held by a pidfd: the number cannot come to mean another one while this lives.
#[derive(Debug)]
pub struct Process {
    pidfd: OwnedFd,
    id: ProcessId,
}

impl Process {
    /// Takes a pidfd, whoever opened it, and learns from the kernel which process it holds.
    pub fn from_pidfd(pidfd: OwnedFd) -> Result<Self, Error> {
        let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
        let info = fs::read_to_string(&path).map_err(|source| Error::Proc { path: path.clone(), source })?;
        let pid: i32 = info
            .lines()
            .find_map(|line| line.strip_prefix("Pid:"))
            .and_then(|v| v.trim().parse().ok())
            .ok_or(Error::Form { path })?;
        if pid <= 1 {
            return Err(Error::NotAProcess { pid });
        }
        let start_time = start_time(pid)?.ok_or(Error::NotAProcess { pid })?;
        Ok(Self { pidfd, id: ProcessId { boot_id: boot_id()?, pid, start_time } })
    }

    /// Takes a child of the caller that was not reaped yet, so that its number is still its own.
    pub fn of_child(pid: u32) -> Result<Self, Error> {
        let number = i32::try_from(pid).unwrap_or(-1);
        // from_raw takes no negative number: ask first.
        if number <= 1 {
            return Err(Error::NotAProcess { pid: number });
        }
        let pid = Pid::from_raw(number).ok_or(Error::NotAProcess { pid: number })?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())
            .map_err(|e| Error::Open { pid: number, source: e.into() })?;
        Self::from_pidfd(pidfd)
    }

    /// Its identity.
    pub fn id(&self) -> &ProcessId {
        &self.id
    }

    /// Its pid in the host's pid namespace.
    pub fn pid(&self) -> i32 {
        self.id.pid
    }

    /// Whether it is dead, all its threads included.
    pub fn is_dead(&self) -> Result<bool, Error> {
        self.wait(Some(Duration::ZERO))
    }

    /// Whether it is a child of ours that was not reaped yet: only such can be waited for. This only looks.
    pub fn is_child(&self) -> Result<bool, Error> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), look) {
            Ok(_) => Ok(true),
            Err(Errno::CHILD) => Ok(false),
            Err(e) => Err(Error::Wait { pid: self.id.pid, source: e.into() }),
        }
    }

    /// Sends a signal. `false`: it was gone already.
    pub fn signal(&self, signal: Signal) -> Result<bool, Error> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(e) => Err(Error::Signal { pid: self.id.pid, signal: signal.as_raw(), source: e.into() }),
        }
    }

    /// Waits until it is dead, at most for `timeout` (`None`: without limit). `true`: it is dead.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool, Error> {
        let deadline = timeout.map(|t| Instant::now() + t);
        loop {
            let left = deadline.map(|d| {
                let left = d.saturating_duration_since(Instant::now());
                Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos().into() }
            });
            let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
            match poll(&mut fds, left.as_ref()) {
                Ok(n) => return Ok(n > 0),
                Err(Errno::INTR) => {}
                Err(e) => return Err(Error::Wait { pid: self.id.pid, source: e.into() }),
            }
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Whether pidfd_open failed because the number is nobody's, or a thread's by now, hence not our process: that is EINVAL,
/// and since Linux 6.15 ENOENT (pidfd_open(2)).
pub fn is_no_process(e: Errno) -> bool {
    matches!(e, Errno::SRCH | Errno::INVAL | Errno::NOENT)
}

/// The start time of a process in clock ticks since boot, `None` if there is no such process.
fn start_time(pid: i32) -> Result<Option<u64>, Error> {
    stat_field(pid, START_TIME)
}

/// A field of `/proc/PID/stat`, counted from behind the command's name; `None` if there is no such process.
fn stat_field<T: std::str::FromStr>(pid: i32, nth: usize) -> Result<Option<T>, Error> {
    let path = format!("/proc/{pid}/stat");
    let stat = match fs::read_to_string(&path) {
        Ok(stat) => stat,
        Err(e)
            if e.kind() == io::ErrorKind::NotFound
                || e.raw_os_error() == Some(Errno::SRCH.raw_os_error()) =>
        {
            return Ok(None);
        }
        Err(source) => return Err(Error::Proc { path, source }),
    };
    // The command's name is in parentheses and may hold anything, parentheses too: count behind the last one.
    let field =
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(nth)?.parse().ok());
    field.map(Some).ok_or(Error::Form { path })
}

#[cfg(test)]
mod tests;
