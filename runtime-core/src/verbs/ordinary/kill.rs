//! Kill of an ordinary container: the signal itself goes to its first process, or to all that it has.

use std::collections::BTreeSet;

use host_cgroup::Kernel;
use proc_id::Process;
use rustix::process::Signal;

use crate::{
    Error, Runtime,
    container::Container,
    lifecycle::State,
    oci::{Oci, PidNamespace},
};

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
        // Its pid namespace's first process takes all others along.
        let all = all && !(signal == libc::SIGKILL && oci.has_own_pids());
        let heard = match of(signal) {
            Some(signal) if all => signal_all(container, oci, &process, signal)?,
            _ => BTreeSet::new(),
        };
        // Each of them hears it once.
        let hears = |process: &Process| match heard.contains(&process.pid().unsigned_abs()) {
            true => Ok(true),
            false => send(process, signal),
        };
        let was_there = hears(&process)?;
        for exec in container.execs().iter().filter(|_| all).filter_map(|exec| exec.process()) {
            hears(&exec)?;
        }
        if signal == libc::SIGKILL {
            thaw(container, oci)?;
        }
        if was_there { Ok(()) } else { Err(Error::Ended { id: id.clone() }) }
    }
}

/// Sends a signal to whoever is in the container's cgroup and is of the container: its pid namespace tells who that is, and
/// without one that the cgroup is its own. Who has got it.
fn signal_all(
    container: &Container,
    oci: &Oci,
    first: &Process,
    signal: Signal,
) -> Result<BTreeSet<u32>, Error> {
    if !oci.has_own_pids() {
        return match oci.others_are_in() {
            true => Ok(BTreeSet::new()),
            false => Ok(oci.cgroup().signal_own(&Kernel, signal)?),
        };
    }
    let (place, own) = (container.live().whole.clone(), PidNamespace::of(first.pid().unsigned_abs()));
    let (Some(place), Some(own)) = (place, own) else { return Ok(BTreeSet::new()) };
    Ok(place.signal(&Kernel, signal, &|pid| own.holds(pid))?)
}

/// One that is frozen on cgroup v1 does not die of a SIGKILL before it goes on.
pub(in crate::verbs) fn thaw(container: &Container, oci: &Oci) -> Result<(), Error> {
    let place = container.live().whole.clone();
    Ok(place.as_ref().unwrap_or(oci.cgroup()).thaw(&Kernel)?)
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
