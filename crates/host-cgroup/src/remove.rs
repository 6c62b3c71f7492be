//! Taking back what a plan names: the same work after a full creation, half a one, none, or an earlier removal.
//!
//! Only `rmdir` is used, so nothing that is in use can be lost. The leaf is ours by its name; a parent is touched only
//! if the plan says that it did not exist before, or if [`Notes`] knows that very directory.

use std::path::Path;
use std::time::Instant;

use rustix::io::Errno;

use crate::files::{Files, is_absent, is_in_use};
use crate::kill::members;
use crate::plan::Ours;
use crate::wait::Backoff;
use crate::{Error, LeafIn, LeafPlan, Notes};

/// Whether anything of a leaf is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// The leaf is in no hierarchy.
    Absent,
    /// The leaf is in one hierarchy at least.
    Present,
}

/// Looks for the leaf in each hierarchy of the plan.
pub fn probe(files: &dyn Files, plan: &LeafPlan) -> Result<Presence, Error> {
    probe_all(files, &plan.ours())
}

pub(crate) fn probe_all(files: &dyn Files, ours: &[Ours]) -> Result<Presence, Error> {
    for Ours { dir, .. } in ours {
        match files.identity(dir) {
            Ok(_) => return Ok(Presence::Present),
            Err(e) if is_absent(e) => {}
            Err(e) => return Err(Error::io("looking at", dir)(e)),
        }
    }
    Ok(Presence::Absent)
}

/// Removes the leaf in each hierarchy, then the parents that the plan made, then parents that earlier removals had to
/// leave behind.
///
/// A leaf that is in use is tried again until `deadline`: processes that were killed need a moment. A parent that is
/// in use stays, noted in `notes` for a later call. All errors are collected ([`Error::Undo`]); none stops the rest.
pub fn remove(files: &dyn Files, plan: &LeafPlan, notes: &Notes, deadline: Instant) -> Result<(), Error> {
    remove_all(files, &plan.ours(), notes, deadline)
}

pub(crate) fn remove_all(
    files: &dyn Files,
    ours: &[Ours],
    notes: &Notes,
    deadline: Instant,
) -> Result<(), Error> {
    let mut failures = Vec::new();
    let mut backoff = Backoff::until(deadline);
    let mut left: Vec<&Ours> = ours.iter().collect();
    let mut gone = Vec::new();
    loop {
        let mut busy = Vec::new();
        for own in left {
            match remove_tree(files, &own.dir) {
                Ok(()) => gone.push(own),
                Err((_, e)) if is_in_use(e) => busy.push(own),
                Err((error, _)) => failures.push(error),
            }
        }
        left = busy;
        if left.is_empty() || !backoff.pause() {
            break;
        }
    }
    for Ours { dir, .. } in left {
        let procs = members(files, dir).unwrap_or_default();
        failures.push(Error::Busy { dir: dir.clone(), procs });
    }
    // Above a leaf that stays, nothing can go; the next call will see to it.
    for own in gone {
        failures.extend(remove_parents(files, own, notes));
    }
    failures.extend(notes.retry(files));
    Error::collected(failures)
}

/// For [`crate::create`]: takes back leaves that nobody has entered yet, and their parents.
pub(crate) fn unmake(files: &dyn Files, made: &[LeafIn], notes: &Notes) -> Vec<Error> {
    let leaves = made.iter().filter_map(|h| remove_tree(files, &h.leaf_dir()).err().map(|(error, _)| error));
    let mut failures: Vec<Error> = leaves.collect();
    failures.extend(made.iter().flat_map(|h| remove_parents(files, &h.ours(), notes)));
    failures.extend(notes.retry(files));
    failures
}

/// Removes a leaf. What a process of ours made inside it is ours as well.
fn remove_tree(files: &dyn Files, dir: &Path) -> Result<(), (Error, Errno)> {
    let rmdir = || match files.rmdir(dir) {
        Err(e) if !is_absent(e) => Err((Error::io("removing", dir)(e), e)),
        _ => Ok(()),
    };
    match rmdir() {
        Err((_, e)) if is_in_use(e) => {
            for child in files.subdirs(dir).unwrap_or_default() {
                remove_tree(files, &child)?;
            }
            rmdir()
        }
        outcome => outcome,
    }
}

pub(crate) fn remove_parents(files: &dyn Files, own: &Ours, notes: &Notes) -> Vec<Error> {
    let mut failures = Vec::new();
    for dir in own.parents.iter().rev() {
        match files.rmdir(dir) {
            Ok(()) => {}
            Err(e) if is_absent(e) => {}
            // Whoever leaves it last will look at the notes.
            Err(e) if is_in_use(e) => failures.extend(notes.keep(files, dir).err()),
            Err(e) => failures.push(Error::io("removing", dir)(e)),
        }
    }
    failures
}
