//! The gate: the launcher becomes the monitor, or a sandbox's begins to hold its namespaces.
//!
//! Once the message is out there is no way back to Created; what is undone is then the launcher's step, which kills
//! the process. This step itself leaves nothing of its own.

use std::time::Instant;

use saga::{Failed, Presence, Step, Undone};

use super::{Cx, Passage, Work};
use crate::Error;

pub struct GateStep;

impl Step<Cx<'_>> for GateStep {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn forward(&self, cx: &mut Cx<'_>) -> Result<(), Failed<Error>> {
        let Work::Start(work) = &mut cx.work else { return Ok(()) };
        let Some(mut gate) = work.gate.take() else { return Ok(()) };
        let (Some(process), Some(words)) = (work.container.process(), work.container.words()) else {
            return Err(Failed::NothingDone(Error::NotFound { id: cx.record.id.clone() }));
        };
        work.sent = true;
        let passed = match &mut work.passage {
            Passage::Hold => gate.hold(work.deadline, &words),
            Passage::Monitor { exec, stdio, control, program } => match exec.take() {
                None => Ok(()),
                Some(exec) => gate
                    .open(exec, *stdio, control)
                    .and_then(|()| gate.passed(&process, program, work.deadline, &words)),
            },
        };
        passed.map_err(Failed::MaybePartial)
    }

    fn undo(&self, _: &mut Cx<'_>, _: Instant) -> Result<Undone, Error> {
        Ok(Undone::WasAbsent)
    }

    fn probe(&self, _: &mut Cx<'_>) -> Result<Presence, Error> {
        Ok(Presence::Absent)
    }
}
