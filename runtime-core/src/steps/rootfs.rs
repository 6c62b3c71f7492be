//! The root file system of an ordinary container, in the host's mount table: an OCI runtime needs it there.
//!
//! It was mounted apart before, as a lease; which mount it is stands in the record before it is shown at its place in the
//! bundle, and only that very mount is taken away again. containerd takes it away itself when it removes a bundle, and
//! another one may stand there by then.

use std::time::{Duration, Instant};

use saga::{Failed, Presence, Step, Undone};

use super::{Cx, Work};
use crate::Error;

pub struct RootfsStep;

impl Step<Cx<'_>> for RootfsStep {
    fn name(&self) -> &'static str {
        "rootfs"
    }

    fn intend(&self, cx: &mut Cx<'_>) -> Result<(), Error> {
        let Work::Ordinary(work) = &cx.work else { return Ok(()) };
        cx.record.rootfs.clone_from(&work.plan.rootfs);
        Ok(())
    }

    fn forward(&self, cx: &mut Cx<'_>) -> Result<(), Failed<Error>> {
        let (Work::Ordinary(work), Some(mounted)) = (&mut cx.work, &cx.record.rootfs) else { return Ok(()) };
        let Some(tree) = work.tree.take() else { return Ok(()) };
        tree.attach(&mounted.place).map_err(|e| Failed::MaybePartial(e.into()))?;
        fault::point("rootfs.attached").map_err(|f| Failed::MaybePartial(f.into()))
    }

    fn undo(&self, cx: &mut Cx<'_>, deadline: Instant) -> Result<Undone, Error> {
        if let Work::Ordinary(work) = &mut cx.work {
            work.tree = None;
        }
        let Some(mounted) = &cx.record.rootfs else { return Ok(Undone::WasAbsent) };
        // What was killed a moment ago may still be in it.
        let deadline = deadline.max(Instant::now() + Duration::from_millis(1));
        Ok(if mounted.detach(deadline)? { Undone::Removed } else { Undone::WasAbsent })
    }

    fn probe(&self, cx: &mut Cx<'_>) -> Result<Presence, Error> {
        let there = cx.record.rootfs.as_ref().map_or(Ok(false), host_mount::Mounted::is_there)?;
        Ok(if there { Presence::Present } else { Presence::Absent })
    }
}
