//! A process that a test watches or ends, held by a pidfd; and the end of those that nobody waits for.

use std::{
    fs,
    os::fd::OwnedFd,
    sync::Once,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, pidfd_open, pidfd_send_signal,
        set_child_subreaper, waitid,
    },
};
use tokio::signal::unix::{SignalKind, signal};

use super::runtime;

/// Becomes the parent of daemons, and of what a killed daemon leaves, and reaps them at once. Not every init does: one
/// that looks every two seconds only makes each check for leaks wait for it.
pub(crate) fn adopt_orphans() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        set_child_subreaper(Some(getpid())).unwrap();
        let mut ended = {
            let _context = runtime::handle().enter();
            signal(SignalKind::child()).unwrap()
        };
        runtime::handle().spawn(async move {
            while ended.recv().await.is_some() {
                reap_orphans();
            }
        });
    });
}

/// Reaps children of another session than ours: whom we execute ourselves stays in it, and is waited for by whoever
/// executed it. `/proc` is asked for our own session as well: getsid(2) says 0 if its leader is outside our pid
/// namespace, which is no `Pid`.
fn reap_orphans() {
    let fields = |stat: String| -> Option<(String, i32)> {
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        Some((fields.next()?.to_owned(), fields.nth(2)?.parse().ok()?))
    };
    let Some((_, own)) = fs::read_to_string("/proc/self/stat").ok().and_then(fields) else { return };
    let children = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        for pid in children(task).split_ascii_whitespace().filter_map(|pid| pid.parse().ok()) {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(fields);
            if let (Some((state, session)), Some(pid)) = (stat, Pid::from_raw(pid))
                && state == "Z"
                && session != own
            {
                waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok();
            }
        }
    }
}

/// A process.
#[derive(Debug)]
pub struct Proc {
    pidfd: OwnedFd,
    pid: i32,
}

impl Proc {
    /// The process of this pid; `None`: there is none.
    pub fn find(pid: i32) -> Option<Self> {
        assert!(pid > 1, "pid {pid} is no process of a test");
        let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        Some(Self { pidfd, pid })
    }

    /// The process of this pid, which must be there.
    #[track_caller]
    pub fn of(pid: i32) -> Self {
        Self::find(pid).unwrap_or_else(|| panic!("there is no process {pid}"))
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal, to it alone and to no successor of its number.
    pub fn signal(&self, signal: Signal) {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(e) => panic!("signal {signal:?} to {}: {e}", self.pid),
        }
    }

    /// SIGKILL, and waits for the end.
    #[track_caller]
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        assert!(self.ends_within(super::SOON), "process {} does not die", self.pid);
    }

    /// Whether it lives.
    pub fn is_alive(&self) -> bool {
        !self.ends_within(Duration::ZERO)
    }

    /// Whether it ends within this time.
    pub fn ends_within(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&left)) {
                Ok(n) => return n > 0,
                Err(Errno::INTR) => {}
                Err(e) => panic!("wait for {}: {e}", self.pid),
            }
        }
    }

    /// The letter of its state in `/proc/PID/stat`.
    pub fn state(&self) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    /// Stops it, and waits until it is.
    #[track_caller]
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        super::eventually("the process is stopped", || self.state() == Some('T'));
    }

    /// Its name, command line excluded.
    pub fn comm(&self) -> String {
        fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default().trim().to_owned()
    }
}
