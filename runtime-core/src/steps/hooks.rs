//! The hooks of Create; their undo is poststop.
//!
//! What they make is theirs and cannot be probed: a hook that has ended has been run. Poststop runs when the container's
//! process is dead, once: each that has ended is counted in the record before the next one begins. Its failure is a
//! warning, and holds nobody up.

use std::time::{Duration, Instant};

use saga::{Context, Failed, Phase, Presence, Step, Undone};

use super::{CREATE, Cx, Work, launcher::end_process};
use crate::{
    Error,
    hooks::{Hooks, HooksPart, State, Stop, end_strays, run},
    layout,
};

/// What the rest of an undo must be left of its time.
const REST: Duration = Duration::from_millis(500);

pub struct HooksStep;

impl Step<Cx<'_>> for HooksStep {
    fn name(&self) -> &'static str {
        "hooks"
    }

    fn forward(&self, cx: &mut Cx<'_>) -> Result<(), Failed<Error>> {
        let Work::Hooks(work) = &cx.work else { return Ok(()) };
        let hooks = work.hooks;
        let part = HooksPart { txid: cx.record.txid.clone(), hooks: hooks.clone() };
        cx.dir.write_part(layout::HOOKS, &part).map_err(Failed::NothingDone)?;
        fault::point("hooks.written").map_err(|f| Failed::MaybePartial(f.into()))?;
        let state = state(cx, hooks, "creating", Some(cx.record.pid()));
        let stop = Stop { deadline: work.deadline, wanted: &|| cx.check() };
        for hook in &hooks.create {
            run(hook, &cx.record.txid, &state, &stop).map_err(Failed::MaybePartial)?;
        }
        Ok(())
    }

    fn undo(&self, cx: &mut Cx<'_>, deadline: Instant) -> Result<Undone, Error> {
        let part: Option<HooksPart> = cx.dir.dir().read_part(layout::HOOKS)?;
        // It is written before the first one runs.
        let Some(part) = part.filter(|part| part.txid == cx.record.txid) else {
            return Ok(Undone::WasAbsent);
        };
        end_process(cx.record, deadline)?;
        let is_half_done = |e: &saga::Entry| e.step == self.name() && e.phase == Phase::Starting;
        if cx.record.poststop.is_some() || cx.record.journal.entries().iter().any(is_half_done) {
            end_strays(&cx.record.txid, deadline)?;
        }
        let hooks = &part.hooks;
        for (n, hook) in hooks.poststop.iter().enumerate() {
            if cx.record.poststop.is_some_and(|run| n < run) {
                continue;
            }
            count(cx, n);
            let state = state(cx, hooks, "stopped", None);
            let last = deadline.checked_sub(REST).unwrap_or(deadline);
            let stop = Stop { deadline: last, wanted: &|| Ok(()) };
            match run(hook, &cx.record.txid, &state, &stop) {
                Ok(()) => {}
                Err(e @ Error::Injected(_)) => return Err(e),
                Err(e) => {
                    tracing::warn!(id = cx.record.id, txid = cx.record.txid, error = e.chain(), "poststop")
                }
            }
            count(cx, n + 1);
        }
        Ok(Undone::Removed)
    }

    fn probe(&self, _: &mut Cx<'_>) -> Result<Presence, Error> {
        Ok(Presence::Absent)
    }
}

/// Notes how many poststop hooks have run. A record that cannot be written stops no undo.
fn count(cx: &mut Cx<'_>, run: usize) {
    if cx.record.poststop == Some(run) {
        return;
    }
    cx.record.poststop = Some(run);
    if let Err(e) = cx.persist() {
        tracing::warn!(id = cx.record.id, error = e.chain(), "the record was not written");
    }
}

fn state<'a>(cx: &'a Cx<'_>, hooks: &'a Hooks, status: &'a str, pid: Option<u32>) -> State<'a> {
    State {
        oci_version: &hooks.version,
        id: &cx.record.id,
        status,
        pid,
        bundle: &cx.record.bundle_path,
        annotations: &hooks.annotations,
    }
}

/// Its entry in the journal of a record that cannot be read, if there are hooks of this transaction.
pub fn derived(cx: &crate::record::RunDir, txid: &str) -> Option<saga::Entry> {
    let part: HooksPart = cx.dir().read_part(layout::HOOKS).ok().flatten()?;
    let (section, step) = (CREATE.to_owned(), HooksStep.name().to_owned());
    (part.txid == txid).then_some(saga::Entry { section, step, phase: Phase::Done })
}
