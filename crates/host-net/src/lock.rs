//! One at a time: what is read and then deleted must not be somebody else's by then.
//!
//! The kernel has no "delete this if it still is that", and numbers are given anew at once. So those who change
//! filters here do it under a flock(2) on the namespace's own file: the lock ends with the process, needs no path of
//! ours, and is seen by everybody in this namespace. It orders *us*; the rules in `tc` keep us from strangers.

use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};

/// How long the lock is waited for. A holder needs a millisecond. But anybody in the pod can open this file and hold
/// a lock on it for ever, and that must not keep us from cleaning up: after this time we go on without it.
const PATIENCE: Duration = Duration::from_millis(500);

/// Held until it is dropped; `None`: without.
pub(crate) fn hold() -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = open(crate::netns::CURRENT, flags, Mode::empty()).ok()?;
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(100);
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() > deadline {
            return None;
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
    Some(file)
}
