//! The launcher, which becomes the monitor: spawned, known by its identity, killed through it.
//!
//! Its private root, its namespaces and its fds end with it. Undo kills it and whatever else is in the leaf, and is
//! done only when the death is proven: what stands before it in the journal waits for that.

use std::time::{Duration, Instant};

use host_cgroup::{Kernel, Version, kill, procs};
use rustix::process::Signal;
use saga::{Failed, Presence, Step, Undone};

use super::{Cx, Work};
use crate::{
    Error,
    launcher::{Door, Launcher, Setup, View, reap},
    oom,
    record::Record,
    request::Role,
};

pub struct LauncherStep;

impl Step<Cx<'_>> for LauncherStep {
    fn name(&self) -> &'static str {
        "launcher"
    }

    fn forward(&self, cx: &mut Cx<'_>) -> Result<(), Failed<Error>> {
        let Cx { record, dir, work: Work::Create(work), .. } = cx else { return Ok(()) };
        let doors = record.cgroup.iter().flat_map(|plan| &plan.hierarchies).map(|h| match h.version {
            Version::V1 => Door::Write,
            Version::V2 => Door::Clone,
        });
        let request = work.request;
        let setup = Setup {
            doors: doors.collect(),
            place: dir.dir().path().to_owned(),
            namespaces: request.namespaces.clone(),
            hostname: request.hostname.clone(),
            sysctls: request.sysctls.clone(),
            view: (request.role == Role::Guest).then(|| View {
                rootfs: request.rootfs.clone(),
                root: request.root.clone(),
                folders: work.folders.clone(),
            }),
        };
        let txid = record.txid.clone();
        let cgroups = std::mem::take(&mut work.cgroups);
        let (container, oom) = (work.container, work.request.oom_score_adj);
        let launcher = Launcher::spawn(work.spawner, &txid, setup, &cgroups, work.deadline, |process| {
            // Written while the launcher sets itself up: whoever has to kill it later knows it.
            record.process = Some(process.id().clone());
            dir.write(record)?;
            container.live().process = Some(process.clone());
            if let Some(score) = oom {
                oom::set(process, score);
            }
            Ok(())
        });
        work.launcher = Some(launcher.map_err(Failed::MaybePartial)?);
        Ok(())
    }

    fn undo(&self, cx: &mut Cx<'_>, deadline: Instant) -> Result<Undone, Error> {
        if let Work::Create(work) = &mut cx.work {
            work.launcher = None;
        }
        end_process(cx.record, deadline)
    }

    fn probe(&self, cx: &mut Cx<'_>) -> Result<Presence, Error> {
        let dead = match cx.record.process.as_ref().map_or(Ok(true), proc_id::ProcessId::is_dead) {
            Err(proc_id::Error::NotAProcess { .. }) => true,
            dead => dead?,
        };
        let empty =
            cx.record.cgroup.as_ref().map_or(Ok(true), |plan| procs(&Kernel, plan).map(|p| p.is_empty()))?;
        Ok(if dead && empty { Presence::Absent } else { Presence::Present })
    }

    fn holds_earlier(&self) -> bool {
        true
    }
}

/// Kills the transaction's processes; done only when their death is proven.
pub(super) fn end_process(record: &Record, deadline: Instant) -> Result<Undone, Error> {
    let mut undone = Undone::WasAbsent;
    let process = match record.process.as_ref().map(proc_id::ProcessId::open).transpose() {
        Ok(process) => process.flatten(),
        // Garbage in the record: nobody is signalled for it. The leaf shows whether anybody of ours is left.
        Err(e @ proc_id::Error::NotAProcess { .. }) => {
            tracing::error!(id = record.id, error = %e, "the record names a process that cannot be ours");
            None
        }
        Err(e) => return Err(e.into()),
    };
    if let Some(process) = &process {
        process.signal(Signal::KILL)?;
        undone = Undone::Removed;
    }
    // Whoever else is in the leaf: a first stage, a helper, a process whose identity was never written.
    if let Some(plan) = &record.cgroup {
        kill(&Kernel, plan, deadline)?;
    }
    if let Some(process) = process {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        if !process.wait(Some(left))? {
            return Err(Error::StillAlive { pid: process.pid() });
        }
        reap(&process);
    }
    Ok(undone)
}
