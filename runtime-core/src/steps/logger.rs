//! The logger of a container whose output goes to `binary://`: the first step, the last to be undone, for it has to
//! read to the end what all others still write.
//!
//! Undo gives it time to end by itself, which it does when it has read everything; then SIGTERM asks it to; then it is
//! killed, with whatever it has started and left in its session. What left that session is as little ours as what a
//! logger leaves that has ended by itself.

use std::time::{Duration, Instant};

use proc_id::Process;
use rustix::process::Signal;
use saga::{Context, Failed, Presence, Step, Undone};

use super::{Cx, START, Work};
use crate::{Error, launcher::reap, record::Record};

/// How long it may take to get ready.
const READY_WAIT: Duration = Duration::from_secs(10);
/// How long it may take to end: two thirds from the end of its input on, a third from SIGTERM on. As long as
/// containerd's own shims give it, which send SIGTERM at once.
pub const END_WAIT: Duration = Duration::from_secs(12);
/// The same where the guest never ran, so that there was nothing to read.
const UNUSED_WAIT: Duration = Duration::from_secs(3);
/// What the rest of an undo must be left of its time.
const REST: Duration = Duration::from_millis(500);

pub struct LoggerStep;

impl Step<Cx<'_>> for LoggerStep {
    fn name(&self) -> &'static str {
        "logger"
    }

    fn forward(&self, cx: &mut Cx<'_>) -> Result<(), Failed<Error>> {
        let (container, deadline) = match &cx.work {
            Work::Create(work) => (work.container, work.deadline),
            Work::Ordinary(work) => (work.container, work.deadline),
            _ => return Ok(()),
        };
        let Some(streams) = container.live().stdio.logger.take() else { return Ok(()) };
        let mut spawned = streams.spawn(&cx.record.namespace, &cx.record.id).map_err(Failed::NothingDone)?;
        cx.record.logger = Some(spawned.process.id().clone());
        let wait = ready_wait(deadline.saturating_duration_since(Instant::now()));
        let ready = cx.persist().and_then(|()| {
            fault::point("logger.spawned")?;
            spawned.let_go(wait, &|| cx.check())
        });
        if let Err(e) = ready {
            // It has not read anything yet: undo need not be patient.
            end(&spawned.process, Instant::now() + REST).ok();
            return Err(Failed::MaybePartial(e));
        }
        container.live().logger = Some(spawned.process.into());
        Ok(())
    }

    fn undo(&self, cx: &mut Cx<'_>, deadline: Instant) -> Result<Undone, Error> {
        let Some(process) = find(cx.record)? else { return Ok(Undone::WasAbsent) };
        let time = end_wait(cx.record).min(left(deadline.checked_sub(REST).unwrap_or(deadline)));
        let now = Instant::now();
        if !process.wait(Some(by_itself(time)))? {
            tracing::warn!(
                id = cx.record.id,
                pid = process.pid(),
                "the logger did not end by itself: it is asked to by SIGTERM"
            );
            ask(&process, now + time, deadline)?;
        }
        reap(&process);
        Ok(Undone::Removed)
    }

    fn probe(&self, cx: &mut Cx<'_>) -> Result<Presence, Error> {
        let dead = find(cx.record)?.map_or(Ok(true), |process| process.is_dead())?;
        Ok(if dead { Presence::Absent } else { Presence::Present })
    }
}

/// How long it may take to get ready, if all has so long.
fn ready_wait(left: Duration) -> Duration {
    left.min(fault::deadline("deadline.logger", READY_WAIT))
}

/// How long it may take to end.
fn end_wait(record: &Record) -> Duration {
    let ran = record.journal.entries().iter().any(|entry| entry.section == START);
    fault::deadline("deadline.logger.end", if ran { END_WAIT } else { UNUSED_WAIT })
}

/// How much of the time to end is before SIGTERM.
fn by_itself(time: Duration) -> Duration {
    time * 2 / 3
}

/// Asks it to end. What has not, and what it leaves in its session, is killed at `last`.
fn ask(process: &Process, last: Instant, deadline: Instant) -> Result<(), Error> {
    // Now, for afterwards nobody can say whose session it was.
    let others = process.session()?;
    process.signal(Signal::TERM)?;
    if !process.wait(Some(left(last)))? {
        tracing::warn!(pid = process.pid(), "the logger did not end when it was asked to: it is killed");
        return end(process, deadline);
    }
    for other in &others {
        if !other.wait(Some(left(last)))? {
            other.signal(Signal::KILL)?;
        }
    }
    match others.iter().find(|other| !other.wait(Some(left(deadline))).unwrap_or(false)) {
        Some(other) => Err(Error::StillAlive { pid: other.pid() }),
        None => Ok(()),
    }
}

/// Kills it, and first what else is in its session: as long as it is there, the session's number is its own.
fn end(process: &Process, deadline: Instant) -> Result<(), Error> {
    // So that it starts nobody more.
    process.signal(Signal::STOP)?;
    while Instant::now() < deadline {
        let mut others = process.session()?;
        others.retain(|other| !other.is_dead().unwrap_or(true));
        if others.is_empty() {
            break;
        }
        for other in &others {
            other.signal(Signal::KILL)?;
        }
        for other in &others {
            other.wait(Some(left(deadline)))?;
        }
    }
    process.signal(Signal::KILL)?;
    match process.wait(Some(left(deadline)))? {
        true => Ok(()),
        false => Err(Error::StillAlive { pid: process.pid() }),
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

/// The process, unless it is gone, or the record names one that cannot be ours.
fn find(record: &Record) -> Result<Option<Process>, Error> {
    match record.logger.as_ref().map(proc_id::ProcessId::open).transpose() {
        Ok(process) => Ok(process.flatten()),
        Err(e @ proc_id::Error::NotAProcess { .. }) => {
            tracing::error!(id = record.id, error = %e, "the record names a logger that cannot be ours");
            Ok(None)
        }
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logger_has_ten_seconds_to_get_ready_and_no_more_than_its_create() {
        assert_eq!(ready_wait(Duration::from_secs(20)), Duration::from_secs(10));
        assert_eq!(ready_wait(Duration::from_secs(4)), Duration::from_secs(4));
    }

    #[test]
    fn a_logger_has_twelve_seconds_to_end_and_is_asked_to_after_eight() {
        assert_eq!(END_WAIT, Duration::from_secs(12));
        assert_eq!(by_itself(END_WAIT), Duration::from_secs(8));
    }
}
