//! For unit tests: the folder of a containerd, with records of containers that never had anything.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use saga::Journal;
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::{
    layout::Layout,
    lifecycle::State,
    record::{BundleId, Record, RunDir, SCHEMA, StdioPaths},
};

/// containerd's namespace.
pub const NAMESPACE: &str = "tests";
/// A daemon that is dead: nobody holds its lock.
pub const DEAD: &str = "00000000deadbeef";
/// A daemon whose lock a test holds.
pub const LIVING: &str = "0000000000c0ffee";
/// A transaction.
pub const TXID: &str = "0123456789ab";
/// One of the same id that came later.
pub const LATER: &str = "ba9876543210";

/// The folder. It goes with this.
pub struct Folder {
    /// What is where in it.
    pub layout: Layout,
    dir: TempDir,
}

impl Folder {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { layout: Layout::new(dir.path(), "/containerd.sock"), dir }
    }

    /// The bundle of every container: it is there.
    pub fn bundle(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// The run directory of a container, made where it is missing.
    pub fn container(&self, id: &str) -> RunDir {
        RunDir::make(&self.layout.container(NAMESPACE, id)).unwrap().0
    }

    /// A record of a container that waits for its Start.
    pub fn record(&self, id: &str, txid: &str, owner: &str) -> Record {
        Record {
            schema: SCHEMA,
            namespace: NAMESPACE.to_owned(),
            id: id.to_owned(),
            txid: txid.to_owned(),
            boot_id: proc_id::boot_id().unwrap(),
            owner: owner.to_owned(),
            daemon: None,
            group: id.to_owned(),
            bundle_path: self.bundle(),
            bundle: BundleId::of(&self.bundle()).unwrap().unwrap(),
            created: OffsetDateTime::now_utc(),
            state: State::Created,
            journal: Journal::default(),
            cgroup: None,
            process: None,
            oci: None,
            rootfs: None,
            execs: std::collections::BTreeMap::new(),
            logger: None,
            network: None,
            stdio: StdioPaths::default(),
            exit: None,
            last_words: None,
            poststop: None,
            usage: None,
            tombstone: false,
        }
    }

    /// Writes it; the run directory.
    pub fn put(&self, record: &Record) -> RunDir {
        let dir = self.container(&record.id);
        dir.write(record).unwrap();
        dir
    }
}

/// A deadline that nobody comes to on a machine that works.
pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}
