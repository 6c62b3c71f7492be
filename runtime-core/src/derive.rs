//! What a record does not say, or cannot say any more, derived from what else is there: the transaction's marker, the
//! plan, and the names that carry its id. It only reads. What cannot be derived is left out.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use host_cgroup::{CgroupsPath, Hierarchies, LeafIn, LeafName, LeafPlan};
use saga::{Entry, Journal, Phase};
use time::OffsetDateTime;

use crate::{
    Error, layout,
    lifecycle::State,
    oci::OciRecord,
    plan::{Late, OrdinaryPlan, Plan},
    record::{BundleId, NetworkRecord, Record, RunDir, SCHEMA, StdioPaths},
    steps::{CREATE, create_steps, derived_hooks, network_steps, ordinary_steps},
};

/// A record for the undo of a transaction whose own cannot be read: everything may have been made.
pub fn record(dir: &RunDir, txid: &str) -> Result<Record, Error> {
    let path = dir.dir().path();
    let name = |path: Option<&Path>| {
        path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let entry = |step: &str| Entry { section: CREATE.to_owned(), step: step.to_owned(), phase: Phase::Done };
    let ordinary = ordinary(dir, txid);
    let mut entries: Vec<Entry> = match &ordinary {
        Some(_) => ordinary_steps().iter().map(|step| entry(step.name())).collect(),
        None => create_steps().iter().map(|step| entry(step.name())).collect(),
    };
    if ordinary.is_none() {
        entries.extend(derived_hooks(dir, txid));
        entries.extend(network_steps().iter().map(|step| entry(step.name())));
    }
    let journal = Journal::try_from(entries);
    let cgroup = if ordinary.is_none() { Some(leaf(dir, txid)?) } else { None };
    let (oci, rootfs) = ordinary.map(|plan| (plan.oci, plan.rootfs)).unzip();
    Ok(Record {
        schema: SCHEMA,
        namespace: name(path.parent()),
        id: name(Some(path)),
        txid: txid.to_owned(),
        boot_id: proc_id::boot_id()?,
        owner: String::new(),
        daemon: None,
        group: String::new(),
        bundle_path: PathBuf::new(),
        bundle: BundleId { dev: 0, ino: 0, born: None },
        created: OffsetDateTime::now_utc(),
        state: State::Unwinding,
        journal: journal.unwrap_or_default(),
        cgroup,
        process: None,
        oci: oci.map(Box::new),
        rootfs: rootfs.flatten(),
        execs: BTreeMap::new(),
        logger: None,
        network: network(dir, txid),
        stdio: StdioPaths::default(),
        exit: None,
        last_words: None,
        poststop: None,
        usage: None,
        tombstone: false,
    })
}

/// Completes a record whose journal has steps of which it does not say what they made.
pub fn complete(record: &mut Record, dir: &RunDir) -> Result<(), Error> {
    let stands = |step: &str| {
        record.journal.entries().iter().any(|entry| entry.step == step && entry.phase != Phase::Undone)
    };
    let has_leaf = record.cgroup.as_ref().is_some_and(|plan| !plan.hierarchies.is_empty());
    // Of the logger's step an ordinary container has one, too.
    let lacks_leaf = !has_leaf && create_steps().iter().skip(1).any(|step| stands(step.name()));
    let lacks_network = record.network.is_none() && network_steps().iter().any(|step| stands(step.name()));
    if lacks_leaf {
        record.cgroup = Some(leaf(dir, &record.txid)?);
    }
    if lacks_network {
        record.network = network(dir, &record.txid);
    }
    Ok(())
}

/// The plan of this very transaction, if it can be read.
fn plan(dir: &RunDir, txid: &str) -> Option<Plan> {
    let plan: Option<Plan> = dir.dir().read_part(layout::PLAN).ok().flatten();
    plan.filter(|plan| plan.txid == txid)
}

/// What was given to the OCI runtime: as the plan has it, or where its state shows that there is something.
fn ordinary(dir: &RunDir, txid: &str) -> Option<OrdinaryPlan> {
    match plan(dir, txid) {
        Some(plan) => plan.ordinary().cloned(),
        None => OciRecord::derived(dir).map(|oci| OrdinaryPlan { oci, rootfs: None }),
    }
}

/// The cgroup leaf: as the plan has it, or wherever one is found that bears the transaction's id.
fn leaf(dir: &RunDir, txid: &str) -> Result<LeafPlan, Error> {
    match plan(dir, txid).and_then(|plan| plan.cgroup) {
        Some(plan) => Ok(plan),
        None => find_leaf(txid),
    }
}

/// What was to be made at the pod's interface, by what was planned in Create or at Start.
fn network(dir: &RunDir, txid: &str) -> Option<NetworkRecord> {
    let plan = plan(dir, txid)?;
    let guest = plan.guest()?;
    let late = || dir.dir().read_part::<Late>(layout::LATE).ok().flatten()?.network;
    let network = guest.known_network().cloned().or_else(late)?;
    Some(NetworkRecord::intended(&network, guest.netns.as_ref()))
}

/// Finds the leaf of a transaction in every hierarchy, wherever it is.
fn find_leaf(txid: &str) -> Result<LeafPlan, Error> {
    let leaf = LeafName::of(txid)?;
    let mut plan = LeafPlan { hierarchies: vec![] };
    for hierarchy in Hierarchies::detect()?.iter() {
        let Some(parent) = find_below(&hierarchy.mount, leaf.as_str()) else { continue };
        let Some(path) = parent.strip_prefix(&hierarchy.mount).ok().and_then(Path::to_str) else { continue };
        plan.hierarchies.push(LeafIn {
            mount: hierarchy.mount.clone(),
            version: hierarchy.version,
            controllers: hierarchy.controllers.clone(),
            path: CgroupsPath::parse(&format!("/{path}"))?,
            leaf: leaf.clone(),
            to_make: vec![],
        });
    }
    Ok(plan)
}

/// The folder below `top` that has a subfolder `name`.
fn find_below(top: &Path, name: &str) -> Option<PathBuf> {
    let mut waiting = vec![top.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).ok()?.flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if entry.file_name() == name {
                    return Some(folder);
                }
                waiting.push(entry.path());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use host_cgroup::Version;

    use super::*;
    use crate::{
        fixture::{Folder, LATER, TXID},
        plan::What,
    };

    #[test]
    fn the_plan_of_another_transaction_tells_nothing() {
        let folder = Folder::new();
        let dir = folder.container("c1");
        let leaf = LeafIn {
            mount: folder.bundle(),
            version: Version::V2,
            controllers: vec![],
            path: CgroupsPath::parse("/planned").unwrap(),
            leaf: LeafName::of(TXID).unwrap(),
            to_make: vec![],
        };
        let planned = LeafPlan { hierarchies: vec![leaf] };
        let plan = Plan { txid: TXID.to_owned(), cgroup: Some(planned.clone()), what: What::Sandbox };
        dir.write_part(layout::PLAN, &plan).unwrap();
        assert_eq!(record(&dir, TXID).unwrap().cgroup, Some(planned));
        // That one's leaf is looked for, and it has none.
        assert_eq!(record(&dir, LATER).unwrap().cgroup, Some(LeafPlan { hierarchies: vec![] }));
    }
}
