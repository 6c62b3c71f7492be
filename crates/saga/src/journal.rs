//! What was begun and what was done, in order. Plain data; a sequence that no transaction can have written is refused
//! when it is read.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How far a step has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It may have acted, wholly, partly or not at all.
    Starting,
    /// It acted wholly.
    Done,
    /// It was undone.
    Undone,
}

/// One step of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The part of the transaction it belongs to, e.g. `create` or `start`.
    pub section: String,
    /// The step's name.
    pub step: String,
    /// How far it has come.
    pub phase: Phase,
}

/// The steps that were begun, in the order in which they were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Entry>", into = "Vec<Entry>")]
pub struct Journal(Vec<Entry>);

/// A sequence that no transaction can have written.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("illegal journal: step {step} of {section} {problem}")]
pub struct IllegalJournal {
    section: String,
    step: String,
    problem: &'static str,
}

impl TryFrom<Vec<Entry>> for Journal {
    type Error = IllegalJournal;

    fn try_from(entries: Vec<Entry>) -> Result<Self, IllegalJournal> {
        let mut unfinished = false;
        for (i, entry) in entries.iter().enumerate() {
            let illegal = |problem| {
                Err(IllegalJournal { section: entry.section.clone(), step: entry.step.clone(), problem })
            };
            if entries[..i].iter().any(|e| e.section == entry.section && e.step == entry.step) {
                return illegal("appears twice");
            }
            // Undo may fail in the middle and go on, so an `Undone` may stand anywhere; but nothing was ever
            // begun after a step that was not done.
            if unfinished && entry.phase != Phase::Undone {
                return illegal("follows a step that was never done");
            }
            unfinished |= entry.phase == Phase::Starting;
        }
        Ok(Self(entries))
    }
}

impl From<Journal> for Vec<Entry> {
    fn from(journal: Journal) -> Self {
        journal.0
    }
}

impl Journal {
    /// The steps that were begun, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// Whether the step was begun and not undone.
    pub fn stands(&self, section: &str, step: &str) -> bool {
        self.0.iter().any(|e| e.section == section && e.step == step && e.phase != Phase::Undone)
    }

    /// Whether everything that was begun is undone.
    pub fn is_undone(&self) -> bool {
        self.0.iter().all(|e| e.phase == Phase::Undone)
    }

    /// Forgets a section all of whose steps are undone, so that it can run again.
    pub fn forget(&mut self, section: &str) {
        if self.0.iter().all(|e| e.section != section || e.phase == Phase::Undone) {
            self.0.retain(|e| e.section != section);
        }
    }

    pub(crate) fn start(&mut self, section: &str, step: &str) {
        self.0.push(Entry { section: section.to_owned(), step: step.to_owned(), phase: Phase::Starting });
    }

    pub(crate) fn done(&mut self, section: &str, step: &str) {
        self.set(section, step, Phase::Done);
    }

    pub(crate) fn undone(&mut self, section: &str, step: &str) {
        self.set(section, step, Phase::Undone);
    }

    pub(crate) fn retract(&mut self, section: &str, step: &str) {
        self.0.retain(|e| e.section != section || e.step != step);
    }

    fn set(&mut self, section: &str, step: &str, phase: Phase) {
        for entry in &mut self.0 {
            if entry.section == section && entry.step == step {
                entry.phase = phase;
            }
        }
    }
}
