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

use proc_id::{Process, ProcessId};
use rustix::process::child_subreaper;

use crate::{Runtime, launcher::reap};

/// How long a zombie that nobody knows is left to whoever may still be waiting for it.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// The children of this process that have ended and were not reaped.
fn zombies() -> BTreeMap<i32, ProcessId> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let mut zombies = BTreeMap::new();
    for list in lists {
        for pid in list.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()) {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let is_zombie = stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'));
            if is_zombie && let Ok(process) = Process::of_child(pid) {
                zombies.insert(process.pid(), process.id().clone());
            }
        }
    }
    zombies
}
