//! An ordinary container, as the OCI runtime makes it: its state, its cgroup, its processes.
//!
//! None of it dies with us. The undo needs the record alone, and the OCI runtime only as far as it is there: the
//! processes are ended by their identities and by the cgroup - where that did not exist before, whoever is in it is the
//! container's -, then the OCI runtime deletes what it knows (its hooks run, systemd forgets the scope), and what it does
//! not know any more, since it was killed in the midst of a create, is removed after it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use host_cgroup::{Hierarchies, Kernel, WholePlan};
use proc_id::{Process, ProcessId};
use rustix::process::Signal;
use saga::{Failed, Presence, Step, Undone};

use super::{Cx, Work};
use crate::{
    Error,
    launcher::reap,
    layout,
    oci::{self, Oci, OciRecord},
    record::{BundleId, Record, RunDir},
};

/// What the OCI runtime's own delete is given at least, whatever is left of the time.
const DELETE_WAIT: Duration = Duration::from_secs(1);
/// What the rest of an undo must be left of its time.
const REST: Duration = Duration::from_millis(500);

pub struct OciStep;
pub struct OciStartStep;

impl Step<Cx<'_>> for OciStep {
    fn name(&self) -> &'static str {
        "oci"
    }

    fn intend(&self, cx: &mut Cx<'_>) -> Result<(), Error> {
        let Work::Ordinary(work) = &cx.work else { return Ok(()) };
        cx.record.oci = Some(Box::new(work.plan.oci.clone()));
        Ok(())
    }

    fn forward(&self, cx: &mut Cx<'_>) -> Result<(), Failed<Error>> {
        let Cx { record, dir, work: Work::Ordinary(work), .. } = cx else { return Ok(()) };
        let (request, container) = (work.request, work.container);
        let mut stdio = std::mem::take(&mut container.live().stdio);
        let oci =
            Oci::new(&work.plan.oci, &request.id, dir.dir().path(), work.options, container.cancel.clone());
        let created = oci.create(&request.bundle, request.stdio.terminal, &mut stdio, work.deadline);
        // What was not handed over is still wanted: a client may close its input before Start.
        container.live().stdio = stdio;
        let process = match created {
            Ok(process) => process,
            // Somebody else's: there is nothing of ours there.
            Err(Error::Oci(e)) if e.case() == Some(oci_runtime::Case::Exists) => {
                return Err(Failed::NothingDone(e.into()));
            }
            Err(e) => return Err(Failed::MaybePartial(e)),
        };
        record.process = Some(process.id().clone());
        let process = std::sync::Arc::new(process);
        container.live().process = Some(process.clone());
        work.made = Some((std::sync::Arc::new(oci), process));
        fault::point("oci.created").map_err(|f| Failed::MaybePartial(f.into()))?;
        // Known to whoever ends it, before anything else is done with it.
        dir.write(record).map_err(Failed::MaybePartial)
    }

    fn undo(&self, cx: &mut Cx<'_>, deadline: Instant) -> Result<Undone, Error> {
        let Some(oci) = cx.record.oci.clone() else { return Ok(Undone::WasAbsent) };
        let was_there = end_all(cx.record, &oci, cx.dir, deadline)?;
        let state = oci.state(&cx.record.id);
        let had_state = has_state(cx.record, &oci, cx.dir)?;
        if had_state {
            delete(&oci, &cx.record.id, deadline);
            // It may have found somebody whom we did not.
            end_all(cx.record, &oci, cx.dir, deadline)?;
            remove_folder(&state)?;
        }
        forget_root(&oci.root, cx.dir)?;
        if others_are_in(cx.record, &oci, cx.dir)? {
            oci.cgroup.leave(&Kernel, cx.notes)?;
        } else {
            oci.cgroup.remove(&Kernel, cx.notes, deadline)?;
        }
        cx.dir.forget_calls()?;
        Ok(if had_state || was_there { Undone::Removed } else { Undone::WasAbsent })
    }

    fn probe(&self, cx: &mut Cx<'_>) -> Result<Presence, Error> {
        let Some(oci) = &cx.record.oci else { return Ok(Presence::Absent) };
        let nobody = oci.cgroup.probe(&Kernel)? == host_cgroup::Presence::Absent
            || others_are_in(cx.record, oci, cx.dir)?;
        let dead = processes(cx.record)?.iter().all(|process| process.is_dead().unwrap_or(false));
        let absent = nobody && dead && !has_state(cx.record, oci, cx.dir)?;
        Ok(if absent { Presence::Absent } else { Presence::Present })
    }

    fn holds_earlier(&self) -> bool {
        true
    }
}

/// Kills the container's processes; done only when their death is proven. `true`: there were some.
fn end_all(record: &Record, oci: &OciRecord, dir: &RunDir, deadline: Instant) -> Result<bool, Error> {
    let known = processes(record)?;
    for process in &known {
        process.signal(Signal::KILL)?;
        thaw(process);
    }
    if !oci.cgroup.own_procs(&Kernel)?.is_empty() {
        oci.cgroup.thaw(&Kernel)?;
    }
    // With its pid namespace whoever was in that dies, and who is in its cgroup then is not its.
    let first = !record.is_told_by_its_first(oci) && end_in_cgroup(record, oci, dir, deadline)?;
    for process in &known {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        if !process.wait(Some(left))? {
            return Err(Error::StillAlive { pid: process.pid() });
        }
        reap(process);
    }
    let rest = end_in_cgroup(record, oci, dir, deadline)?;
    Ok(first || rest || !known.is_empty())
}

/// Kills whoever is in what we made of the cgroup, unless that may be somebody else. `true`: there was somebody of ours.
fn end_in_cgroup(record: &Record, oci: &OciRecord, dir: &RunDir, deadline: Instant) -> Result<bool, Error> {
    if oci.cgroup.own_procs(&Kernel)?.is_empty() || others_are_in(record, oci, dir)? {
        return Ok(false);
    }
    oci.cgroup.kill(&Kernel, deadline)?;
    Ok(true)
}

/// One that is frozen on cgroup v1 does not die before it goes on, wherever it is: the path need not be known to us.
fn thaw(process: &Process) {
    let place = Hierarchies::detect()
        .and_then(|all| WholePlan::of_process(&Kernel, &all, process.pid().unsigned_abs()));
    if let Err(e) = place.and_then(|place| place.thaw(&Kernel)) {
        tracing::warn!(pid = process.pid(), error = %e, "whether it is frozen was not seen");
    }
}

/// Whether somebody is in what we made of the cgroup, and it may be another container of ours, or a stranger.
fn others_are_in(record: &Record, oci: &OciRecord, dir: &RunDir) -> Result<bool, Error> {
    if oci.cgroup.own_procs(&Kernel)?.is_empty() {
        return Ok(false);
    }
    Ok(oci::others_are_in(dir.dir().path(), &oci.cgroup, record.is_told_by_its_first(oci)))
}

impl Record {
    /// Whether all of its processes are known by its first one: that is known, and has a pid namespace of its own.
    fn is_told_by_its_first(&self, oci: &OciRecord) -> bool {
        oci.own_pids && self.process.is_some()
    }
}

/// The processes of which the record knows and which live.
fn processes(record: &Record) -> Result<Vec<Process>, Error> {
    let of = |id: &ProcessId| match id.open() {
        // Garbage in the record: nobody is signalled for it. The cgroup shows whether anybody of ours is left.
        Err(e @ proc_id::Error::NotAProcess { .. }) => {
            tracing::error!(id = record.id, error = %e, "the record names a process that cannot be ours");
            Ok(None)
        }
        opened => opened,
    };
    let all = record.process.iter().chain(record.execs.values());
    all.filter_map(|id| of(id).transpose()).map(|opened| Ok(opened?)).collect()
}

/// Has the OCI runtime delete what it knows. Whatever it says: what is left is looked for.
fn delete(oci: &OciRecord, id: &str, deadline: Instant) {
    let until = deadline.checked_sub(REST).unwrap_or(deadline).max(Instant::now() + DELETE_WAIT);
    let runtime = oci.runtime();
    // By force only where it has to be: a newer runc waits for 100 ms then.
    let deleted = runtime.delete(id, false, until).or_else(|e| match e.case() {
        Some(oci_runtime::Case::Absent) => Ok(()),
        _ => runtime.delete(id, true, until),
    });
    match deleted {
        Ok(()) => {}
        Err(e) => tracing::warn!(
            id,
            error = Error::from(e).chain(),
            "the OCI runtime did not delete the container: it is done without it"
        ),
    }
}

/// Whether the OCI runtime has state of the container. Where `Root` is shared, what has its id may be somebody's who came
/// between our look and our create.
fn has_state(record: &Record, oci: &OciRecord, dir: &RunDir) -> Result<bool, Error> {
    if !oci.state(&record.id).exists() {
        return Ok(false);
    }
    if oci.root == own_root(dir) {
        return Ok(true);
    }
    match oci.runtime().state(&record.id, Instant::now() + DELETE_WAIT) {
        // Ours may be gone by now.
        Ok(state) => {
            Ok(!BundleId::of(&state.bundle).is_ok_and(|now| now.is_some_and(|now| now != record.bundle)))
        }
        // Cut off in the midst of its create.
        Err(e) if e.case().is_some() => Ok(true),
        Err(e) => Err(e.into()),
    }
}

fn own_root(dir: &RunDir) -> PathBuf {
    dir.dir().path().join(layout::OCI)
}

fn remove_folder(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", folder)(e)),
        _ => Ok(()),
    }
}

/// Removes the folder of the OCI runtime's state where that is ours alone, in the run directory.
fn forget_root(root: &Path, dir: &RunDir) -> Result<(), Error> {
    if root == own_root(dir) { remove_folder(root) } else { Ok(()) }
}

impl Step<Cx<'_>> for OciStartStep {
    fn name(&self) -> &'static str {
        "oci-start"
    }

    fn forward(&self, cx: &mut Cx<'_>) -> Result<(), Failed<Error>> {
        let Work::OciStart { container, deadline } = &cx.work else { return Ok(()) };
        let Some(oci) = container.oci() else {
            return Err(Failed::NothingDone(Error::NotFound { id: cx.record.id.clone() }));
        };
        let started = oci.start(*deadline);
        fault::point("oci.started").map_err(|f| Failed::MaybePartial(f.into()))?;
        started.map_err(Failed::MaybePartial)
    }

    /// What was started is the `oci` step's to end.
    fn undo(&self, _: &mut Cx<'_>, _: Instant) -> Result<Undone, Error> {
        Ok(Undone::WasAbsent)
    }

    fn probe(&self, _: &mut Cx<'_>) -> Result<Presence, Error> {
        Ok(Presence::Absent)
    }
}
