//! The cgroup leaf `urunc-<txid>` below `cgroupsPath`: made exclusively, everything in it is ours.

use std::time::Instant;

use host_cgroup::{CgroupsPath, Hierarchies, Kernel, LeafPlan, create, probe, remove};
use saga::{Failed, Presence, Step, Undone};

use super::{Cx, Work};
use crate::Error;

pub struct Cgroup;

impl Step<Cx<'_>> for Cgroup {
    fn name(&self) -> &'static str {
        "cgroup"
    }

    fn intend(&self, cx: &mut Cx<'_>) -> Result<(), Error> {
        let Work::Create(work) = &cx.work else { return Ok(()) };
        let path = match &work.request.cgroups_path {
            Some(path) => path.clone(),
            // As runc: no path means one of our own, named after the container.
            None => CgroupsPath::parse(&format!("/{}/{}", cx.record.namespace, cx.record.id))?,
        };
        let plan =
            LeafPlan::new(&Kernel, &Hierarchies::detect()?, &path, &cx.record.txid, &work.request.limits)?;
        cx.record.cgroup = Some(plan);
        Ok(())
    }

    fn forward(&self, cx: &mut Cx<'_>) -> Result<(), Failed<Error>> {
        let (Work::Create(work), Some(plan)) = (&mut cx.work, &cx.record.cgroup) else { return Ok(()) };
        match create(&Kernel, plan, &work.request.limits, cx.notes) {
            Ok(fds) => {
                work.cgroups = fds;
                Ok(())
            }
            Err(e @ host_cgroup::Error::LeafExists { .. }) => Err(Failed::NothingDone(e.into())),
            Err(e) => Err(Failed::MaybePartial(e.into())),
        }
    }

    fn undo(&self, cx: &mut Cx<'_>, deadline: Instant) -> Result<Undone, Error> {
        let Some(plan) = &cx.record.cgroup else { return Ok(Undone::WasAbsent) };
        remove(&Kernel, plan, cx.notes, deadline)?;
        Ok(Undone::Removed)
    }

    fn probe(&self, cx: &mut Cx<'_>) -> Result<Presence, Error> {
        let Some(plan) = &cx.record.cgroup else { return Ok(Presence::Absent) };
        Ok(match probe(&Kernel, plan)? {
            host_cgroup::Presence::Absent => Presence::Absent,
            host_cgroup::Presence::Present => Presence::Present,
        })
    }
}
