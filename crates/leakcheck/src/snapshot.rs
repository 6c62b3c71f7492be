//! What was on the host at one moment, and how two moments differ.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::entry::{Entry, Kind, Unreadable};
use crate::error::Error;
use crate::host::View;
use crate::kinds;
use crate::leaks::Leaks;
use crate::scope::Scope;

/// Raised when names of entries change their meaning, or with a new kind, of which an old snapshot knows nothing.
const FORMAT: u32 = 3;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The things of the host that were in scope at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    format: u32,
    boot_id: String,
    /// When it was begun, in clock ticks since boot.
    begun: u64,
    scope: Scope,
    looked_at: BTreeMap<Kind, usize>,
    entries: Vec<Entry>,
    unreadable: BTreeSet<Unreadable>,
}

impl Snapshot {
    /// Looks at the host. This always succeeds; what could not be read is listed by [`Snapshot::diff`].
    pub fn take(scope: &Scope) -> Self {
        let begun = now();
        let view = View::look(scope);
        let mut looked_at = BTreeMap::new();
        let mut entries = Vec::new();
        let mut unreadable: BTreeSet<Unreadable> = view.unreadable.iter().cloned().collect();
        for kind in Kind::ALL {
            match kinds::collect(kind, &view) {
                Ok(found) => {
                    looked_at.insert(kind, found.looked_at);
                    let named = found.entries.into_iter();
                    entries.extend(named.map(|(name, detail)| Entry { kind, name, detail }));
                    unreadable.extend(found.unreadable);
                }
                Err(error) => {
                    unreadable.insert(Unreadable::new(kind, &error));
                }
            }
        }
        let boot_id = boot_id().unwrap_or_default();
        Self { format: FORMAT, boot_id, begun, scope: scope.clone(), looked_at, entries, unreadable }
    }

    /// What is in scope, sorted by kind and name.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The scope that it was taken with.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// What differs in `after`, a later snapshot of the same scope. What is older than this one cannot have leaked since,
    /// even if it could not be read.
    pub fn diff(&self, after: &Self) -> Leaks {
        let may_be_new = |missed: &&Unreadable| missed.born.is_none_or(|born| born >= self.begun);
        Leaks {
            leaked: after.without(self),
            gone: self.without(after),
            unreadable: after.unreadable.iter().filter(may_be_new).cloned().collect(),
            unreadable_before: self.unreadable.iter().cloned().collect(),
            looked_at: after.looked_at.clone(),
        }
    }

    /// The entries that are not in `other`, by identity.
    fn without(&self, other: &Self) -> Vec<Entry> {
        let known: BTreeSet<_> = other.entries.iter().map(|entry| (entry.kind, &entry.name)).collect();
        self.entries.iter().filter(|entry| !known.contains(&(entry.kind, &entry.name))).cloned().collect()
    }

    /// As JSON, for [`Snapshot::from_json`] in another process.
    pub fn to_json(&self) -> Result<String, Error> {
        Ok(serde_json::to_string(self)?)
    }

    /// Reads a saved snapshot. One of another boot or of another format is refused: it compares with nothing.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let saved: Self = serde_json::from_str(text)?;
        if saved.format != FORMAT {
            return Err(Error::OtherFormat { found: saved.format, known: FORMAT });
        }
        let now = boot_id()?;
        if saved.boot_id != now {
            return Err(Error::OtherBoot { saved: saved.boot_id, now });
        }
        Ok(saved)
    }
}

/// Takes snapshots until nothing is left behind, or until the timeout has passed: processes take a moment to die.
/// Returns the last difference.
pub fn settle(before: &Snapshot, scope: &Scope, timeout: Duration) -> Leaks {
    const PAUSE: Duration = Duration::from_millis(20);
    const LONG_PAUSE: Duration = Duration::from_millis(200);
    let deadline = Instant::now() + timeout;
    let mut pause = PAUSE;
    loop {
        let after = Snapshot::take(scope);
        let leaks = before.diff(&after);
        let left = deadline.saturating_duration_since(Instant::now());
        if leaks.is_clean() || left.is_zero() {
            return leaks;
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(LONG_PAUSE);
    }
}

/// The time since boot in the unit of a process's start time, which is USER_HZ: 100 for a second, on every architecture
/// that Linux has left (proc_pid_stat(5)).
fn now() -> u64 {
    const USER_HZ: i64 = 100;
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    (time.tv_sec * USER_HZ + time.tv_nsec * USER_HZ / 1_000_000_000).cast_unsigned()
}

fn boot_id() -> Result<String, Error> {
    let id = std::fs::read_to_string(BOOT_ID).map_err(|error| Error::read(BOOT_ID, error))?;
    Ok(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(processes: &[&str]) -> Snapshot {
        let entry = |name: &&str| Entry { kind: Kind::Process, name: (*name).into(), detail: "x".into() };
        Snapshot {
            format: FORMAT,
            boot_id: boot_id().unwrap(),
            begun: 100,
            scope: Scope::new(),
            looked_at: BTreeMap::from([(Kind::Process, 9)]),
            entries: processes.iter().map(entry).collect(),
            unreadable: BTreeSet::new(),
        }
    }

    fn names(entries: &[Entry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.name.as_str()).collect()
    }

    #[test]
    fn a_pid_used_again_is_one_gone_and_one_leaked() {
        let leaks = snapshot(&["7@100", "8@100"]).diff(&snapshot(&["7@200", "8@100"]));
        assert_eq!(names(&leaks.leaked), ["7@200"]);
        assert_eq!(names(&leaks.gone), ["7@100"]);
    }

    #[test]
    fn a_detail_that_changes_is_no_difference() {
        let mut after = snapshot(&["7@100"]);
        after.entries[0].detail = "y".into();
        assert!(snapshot(&["7@100"]).diff(&after).is_clean());
    }

    #[test]
    fn what_could_not_be_read_is_told_and_only_afterwards_is_it_unclean() {
        let (mut blind, clear) = (snapshot(&[]), snapshot(&[]));
        blind.unreadable.insert(Unreadable { kind: Kind::Mount, reason: "denied".into(), born: None });
        let leaks = clear.diff(&blind);
        assert!(leaks.unreadable.len() == 1 && !leaks.is_clean());
        let leaks = blind.diff(&clear);
        assert!(leaks.unreadable_before.len() == 1 && leaks.is_clean());
    }

    #[test]
    fn what_was_there_before_did_not_leak_though_it_cannot_be_read_any_more() {
        for (born, clean) in [(99, true), (100, false)] {
            let mut after = snapshot(&[]);
            let ending = Error::Ending { process: "7".into(), born };
            after.unreadable.insert(Unreadable::new(Kind::Process, &ending));
            assert_eq!(snapshot(&[]).diff(&after).is_clean(), clean, "born at {born}");
        }
    }

    #[test]
    fn a_saved_snapshot_comes_back_and_one_of_another_boot_does_not() {
        let mut saved = snapshot(&["7@100"]);
        assert_eq!(Snapshot::from_json(&saved.to_json().unwrap()).unwrap(), saved);
        saved.boot_id = "other".into();
        assert!(matches!(Snapshot::from_json(&saved.to_json().unwrap()), Err(Error::OtherBoot { .. })));
        saved.format = 99;
        assert!(matches!(Snapshot::from_json(&saved.to_json().unwrap()), Err(Error::OtherFormat { .. })));
        assert!(matches!(Snapshot::from_json("{}"), Err(Error::Json { .. })));
    }
}
