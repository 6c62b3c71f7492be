//! Children that nobody has asked for. What an OCI runtime leaves is handed to the daemon, its sub-reaper; and so is
//! what the processes of a container without a pid namespace of its own leave when they end. They are reaped here.
//!
//! Everybody else waits for his own child by its pidfd, within a verb or when it is known. So a child is nobody's if it is
//! none of those that are known and no verb is at work, or it is a zombie for long. It must not stay one: the first process
//! of a pid namespace does not end before all in there were reaped (an exec that failed leaves such), and each counts
//! against its cgroup's limit.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use host_cgroup::Kernel;
use proc_id::{Process, ProcessId};
use rustix::process::{Signal, child_subreaper};

use super::PidNamespace;
use crate::{Runtime, container::Container, launcher::reap};

/// How long a zombie that nobody knows is left to whoever may still be waiting for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a process that must not be may take to be dead.
const DYING: Duration = Duration::from_secs(2);

/// The zombies that were seen.
#[derive(Debug, Default)]
pub struct Orphans {
    seen: BTreeMap<i32, (ProcessId, Instant)>,
}

impl Orphans {
    /// Looks at the children of this process, and reaps those that are nobody's. To be called when one or a verb has
    /// ended, and when it is due; `quiet` if no verb is at work, nor begins one meanwhile.
    pub fn look(&mut self, runtime: &Runtime, quiet: bool) {
        // Without an ordinary container nobody is handed over.
        if child_subreaper().ok().flatten().is_none() {
            return;
        }
        let now = Instant::now();
        let zombies = zombies();
        self.seen.retain(|pid, (id, _)| zombies.get(pid) == Some(id));
        let known = runtime.children();
        for (pid, id) in zombies {
            if known.contains(&id) {
                continue;
            }
            let (_, since) = self.seen.entry(pid).or_insert((id.clone(), now));
            if !quiet && now.duration_since(*since) < PATIENCE {
                continue;
            }
            // A leader whose threads live cannot be reaped yet: that is looked at again as late.
            *since = now;
            if let Ok(Some(process)) = id.open() {
                let ended = reap(&process);
                tracing::debug!(pid, ?ended, "reaped a child that is nobody's");
            }
        }
    }

    /// When it is due next; `None`: not before another child ends.
    pub fn due(&self) -> Option<Instant> {
        self.seen.values().map(|(_, since)| *since + PATIENCE).min()
    }
}

/// An exec has failed in a container: a process that the OCI runtime had let go before it was killed, or failed, would run
/// there, and nobody knows it. It is a child of ours, in the container's cgroup and in a pid namespace whose own orphans do
/// not come to us; without such a namespace nobody can tell it from the container's own, and it ends with that.
pub fn end_strays(runtime: &Runtime, container: &Container) {
    let (Some(init), Some(oci)) = (container.process(), container.oci()) else { return };
    let own = PidNamespace::of(init.pid().unsigned_abs());
    if own.is_none() || own == PidNamespace::own() {
        return;
    }
    let members = oci.cgroup().own_procs(&Kernel).unwrap_or_default();
    let known = runtime.children();
    for pid in children().into_iter().filter(|pid| members.contains(pid)) {
        let Ok(process) = Process::of_child(pid) else { continue };
        // Looked at again behind the pidfd: the number may have been another one's meanwhile.
        let is_member = || oci.cgroup().own_procs(&Kernel).is_ok_and(|now| now.contains(&pid));
        if known.contains(process.id())
            || PidNamespace::of(pid) != own
            || !process.is_child().unwrap_or(false)
            || !is_member()
        {
            continue;
        }
        tracing::warn!(id = container.id, pid, "a process whose exec has failed is ended");
        if process.signal(Signal::KILL).and_then(|_| process.wait(Some(DYING))).unwrap_or(false) {
            reap(&process);
        }
    }
}

/// The children of this process that have ended and were not reaped.
fn zombies() -> BTreeMap<i32, ProcessId> {
    let mut zombies = BTreeMap::new();
    for pid in children() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let is_zombie = stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'));
        if is_zombie && let Ok(process) = Process::of_child(pid) {
            zombies.insert(process.pid(), process.id().clone());
        }
    }
    zombies
}

/// The children of this process.
fn children() -> Vec<u32> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let pids =
        |list: String| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>();
    lists.flat_map(pids).collect()
}
