//! The one undo: for a failed step, a cancelled transaction, a crash, and for an orderly end.

use std::time::Instant;

use crate::{Context, Phase, Presence, Step, Undone};

/// What an unwind did.
#[derive(Debug)]
pub struct Unwound<E> {
    /// The steps that are undone now, in the order in which that happened.
    pub undone: Vec<(String, Undone)>,
    /// The steps whose undo failed.
    pub failed: Vec<(String, E)>,
    /// The steps that were not touched, because one that holds them could not be undone, or nobody knows them.
    pub blocked: Vec<String>,
    /// The steps of which a probe still found something.
    pub present: Vec<String>,
    /// Why the journal of an unwind that left something could not be written. It stopped nothing: undo is repeatable.
    pub unwritten: Option<E>,
}

impl<E> Unwound<E> {
    /// Whether nothing is left: every step is undone and every probe says absent.
    pub fn is_clean(&self) -> bool {
        self.failed.is_empty() && self.blocked.is_empty() && self.present.is_empty()
    }
}

/// Undoes what stands in the journal, backward: all of it, or one section only. `steps` are all steps that there are.
pub fn unwind<C: Context>(
    section: Option<&str>,
    steps: &[(&str, &dyn Step<C>)],
    cx: &mut C,
    deadline: Instant,
) -> Unwound<C::Error> {
    let mut report =
        Unwound { undone: vec![], failed: vec![], blocked: vec![], present: vec![], unwritten: None };
    let entries = cx.journal().entries().to_vec();
    let mut held = false;
    for entry in entries.iter().rev().filter(|e| section.is_none_or(|s| s == e.section)) {
        let name = entry.step.as_str();
        let Some((_, step)) = steps.iter().find(|(s, step)| *s == entry.section && step.name() == name)
        else {
            // Written by another version of us. What stands before it may depend on it.
            report.blocked.push(entry.step.clone());
            held = true;
            continue;
        };
        if entry.phase == Phase::Undone {
            continue;
        }
        if held {
            report.blocked.push(entry.step.clone());
            continue;
        }
        let undone = fault::step(name, "undo")
            .map_err(|f| cx.injected(f))
            .and_then(|()| step.undo(cx, deadline))
            .and_then(|undone| fault::step(name, "undone").map_err(|f| cx.injected(f)).map(|()| undone));
        match undone {
            Ok(undone) => {
                match step.probe(cx) {
                    Ok(Presence::Absent) => {
                        report.undone.push((entry.step.clone(), undone));
                        cx.journal().undone(&entry.section, name);
                        continue;
                    }
                    Ok(Presence::Present) => report.present.push(entry.step.clone()),
                    Err(e) => report.failed.push((entry.step.clone(), e)),
                }
                held |= step.holds_earlier();
            }
            Err(e) => {
                report.failed.push((entry.step.clone(), e));
                held |= step.holds_earlier();
            }
        }
    }
    // An unwind that is cut off is simply done again, from the journal as it was. One that left something is written,
    // so that the next one knows; after a clean one the record itself goes, or becomes a tombstone.
    if !report.is_clean()
        && let Err(e) = cx.persist()
    {
        report.unwritten = Some(e);
    }
    report
}
