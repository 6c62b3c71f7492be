//! Whether somebody else is in a container's cgroup, or below it: two specs may name one path (`ctr run --cgroup`),
//! and who came first has found it absent. Then the path says nothing of whose a process is.
//!
//! It is asked only where somebody would be killed by the path, which is seldom: it reads every record.

use std::path::{Path, PathBuf};

use host_cgroup::{Kernel, WholePlan};
use record_store::Read;

use super::PidNamespace;
use crate::{
    layout::Layout,
    record::{Record, RunDir},
};

/// Of the container whose run directory is `dir`. `is_told`: its first process is dead, and with its pid namespace all that
/// it had: then any stranger is seen, too.
pub fn others_are_in(dir: &Path, cgroup: &WholePlan, is_told: bool) -> bool {
    is_shared(dir, cgroup) || is_told && has_strangers(cgroup)
}

/// Another one of ours. Records that cannot be read tell nothing.
fn is_shared(dir: &Path, cgroup: &WholePlan) -> bool {
    let Some(root) = dir.ancestors().nth(3) else { return false };
    let own: Vec<PathBuf> = cgroup.hierarchies.iter().map(host_cgroup::WholeIn::dir).collect();
    let is_in_it = |other: &Path| {
        let Ok(Some(other)) = RunDir::open(other) else { return false };
        let Read::Record(record) = other.read() else { return false };
        !record.tombstone && places(&record).iter().any(|place| own.iter().any(|own| place.starts_with(own)))
    };
    Layout::all(root).iter().any(|layout| {
        let all = layout.containers().into_iter().map(|(namespace, id)| layout.container(&namespace, &id));
        all.into_iter().any(|other| other != dir && is_in_it(&other))
    })
}

/// Whether somebody is in it who cannot be of a container that had a pid namespace of its own, once its first process is dead:
/// whoever was in that has died with it, and what the OCI runtime had not let go yet is in ours. So it is somebody of whom we
/// know nothing: the same path under another runtime, or another containerd.
fn has_strangers(cgroup: &WholePlan) -> bool {
    let ours = PidNamespace::own();
    let members = cgroup.own_procs(&Kernel).unwrap_or_default();
    members.into_iter().any(|pid| PidNamespace::of(pid).is_some_and(|theirs| Some(theirs) != ours))
}

/// Where a container's processes are.
fn places(record: &Record) -> Vec<PathBuf> {
    let whole = record.oci.iter().flat_map(|oci| &oci.cgroup.hierarchies).map(host_cgroup::WholeIn::dir);
    let leaves = record.cgroup.iter().flat_map(|plan| &plan.hierarchies).map(host_cgroup::LeafIn::leaf_dir);
    whole.chain(leaves).collect()
}
