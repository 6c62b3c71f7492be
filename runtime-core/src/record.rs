//! The record of one container: what is known of it on disk, and how it is written.
//!
//! The record is the only memory that survives a crash. It is replaced whole under the record lock, through the fd of
//! a run directory that was opened once; a run directory that was removed under us is never made anew.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use host_cgroup::{LeafPlan, Stats};
use host_mount::Mounted;
use host_net::{Ingress, NetnsId};
use proc_id::ProcessId;
use record_store::{Dir, Lock, Read};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use saga::Journal;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use vmm_api::Reason;

use crate::{Error, layout, lifecycle::State, oci::OciRecord, plan::NetworkPlan};

/// The newest schema that this version writes and reads.
pub const SCHEMA: u64 = 1;
/// How long a writer waits for the record lock. Its holders only ever write a small file, or unwind within 4 s.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// How a container's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The status as clients see it: the guest's own, or 128 + the signal.
    pub status: u32,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Why; `None`: a record of a version that did not ask.
    #[serde(default)]
    pub reason: Option<Reason>,
    /// The status is only what such an end counts as: nothing has shown it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unproven: bool,
}

impl Exit {
    /// An exit that happens now.
    pub fn now(status: u32, reason: Reason) -> Self {
        let unproven = !reason.is_proven();
        Self { status, at: OffsetDateTime::now_utc(), reason: Some(reason), unproven }
    }

    /// An exit that follows a signal of ours.
    pub fn by_signal(signal: i32) -> Self {
        Self::now(128 + signal.unsigned_abs(), Reason::Killed)
    }

    /// What is reported for a container that was killed by its clean-up.
    pub fn killed() -> Self {
        Self::now(137, Reason::CleanedUp)
    }
}

/// The stdio of a container as containerd names it; empty: not wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StdioPaths {
    /// Standard input.
    pub stdin: String,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Whether a terminal is wanted.
    pub terminal: bool,
}

/// Which bundle it is: paths are used again, this is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleId {
    /// Its device.
    pub dev: u64,
    /// Its inode.
    pub ino: u64,
    /// When it was made (seconds and nanoseconds), where the file system knows.
    pub born: Option<(i64, u32)>,
}

impl BundleId {
    /// The identity of the directory at `path`, or of the working directory for `.`. `None`: there is none.
    pub fn of(path: &Path) -> Result<Option<Self>, Error> {
        let mask = StatxFlags::INO | StatxFlags::BTIME;
        let result = if path == Path::new(".") {
            // Not by path: the working directory may have been removed, and its path used again.
            statx(CWD, "", AtFlags::EMPTY_PATH, mask)
        } else {
            statx(CWD, path, AtFlags::empty(), mask)
        };
        match result {
            Ok(s) => Ok(Some(Self {
                dev: rustix::fs::makedev(s.stx_dev_major, s.stx_dev_minor),
                ino: s.stx_ino,
                born: (s.stx_mask & StatxFlags::BTIME.bits() != 0)
                    .then_some((s.stx_btime.tv_sec, s.stx_btime.tv_nsec)),
            })),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(e) => Err(Error::file("look at", path)(e.into())),
        }
    }
}

/// What a container has at the pod's interface: all that its undo needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// The network namespace.
    pub netns: NetnsId,
    /// Where it may be found.
    pub paths: Vec<PathBuf>,
    /// The index of the pod's interface.
    pub index: u32,
    /// The interface's ingress qdisc is ours: it was made by us, or by one of ours that is gone.
    pub ingress_made: bool,
}

impl NetworkRecord {
    /// What a plan is about to make, in the namespace that the spec names by `path`.
    pub fn intended(plan: &NetworkPlan, path: Option<&PathBuf>) -> Self {
        let interface = &plan.interface;
        Self {
            netns: plan.netns,
            paths: path.into_iter().cloned().collect(),
            index: interface.index,
            // A qdisc that one of ours made who is gone, or is going, is inherited.
            ingress_made: interface.ingress == Ingress::None
                || interface.stale.iter().any(|mark| mark.ingress_made)
                || plan.inherits_ingress,
        }
    }
}

/// The record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The schema it was written in.
    pub schema: u64,
    /// containerd's namespace.
    pub namespace: String,
    /// The container's id.
    pub id: String,
    /// The transaction that made it; its resources carry this in their names.
    pub txid: String,
    /// The boot it was made in.
    pub boot_id: String,
    /// The daemon instance whose it is.
    pub owner: String,
    /// That daemon, once more than in the pod file: for a `delete` that has to end it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<ProcessId>,
    /// The group (pod) it belongs to.
    pub group: String,
    /// Where the bundle was.
    pub bundle_path: PathBuf,
    /// Which bundle it was.
    pub bundle: BundleId,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// Its state.
    pub state: State,
    /// What was begun and done.
    pub journal: Journal,
    /// The cgroup folders of this transaction, from the intent on.
    pub cgroup: Option<LeafPlan>,
    /// The launcher, which becomes the monitor; of an ordinary container its first process.
    pub process: Option<ProcessId>,
    /// An ordinary container: what its undo needs to know of the OCI runtime, from the intent on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oci: Option<Box<OciRecord>>,
    /// Its root file system in the host's mount table, from the intent on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<Mounted>,
    /// The processes that were executed in it later, by their exec ids.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub execs: BTreeMap<String, ProcessId>,
    /// The logger that takes its output, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logger: Option<ProcessId>,
    /// What it has in the pod's network namespace, from the intent on.
    #[serde(default)]
    pub network: Option<NetworkRecord>,
    /// Its stdio.
    pub stdio: StdioPaths,
    /// How it ended.
    pub exit: Option<Exit>,
    /// What the monitor said on its stderr, at the end of it; for `urunc inspect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_words: Option<String>,
    /// How many of its poststop hooks have run; `None`: none was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poststop: Option<usize>,
    /// What it had used when it ended.
    #[serde(default)]
    pub usage: Option<Stats>,
    /// Everything is undone; only bundle identity, pid and exit are kept, for the id's own `delete` to print.
    #[serde(default)]
    pub tombstone: bool,
}

impl Record {
    /// The pid that was told to containerd, 0 if it never came to one.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, |p| u32::try_from(p.pid).unwrap_or(0))
    }

    /// The first field that names what cannot be its own, in the run directory at `path`: a name becomes a path, and a
    /// cgroup's processes are killed.
    fn misnomer(&self, path: &Path) -> Option<&'static str> {
        let id = path.file_name();
        let namespace = path.parent().and_then(Path::file_name);
        let is_own_leaf = |name: &str| name.strip_prefix("urunc-") == Some(&self.txid);
        let leaves = self.cgroup.iter().flat_map(|plan| &plan.hierarchies);
        let right = [
            ("namespace", namespace == Some(OsStr::new(&self.namespace))),
            ("id", id == Some(OsStr::new(&self.id))),
            ("txid", layout::is_txid(&self.txid)),
            ("owner", layout::is_instance(&self.owner)),
            ("group", layout::is_identifier(&self.group)),
            ("cgroup", leaves.into_iter().all(|h| is_own_leaf(h.leaf.as_str()))),
            ("oci", self.oci.as_ref().is_none_or(|oci| oci.is_of(&self.namespace, path))),
            ("rootfs", self.rootfs.as_ref().is_none_or(|m| m.place == self.bundle_path.join(layout::ROOTFS))),
        ];
        right.into_iter().find(|(_, is_right)| !is_right).map(|(field, _)| field)
    }

    /// Whether a tombstone has nothing to wait for: its bundle is gone, or the boot changed.
    pub fn is_expired(&self) -> Result<bool, Error> {
        Ok(self.boot_id != proc_id::boot_id()?
            || BundleId::of(&self.bundle_path)?.as_ref() != Some(&self.bundle))
    }
}

/// The run directory of one container.
#[derive(Debug)]
pub struct RunDir {
    dir: Dir,
}

impl fmt::Display for RunDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dir.path().display().fmt(f)
    }
}

impl RunDir {
    /// Opens a run directory that is there; `None`: it is not.
    pub fn open(path: &Path) -> Result<Option<Self>, Error> {
        match Dir::open(path) {
            Ok(dir) => Ok(Some(Self { dir })),
            Err(e) if e.is_absent() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Makes the run directory where it is missing and takes its record lock. A sweep that removes it meanwhile is
    /// no error: it is begun again.
    pub fn make(path: &Path) -> Result<(Self, Lock), Error> {
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            let dir = match Dir::make(path) {
                Ok(dir) => dir,
                Err(e) if e.is_absent() && Instant::now() < deadline => continue,
                Err(e) => return Err(e.into()),
            };
            match Lock::acquire(&dir, layout::LOCK, deadline) {
                Ok(Some(lock)) if dir.is_linked() => return Ok((Self { dir }, lock)),
                Ok(Some(_)) => {}
                Ok(None) => return Err(Error::Locked { path: path.to_owned() }),
                Err(e) if e.is_absent() && Instant::now() < deadline => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Takes the record lock.
    pub fn lock(&self, deadline: Instant) -> Result<Lock, Error> {
        Lock::acquire(&self.dir, layout::LOCK, deadline)?
            .ok_or_else(|| Error::Locked { path: self.dir.path().join(layout::LOCK) })
    }

    /// Reads the record. One that names what cannot be its own is garbled, whoever wrote it.
    pub fn read(&self) -> Read<Record> {
        match self.dir.read_record::<Record>(layout::RECORD, SCHEMA) {
            Read::Record(record) => match record.misnomer(self.dir.path()) {
                Some(field) => {
                    let problem = format!("its {field} cannot be its own");
                    Read::Unreadable(self.dir.garbled(layout::RECORD, problem.into()))
                }
                None => Read::Record(record),
            },
            other => other,
        }
    }

    /// Writes the record under its lock.
    pub fn write(&self, record: &Record) -> Result<(), Error> {
        let began = Instant::now();
        let _lock = self.lock(began + LOCK_WAIT)?;
        self.replace(layout::RECORD, record, began)
    }

    /// Writes the record; the caller holds its lock.
    pub fn write_locked(&self, record: &Record) -> Result<(), Error> {
        self.replace(layout::RECORD, record, Instant::now())
    }

    /// Writes what is decided once, beside the record.
    pub fn write_part<T: Serialize>(&self, name: &str, part: &T) -> Result<(), Error> {
        self.replace(name, part, Instant::now())
    }

    /// Writes a file whole, and says how long that took: `make bench-journal` adds it up.
    fn replace<T: Serialize>(&self, name: &str, value: &T, began: Instant) -> Result<(), Error> {
        self.dir.replace(name, value)?;
        tracing::debug!(file = name, us = began.elapsed().as_micros(), "written");
        Ok(())
    }

    /// The transactions whose markers are there: what can be derived where a record cannot be read.
    pub fn transactions(&self) -> Result<Vec<String>, Error> {
        Ok(self.dir.names()?.iter().filter_map(|n| n.strip_prefix(layout::TX).map(str::to_owned)).collect())
    }

    /// The daemon instances that wrote the markers: whose the directory is where its record cannot be read.
    pub fn owners(&self) -> Result<Vec<String>, Error> {
        let mut owners = Vec::new();
        for txid in self.transactions()? {
            let content = self.dir.read(&format!("{}{txid}", layout::TX))?.unwrap_or_default();
            owners.push(String::from_utf8_lossy(&content).into_owned());
        }
        Ok(owners)
    }

    /// Removes what a transaction wrote beside its record. The caller holds the record lock.
    pub fn clear(&self) -> Result<(), Error> {
        for txid in self.transactions()? {
            self.dir.remove(format!("{}{txid}", layout::TX))?;
        }
        for name in [layout::RECORD, layout::PLAN, layout::LATE, layout::HOOKS] {
            self.dir.remove_leftover(name)?;
        }
        self.dir.remove(layout::PLAN)?;
        self.dir.remove(layout::LATE)?;
        self.dir.remove(layout::HOOKS)?;
        self.forget_calls()
    }

    /// Removes what calls of the OCI runtime have left that were killed with us.
    pub fn forget_calls(&self) -> Result<(), Error> {
        let folder = self.dir.path().join(layout::CALLS);
        match std::fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", folder)(e)),
            _ => Ok(()),
        }
    }

    /// Removes the run directory, the record last but for its lock. What somebody set aside stays, and with it the
    /// directory. The folder of the namespace goes when it is empty.
    pub fn remove(&self, lock: Lock) -> Result<(), Error> {
        self.clear()?;
        self.dir.remove(layout::RECORD)?;
        lock.unlink(&self.dir)?;
        // A Create that came meanwhile has made its lock file: then the directory is its own, and not empty.
        if rustix::fs::rmdir(self.dir.path()).is_ok()
            && let Some(namespace) = self.dir.path().parent()
        {
            rustix::fs::rmdir(namespace).ok();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_that_nothing_has_shown_is_marked() {
        let json = |exit: Exit| serde_json::to_value(exit).unwrap();
        let off = json(Exit::now(0, Reason::PowerOff));
        assert_eq!((&off["reason"], &off["unproven"]), (&"power-off".into(), &true.into()));
        assert!(json(Exit::now(0, Reason::GuestStatus)).get("unproven").is_none());
        // Of a version that did not ask.
        let old = r#"{"status": 3, "at": "2026-01-01T00:00:00Z"}"#;
        let old: Exit = serde_json::from_str(old).unwrap();
        assert_eq!((old.status, old.reason, old.unproven), (3, None, false));
    }
}
