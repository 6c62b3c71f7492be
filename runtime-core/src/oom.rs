//! oom_score_adj: how willing the kernel is to kill a process for memory. Best effort: lowering it takes
//! CAP_SYS_RESOURCE, which not every host gives, and a process may just have ended.

use std::{fs::File, io::Write};

use proc_id::Process;

use crate::{Runtime, lifecycle::State};

/// Sets it, from -1000 to 1000 (proc(5)).
pub fn set(process: &Process, score: i32) {
    let path = format!("/proc/{}/oom_score_adj", process.pid());
    // The file belongs to whoever has the number while it is opened; a process that lives after that is ours.
    let written = File::options().write(true).open(path).and_then(|mut file| {
        if process.is_dead().unwrap_or(true) {
            return Ok(());
        }
        file.write_all(score.to_string().as_bytes())
    });
    if let Err(e) = written {
        tracing::debug!(pid = process.pid(), score, error = %e, "the oom_score_adj was not set");
    }
}

impl Runtime {
    /// The sandbox is the last of its pod to be killed: its score is the lowest of the pod's containers. To be called
    /// when one came or went.
    pub(crate) fn follow_oom_score(&self) {
        let containers = self.all();
        let Some(sandbox) = containers.iter().find(|c| c.is_sandbox()) else { return };
        let score = |c: &crate::container::Container| {
            let live = c.live();
            let alive =
                matches!(live.state, State::Created | State::Starting | State::Running | State::Paused);
            live.oom_score_adj.filter(|_| alive)
        };
        let lowest = containers.iter().filter(|c| !c.is_sandbox()).filter_map(|c| score(c)).min();
        let Some(score) = lowest.or_else(|| sandbox.live().oom_score_adj) else { return };
        if let Some(process) = sandbox.process() {
            set(&process, score);
        }
    }
}
