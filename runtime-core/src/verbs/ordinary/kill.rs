//! Kill of an ordinary container: the signal itself goes to its first process, or to all that are in its cgroup.

use host_cgroup::Kernel;
use proc_id::Process;
use rustix::process::Signal;

use crate::{Error, Runtime, container::Container, lifecycle::State, oci::Oci};

impl Runtime {
    /// Sends a signal, which need not end anything. It never waits for a verb at work.
    pub(in crate::verbs) fn kill_ordinary(
        &self,
        container: &Container,
        oci: &Oci,
        signal: i32,
        all: bool,
    ) -> Result<(), Error> {
        let id = &container.id;
        let (state, process) = {
            let live = container.live();
            (live.state, live.process.clone())
        };
        match state {
            State::Stopped | State::Unwinding | State::UnwindBlocked => {
                return Err(Error::Ended { id: id.clone() });
            }
            State::Creating => return Err(Error::WrongState { id: id.clone(), verb: "kill", state }),
            State::Created | State::Starting | State::Running | State::Paused => {}
        }
        let process = process.ok_or_else(|| Error::NotFound { id: id.clone() })?;
        if signal == libc::SIGKILL {
            container.live().killed = Some(signal);
        }
        tracing::info!(id, signal, all, "killed");
        // Each of them hears it once, the first one too.
        // Its pid namespace's first process takes all others along.
        let takes_all = signal == libc::SIGKILL && oci.has_own_pids();
        let by_cgroup = all && !takes_all && !oci.is_shared(false);
        let in_cgroup = by_cgroup && oci.cgroup().own_procs(&Kernel)?.contains(&process.pid().unsigned_abs());
        let was_there = if in_cgroup { !process.is_dead()? } else { send(&process, signal)? };
        if by_cgroup && let Some(signal) = of(signal) {
            oci.cgroup().signal(&Kernel, signal)?;
        } else if all && !takes_all {
            for exec in container.execs().iter().filter_map(|exec| exec.process()) {
                send(&exec, signal)?;
            }
        }
        if signal == libc::SIGKILL && state == State::Paused {
            oci.cgroup().thaw(&Kernel)?;
        }
        if was_there { Ok(()) } else { Err(Error::Ended { id: id.clone() }) }
    }
}

/// Sends a signal by its number, from 0, which sends none, to 64. `false`: it was gone already.
pub(super) fn send(process: &Process, signal: i32) -> Result<bool, Error> {
    match of(signal) {
        Some(signal) => Ok(process.signal(signal)?),
        None => Ok(!process.is_dead()?),
    }
}

fn of(signal: i32) -> Option<Signal> {
    // SAFETY: the kernel knows numbers from 1 to 64, and it goes to another process: what the C library has reserved
    // of them is reserved in ours.
    (1..=64).contains(&signal).then(|| unsafe { Signal::from_raw_unchecked(signal) })
}
