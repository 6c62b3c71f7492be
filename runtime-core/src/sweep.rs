//! Looking for records whose owner is gone: by a daemon after its first Create, bounded; by `urunc gc`, thoroughly.
//!
//! A sweep leaves tombstones: the id's own `delete` may still come, and prints them. It removes tombstones that wait
//! for nobody, and what dead daemons left of themselves: sockets, pod files, owner locks.

use std::time::{Duration, Instant};

use host_cgroup::{Kernel, Notes};
use record_store::{Lock, Read};

use crate::{
    Error,
    layout::{self, Layout},
    owner, pod,
    record::{Record, RunDir},
    recover::{Outcome, Told, unwind_orphan},
};

/// How long one record may take.
const EACH: Duration = Duration::from_secs(4);

/// What a sweep would do with a container's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remains {
    /// Its daemon is dead: it would be unwound.
    Orphan,
    /// A tombstone that waits for nobody: it would be removed.
    Expired,
    /// A run directory without a record: it would be removed.
    Empty,
    /// A record that cannot be read, or is newer than we are: its processes would be ended, it itself is kept.
    Foreign,
}

/// What a sweep of this folder would act on; changes nothing.
pub fn look(layout: &Layout) -> Result<Vec<(String, String, Remains)>, Error> {
    let mut found = Vec::new();
    for (namespace, id) in layout.containers() {
        let Some(dir) = RunDir::open(&layout.container(&namespace, &id))? else { continue };
        let remains = match dir.read() {
            Read::Record(record) if record.tombstone => record.is_expired()?.then_some(Remains::Expired),
            Read::Record(record) => (!owner::is_alive(layout, &record.owner)?).then_some(Remains::Orphan),
            // With the record lock held somebody is about to write one.
            Read::Absent => (!Lock::is_held(dir.dir(), layout::LOCK)?).then_some(Remains::Empty),
            Read::Newer(_) | Read::Unreadable(_) => Some(Remains::Foreign),
        };
        found.extend(remains.map(|remains| (namespace, id, remains)));
    }
    Ok(found)
}

/// What a sweep found.
#[derive(Debug, Default)]
pub struct Swept {
    /// Containers that were unwound.
    pub unwound: Vec<(String, String)>,
    /// Tombstones that were removed.
    pub expired: Vec<(String, String)>,
    /// Containers that could not be unwound, and why.
    pub failed: Vec<(String, String, Error)>,
}

/// Sweeps the folder of one containerd until the deadline.
pub fn sweep(layout: &Layout, deadline: Instant) -> Swept {
    let mut swept = Swept::default();
    let mut owners = Vec::new();
    for (namespace, id) in layout.containers() {
        if Instant::now() >= deadline {
            // Not all records were seen: nobody's lock may be forgotten.
            return swept;
        }
        match one(layout, &namespace, &id, deadline.min(Instant::now() + EACH)) {
            Ok(Some(Found::Owned(owner))) => owners.push(owner),
            Ok(Some(Found::Unwound)) => swept.unwound.push((namespace, id)),
            Ok(Some(Found::Expired)) => swept.expired.push((namespace, id)),
            Ok(None) => {}
            Err(e) => swept.failed.push((namespace, id, e)),
        }
    }
    forget_dead(layout, &owners);
    swept
}

/// Removes tombstones that wait for nobody, run directories in which nothing is any more, and what dead daemons left of
/// themselves: sockets, pod files, owner locks that no record names. Waits for no lock that is held for long.
pub fn tidy(layout: &Layout) {
    let owner_of = |(namespace, id): (String, String)| {
        let dir = RunDir::open(&layout.container(&namespace, &id)).ok()??;
        let record = match dir.read() {
            Read::Record(record) => record,
            Read::Absent => {
                if let Err(e) = forget_empty(&dir) {
                    tracing::warn!(namespace, id, error = e.chain(), "an empty folder was not removed");
                }
                return None;
            }
            Read::Newer(_) | Read::Unreadable(_) => return None,
        };
        match forget_tombstone(&dir, &record, Instant::now()) {
            Ok(true) => return None,
            Ok(false) => {}
            Err(e) => tracing::warn!(namespace, id, error = e.chain(), "a tombstone was not removed"),
        }
        Some(record.owner)
    };
    let owners: Vec<String> = layout.containers().into_iter().filter_map(owner_of).collect();
    forget_dead(layout, &owners);
}

/// Removes a run directory that has neither record nor marker: somebody was killed while he removed it. One that is
/// just being made is locked.
fn forget_empty(dir: &RunDir) -> Result<(), Error> {
    let lock = match dir.lock(Instant::now()) {
        Err(Error::Locked { .. }) => return Ok(()),
        Err(Error::Store(e)) if e.is_absent() => return Ok(()),
        result => result?,
    };
    match dir.read() {
        Read::Absent if dir.transactions()?.is_empty() => dir.remove(lock),
        _ => Ok(()),
    }
}

/// Removes a tombstone if it waits for nobody any more. Whether it did.
fn forget_tombstone(dir: &RunDir, record: &Record, deadline: Instant) -> Result<bool, Error> {
    let is_over = record.tombstone && record.is_expired()?;
    if is_over {
        remove_tombstone_by(dir, record, deadline)?;
    }
    Ok(is_over)
}

fn forget_dead(layout: &Layout, owners: &[String]) {
    for result in [pod::forget_dead(layout), owner::forget_dead(layout, owners)] {
        if let Err(e) = result {
            tracing::warn!(error = e.chain(), "what a dead daemon left was not removed");
        }
    }
    for e in Notes::new(layout.cgroup_notes()).retry(&Kernel) {
        tracing::warn!(error = %e, "a cgroup folder of ours was not removed");
    }
}

enum Found {
    Owned(String),
    Unwound,
    Expired,
}

fn one(layout: &Layout, namespace: &str, id: &str, deadline: Instant) -> Result<Option<Found>, Error> {
    let Some(dir) = RunDir::open(&layout.container(namespace, id))? else { return Ok(None) };
    let was_tombstone = matches!(dir.read(), Read::Record(Record { tombstone: true, .. }));
    match unwind_orphan(layout, namespace, id, Told::Later, deadline)? {
        Outcome::Nothing => Ok(None),
        Outcome::Owned(record) => Ok(Some(Found::Owned(record.owner))),
        Outcome::Unwound(record) => {
            if forget_tombstone(&dir, &record, Instant::now() + EACH)? {
                return Ok(Some(if was_tombstone { Found::Expired } else { Found::Unwound }));
            }
            Ok((!was_tombstone).then_some(Found::Unwound))
        }
    }
}

/// Removes a tombstone that was printed, or that waits for nobody. A container that took its place meanwhile stays.
pub fn remove_tombstone(dir: &RunDir, record: &Record) -> Result<(), Error> {
    remove_tombstone_by(dir, record, Instant::now() + EACH)
}

fn remove_tombstone_by(dir: &RunDir, record: &Record, deadline: Instant) -> Result<(), Error> {
    let Some(again) = RunDir::open(dir.dir().path())? else { return Ok(()) };
    let lock = match again.lock(deadline) {
        Err(Error::Store(e)) if e.is_absent() => return Ok(()),
        result => result?,
    };
    match again.read() {
        Read::Record(now) if now.txid == record.txid && now.tombstone => again.remove(lock),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{DEAD, Folder, LATER, LIVING, NAMESPACE, TXID, soon};

    #[test]
    fn a_sweep_that_was_cut_off_forgets_no_lock() {
        let folder = Folder::new();
        drop(owner::Owner::create(&folder.layout, DEAD.to_owned()).unwrap());
        let lock = folder.layout.owners().join(DEAD);
        folder.put(&folder.record("c1", TXID, DEAD));
        let swept = sweep(&folder.layout, Instant::now());
        assert!(swept.unwound.is_empty() && swept.failed.is_empty(), "{swept:?}");
        assert!(lock.exists(), "a record that was not seen may name it");
        let swept = sweep(&folder.layout, soon());
        assert_eq!(swept.unwound, [(NAMESPACE.to_owned(), "c1".to_owned())], "{swept:?}");
        assert!(!lock.exists());
    }

    #[test]
    fn a_tombstone_that_waits_for_nobody_is_tidied_away_with_its_owners_lock() {
        let folder = Folder::new();
        let [lock, named] = [DEAD, LIVING].map(|owner| {
            drop(owner::Owner::create(&folder.layout, owner.to_owned()).unwrap());
            folder.layout.owners().join(owner)
        });
        let mut record = folder.record("c1", TXID, DEAD);
        record.tombstone = true;
        let dir = folder.put(&record);
        folder.put(&folder.record("c2", LATER, LIVING));
        tidy(&folder.layout);
        assert!(matches!(dir.read(), Read::Record(_)) && lock.exists(), "its bundle is there");
        record.bundle_path.push("gone");
        dir.write(&record).unwrap();
        let held = dir.lock(soon()).unwrap();
        tidy(&folder.layout);
        assert!(matches!(dir.read(), Read::Record(_)) && lock.exists(), "somebody is at work there");
        drop(held);
        // The bundle of this one is gone as well, but it is not undone yet.
        let gone = folder.bundle().join("gone");
        let orphan = folder.put(&Record { bundle_path: gone, ..folder.record("c2", LATER, LIVING) });
        tidy(&folder.layout);
        assert!(!folder.layout.container(NAMESPACE, "c1").exists() && !lock.exists());
        assert!(matches!(orphan.read(), Read::Record(_)) && named.exists());
    }

    #[test]
    fn a_run_directory_with_nothing_in_it_is_tidied_away_unless_somebody_makes_it() {
        let folder = Folder::new();
        let path = folder.layout.container(NAMESPACE, "c1");
        let (made, lock) = RunDir::make(&path).unwrap();
        tidy(&folder.layout);
        assert!(path.exists(), "somebody is at work there");
        drop(lock);
        // The marker says that there may be something.
        let marker = path.join(format!("{}{TXID}", layout::TX));
        std::fs::write(&marker, DEAD).unwrap();
        tidy(&folder.layout);
        assert!(path.exists());
        std::fs::remove_file(&marker).unwrap();
        tidy(&folder.layout);
        assert!(!path.exists() && !made.dir().is_linked());
    }

    #[test]
    fn a_tombstone_goes_only_with_its_own_transaction() {
        let folder = Folder::new();
        let mut later = folder.record("c1", LATER, DEAD);
        later.tombstone = true;
        let dir = folder.put(&later);
        // Printed by a `delete` of the one before.
        remove_tombstone(&dir, &Record { txid: TXID.to_owned(), ..later.clone() }).unwrap();
        assert!(matches!(dir.read(), Read::Record(now) if now == later));
        remove_tombstone(&dir, &later).unwrap();
        assert!(!folder.layout.container(NAMESPACE, "c1").exists());
    }
}
