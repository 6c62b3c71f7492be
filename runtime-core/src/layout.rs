//! Where everything is on disk.
//!
//! ```text
//! ROOT/.cgroups/                  notes on cgroup folders that we made and could not remove yet
//! ROOT/.oci/                      which OCI runtimes can serve: one note per program that was asked
//! ROOT/<12 hex of sha256(containerd's address)>/     one folder per containerd, 0700
//!   .pods/<16 hex>.lock, .json    the pod lock and the pod file of one group
//!   .owners/<instance>            the owner lock of one daemon, never used again
//!   <namespace>/<id>/             the run directory of one container:
//!     lock, record.json, plan.json, start.json, hooks.json, tx-<txid>
//!     oci/                        of an ordinary container: the OCI runtime's own state
//!     calls/                      of one, for the time of a call: a pid file, a console socket
//! ```
//!
//! containerd's namespaces and ids begin with a letter or digit, so the names with a dot are ours alone.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The record's file name in a run directory.
pub const RECORD: &str = "record.json";
/// The plan's file name.
pub const PLAN: &str = "plan.json";
/// The file name of Start's late decisions.
pub const LATE: &str = "start.json";
/// The file name of the hooks.
pub const HOOKS: &str = "hooks.json";
/// The folder of the OCI runtime's state, of this one container.
pub const OCI: &str = "oci";
/// The folder of what a call of the OCI runtime needs by name.
pub const CALLS: &str = "calls";
/// Where an ordinary container's root file system is mounted, in its bundle: containerd looks there, too.
pub const ROOTFS: &str = "rootfs";
/// The record lock's file name.
pub const LOCK: &str = "lock";
/// What the name of the transaction's marker begins with.
pub const TX: &str = "tx-";

/// How many random bytes a transaction's id has: with `tap` before it, it is as long as an interface's name may be.
pub const TXID_BYTES: usize = 6;
/// How many random bytes the name of a daemon instance has.
pub const INSTANCE_BYTES: usize = 8;

/// The folder of one containerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    base: PathBuf,
}

impl Layout {
    /// The folder for the containerd that listens at `address`, below `root`.
    pub fn new(root: &Path, address: &str) -> Self {
        Self { base: root.join(&hex_digest(&[address])[..12]) }
    }

    /// A folder found by listing the root.
    pub fn at(base: PathBuf) -> Self {
        Self { base }
    }

    /// Every containerd's folder below `root`.
    pub fn all(root: &Path) -> Vec<Self> {
        subfolders(root)
            .into_iter()
            .filter(|name| name.len() == 12)
            .map(|name| Self::at(root.join(name)))
            .collect()
    }

    /// The folder itself.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Where the pod locks and pod files are.
    pub fn pods(&self) -> PathBuf {
        self.base.join(".pods")
    }

    /// Where the owner locks are.
    pub fn owners(&self) -> PathBuf {
        self.base.join(".owners")
    }

    /// Where the notes on cgroup folders are: shared, for two containerds may share a parent.
    pub fn cgroup_notes(&self) -> PathBuf {
        self.base.with_file_name(".cgroups")
    }

    /// Where it is noted which OCI runtimes can serve: shared, for so are the programs.
    pub fn oci_notes(&self) -> PathBuf {
        self.base.with_file_name(".oci")
    }

    /// The run directory of one container.
    pub fn container(&self, namespace: &str, id: &str) -> PathBuf {
        self.base.join(namespace).join(id)
    }

    /// Every (namespace, id) that has a run directory.
    pub fn containers(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for namespace in subfolders(&self.base) {
            for id in subfolders(&self.base.join(&namespace)) {
                all.push((namespace.clone(), id));
            }
        }
        all.sort();
        all
    }
}

/// Whether a namespace or an id can be a folder's name: containerd's own rule keeps them single path components that do
/// not begin with a dot.
pub fn is_identifier(text: &str) -> bool {
    text.len() <= 255
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// Whether it is a transaction's id as we make them. It becomes a part of names.
pub fn is_txid(text: &str) -> bool {
    is_hex(text, TXID_BYTES)
}

/// Whether it is the name of a daemon instance as we make them. It is a file's name.
pub fn is_instance(text: &str) -> bool {
    is_hex(text, INSTANCE_BYTES)
}

fn is_hex(text: &str, bytes: usize) -> bool {
    text.len() == 2 * bytes && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The names of the folders in `path` that can be ours.
fn subfolders(path: &Path) -> Vec<String> {
    let Ok(entries) = path.read_dir() else { return vec![] };
    entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|name| is_identifier(name))
        .collect()
}

/// The sha256 of the parts joined by `/`, in hex.
pub fn hex_digest(parts: &[&str]) -> String {
    Sha256::digest(parts.join("/")).iter().map(|b| format!("{b:02x}")).collect()
}

/// `bytes` random bytes in hex.
pub fn random_hex(bytes: usize) -> Result<String, crate::Error> {
    let mut buf = vec![0u8; bytes];
    rustix::rand::getrandom(&mut buf, rustix::rand::GetRandomFlags::empty())
        .map_err(crate::Error::system("get random bytes"))?;
    Ok(buf.iter().map(|b| format!("{b:02x}")).collect())
}
