//! A linear transaction with a journal: steps go forward one after the other, and whatever fails is undone backward.
//!
//! * Before a step acts, its intent `Starting` is durable; its `Done` is written together with the next intent, and
//!   the last one together with the caller's commit ([`run`]).
//! * Undo includes the failing step itself, unless it reports that it did nothing ([`Failed::NothingDone`]).
//! * After a crash the only direction is backward, and a crash during undo resumes: [`unwind`] works from the
//!   journal alone, whoever calls it, as often as it is called.
//! * Nothing stops an undo but the deadline: errors are collected. If a step that holds others back cannot be
//!   undone (a process that does not die), what stands before it is *blocked*, and the record stays.
//!
//! The journal lives in the caller's record; [`Context::persist`] makes it durable. A failed write stops forward
//! work, never undo.

mod journal;
mod unwind;

use std::{error::Error, time::Instant};

pub use journal::{Entry, IllegalJournal, Journal, Phase};
pub use unwind::{Unwound, unwind};

/// What the steps work on: the record and whatever they need beside it.
pub trait Context {
    /// Why a step or a write failed.
    type Error: Error;

    /// The journal of this transaction.
    fn journal(&mut self) -> &mut Journal;

    /// Makes the journal durable, together with what the steps wrote down beside it.
    fn persist(&mut self) -> Result<(), Self::Error>;

    /// Asked before each step: an error here ends forward work as if the step had done nothing.
    fn check(&self) -> Result<(), Self::Error>;

    /// The error that an injected fault becomes.
    fn injected(&self, fault: fault::Injected) -> Self::Error;
}

/// One step: how to do it, undo it and see whether it is there.
pub trait Step<C: Context>: Sync {
    /// Its name in the journal, unique in its section.
    fn name(&self) -> &'static str;

    /// Decides every name that [`Step::forward`] will use, so that it is durable with the intent. Changes nothing
    /// outside the context.
    fn intend(&self, _cx: &mut C) -> Result<(), C::Error> {
        Ok(())
    }

    /// Does it.
    fn forward(&self, cx: &mut C) -> Result<(), Failed<C::Error>>;

    /// Undoes it, after any prefix of [`Step::forward`], any number of times. It touches only what this transaction
    /// made, and returns at the deadline.
    fn undo(&self, cx: &mut C, deadline: Instant) -> Result<Undone, C::Error>;

    /// Looks whether anything of it is still there.
    fn probe(&self, cx: &mut C) -> Result<Presence, C::Error>;

    /// Whether the steps before this one can only be undone once this one is (a process holds what it uses).
    fn holds_earlier(&self) -> bool {
        false
    }
}

/// Why a step did not get through.
#[derive(Debug)]
pub enum Failed<E> {
    /// It failed before it made anything: it must not be undone, for what is there is somebody else's.
    NothingDone(E),
    /// It failed and something may be there.
    MaybePartial(E),
}

impl<E> Failed<E> {
    /// The cause.
    pub fn cause(self) -> E {
        match self {
            Self::NothingDone(e) | Self::MaybePartial(e) => e,
        }
    }
}

/// What an undo found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undone {
    /// It was there and is gone now.
    Removed,
    /// There was nothing.
    WasAbsent,
}

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nothing of the step is there.
    Absent,
    /// Something is.
    Present,
}

/// Runs `steps` as `section` of the journal. On success the last `Done` is in the journal but not yet durable: the
/// caller's commit writes it. On failure the cause; the caller unwinds.
pub fn run<C: Context>(section: &str, steps: &[&dyn Step<C>], cx: &mut C) -> Result<(), C::Error> {
    for step in steps {
        let name = step.name();
        cx.check()?;
        fault::step(name, "before-intent").map_err(|f| cx.injected(f))?;
        step.intend(cx)?;
        cx.journal().start(section, name);
        if let Err(e) = cx.persist() {
            // The intent is not durable, hence nothing was done under it.
            cx.journal().retract(section, name);
            return Err(e);
        }
        fault::step(name, "after-intent").map_err(|f| cx.injected(f))?;
        match step.forward(cx) {
            Ok(()) => {}
            Err(Failed::NothingDone(e)) => {
                cx.journal().retract(section, name);
                return Err(e);
            }
            Err(Failed::MaybePartial(e)) => return Err(e),
        }
        fault::step(name, "after-acting").map_err(|f| cx.injected(f))?;
        cx.journal().done(section, name);
        fault::step(name, "after-done").map_err(|f| cx.injected(f))?;
    }
    cx.check()
}

#[cfg(test)]
mod tests;
