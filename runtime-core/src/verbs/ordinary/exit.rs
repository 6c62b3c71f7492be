//! The exit of an ordinary container: its first process's own status. What it leaves is ended with it, and the ends of
//! the processes that were executed later are told first.

use std::time::{Duration, Instant};

use host_cgroup::Kernel;
use rustix::process::Signal;
use vmm_api::{RawExit, Reason};

use crate::{Runtime, container::Container, launcher::reap, oci::Oci, record::Exit};

/// How long what is left may take to be dead.
const DYING: Duration = Duration::from_secs(2);

/// How long the OCI runtime may take to see that it has joined what is dead.
const JOINING: Duration = Duration::from_millis(500);

impl Runtime {
    /// How its first process has ended.
    pub(in crate::verbs) fn exit_of_ordinary(&self, container: &Container) -> Exit {
        let raw = see_status(container);
        let starved = self.last_stats(container).is_some_and(|sample| sample.oom_kills > 0);
        let exit = exit_of(raw, container.live().killed, starved);
        tracing::info!(id = container.id, ?raw, status = exit.status, "exited");
        exit
    }

    /// Reads how those have ended that are dead, before anybody kills: what is killed by an undo is told as that.
    pub(in crate::verbs) fn see_ends(&self, container: &Container) {
        see_status(container);
        for exec in container.execs() {
            if exec.process().is_some_and(|process| process.is_dead().unwrap_or(false)) {
                self.exec_exited(container, &exec);
            }
        }
    }

    /// Ends what the first process has left: with a pid namespace of its own that is dead already, without one it is
    /// not. Of a cgroup that was there before nobody is touched.
    pub(in crate::verbs) fn end_rest(&self, container: &Container, oci: &Oci) {
        let deadline = Instant::now() + DYING;
        // Those that are just made have joined what is dead, or do not get that far.
        container.close_execs(JOINING, deadline);
        let members = oci.cgroup().own_procs(&Kernel).unwrap_or_default();
        if !members.is_empty()
            && !oci.others_are_in()
            && let Err(e) = oci.cgroup().kill(&Kernel, deadline)
        {
            tracing::warn!(id = container.id, error = %e, "what the container has left was not ended");
        }
        let execs = container.execs().into_iter().filter_map(|exec| exec.process().map(|p| (exec, p)));
        let execs: Vec<_> = execs.collect();
        for (exec, process) in &execs {
            if let Err(e) = process.signal(Signal::KILL) {
                tracing::warn!(id = container.id, exec = exec.id, error = %e, "it was not ended");
            }
        }
        for (exec, process) in execs {
            let left = deadline.saturating_duration_since(Instant::now());
            if process.wait(Some(left)).unwrap_or(false) {
                self.exec_exited(container, &exec);
            }
        }
    }
}

/// The status of its first process, if it has ended: read once, whoever comes first, and before anybody kills.
pub(in crate::verbs) fn see_status(container: &Container) -> Option<RawExit> {
    let mut live = container.live();
    if live.raw.is_none()
        && let Some(process) = live.process.clone().filter(|process| process.is_dead().unwrap_or(false))
    {
        live.raw = reap(&process);
    }
    live.raw
}

/// What a process's end is for clients.
pub(in crate::verbs) fn exit_of(raw: Option<RawExit>, killed: Option<i32>, starved: bool) -> Exit {
    match raw {
        Some(RawExit::Signal(libc::SIGKILL)) if starved && killed.is_none() => {
            Exit::now(128 + libc::SIGKILL.unsigned_abs(), Reason::OutOfMemory)
        }
        Some(RawExit::Signal(signal)) if killed == Some(signal) => Exit::by_signal(signal),
        Some(RawExit::Signal(signal)) => Exit::now(128 + signal.unsigned_abs(), Reason::Signal),
        Some(RawExit::Code(code)) => Exit::now(code.unsigned_abs() & 0xff, Reason::Exited),
        None => Exit::now(255, Reason::Unknown),
    }
}
