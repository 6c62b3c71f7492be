//! What a hook started and did not end, because it was cut off itself: by its deadline, or with the daemon that ran it.
//!
//! Its children are in no cgroup of ours, and nobody wrote them down. But they have its environment, which bears the
//! transaction's id. A hook that ended well may leave what it likes: then nobody looks.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use proc_id::Process;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open};

use crate::Error;

/// The variable that marks a hook and what it starts.
pub(super) const MARK: &str = "URUNC_HOOK";

/// How long a process may have no environment that is just executing another program.
const EXECUTING: Duration = Duration::from_millis(5);

/// Kills every process that bears the mark of a transaction's hooks; an error: one does not die.
pub fn end_strays(txid: &str, deadline: Instant) -> Result<(), Error> {
    let mark = format!("{MARK}={txid}");
    // One that was just born by another is found by the next look.
    loop {
        let found = find(mark.as_bytes());
        if found.is_empty() {
            return Ok(());
        }
        for process in &found {
            process.signal(Signal::KILL)?;
        }
        for process in found {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            if !process.wait(Some(left))? {
                return Err(Error::StillAlive { pid: process.pid() });
            }
            // Ours, if it was a hook itself; its parent's else.
            crate::launcher::reap(&process);
        }
    }
}

fn find(mark: &[u8]) -> Vec<Process> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let (mut found, unclear) = look(numbers, mark);
    if !unclear.is_empty() {
        thread::sleep(EXECUTING);
        found.extend(look(unclear.into_iter(), mark).0);
    }
    found
}

/// Those that bear the mark, and the numbers of those that have no environment, for now at least.
fn look(numbers: impl Iterator<Item = i32>, mark: &[u8]) -> (Vec<Process>, Vec<i32>) {
    let own = getpid().as_raw_pid();
    let mut unclear = vec![];
    let held = |number: i32| {
        let pid = Pid::from_raw(number).filter(|_| number > 1 && number != own)?;
        // First the pidfd, then the look: what it holds cannot become another process.
        let process = Process::from_pidfd(pidfd_open(pid, PidfdFlags::empty()).ok()?).ok()?;
        let environment = fs::read(format!("/proc/{number}/environ")).ok()?;
        // A thread of the kernel never has one, nor a program.
        if environment.is_empty() && fs::read_link(format!("/proc/{number}/exe")).is_ok() {
            unclear.push(number);
        }
        let bears = environment.split(|b| *b == 0).any(|variable| variable == mark);
        (bears && !process.is_dead().ok()?).then_some(process)
    };
    let found = numbers.filter_map(held).collect();
    (found, unclear)
}
