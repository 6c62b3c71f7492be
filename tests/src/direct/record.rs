//! Records and cgroup leaves, looked at without the product's own code.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use sha2::{Digest, Sha256};

const STATES: [&str; 8] =
    ["creating", "created", "starting", "running", "paused", "stopped", "unwinding", "unwind-blocked"];

/// A record as the shim writes it: its first member is the sha256 of all bytes behind that member.
pub fn seal(record: &Value) -> String {
    let mut record = record.clone();
    record.as_object_mut().unwrap().remove("sha256");
    let tail = format!("{}\n", &record.to_string()[1..]);
    format!("{{\"sha256\":\"{}\",{tail}", digest(&tail))
}

/// The content of a record file, if its checksum is right.
pub fn unseal(text: &[u8]) -> Result<Value, String> {
    let broken = |what: &str| format!("{what}: {:?}", String::from_utf8_lossy(text));
    let text = str::from_utf8(text).map_err(|e| broken(&e.to_string()))?;
    let mut record: Value = serde_json::from_str(text).map_err(|e| broken(&e.to_string()))?;
    let sum = record.as_object_mut().and_then(|r| r.remove("sha256")).ok_or_else(|| broken("no checksum"))?;
    let (_, tail) = text.split_once(',').ok_or_else(|| broken("no members"))?;
    if sum != digest(tail) {
        return Err(broken("its checksum is wrong"));
    }
    Ok(record)
}

/// The sha256 in hex.
pub(crate) fn digest(text: &str) -> String {
    Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect()
}

/// Whether a `record.json` is whole: its checksum is right, it is JSON, of our schema, with a state that is known and a journal that a transaction
/// can have written. What is wrong with it otherwise.
pub fn check_record(text: &[u8]) -> Result<Value, String> {
    let record = unseal(text)?;
    let wrong = |what: &str| Err(format!("{what}: {record}"));
    if record["schema"] != 1 {
        return wrong("schema");
    }
    for field in ["namespace", "id", "txid", "boot_id", "owner", "group", "bundle_path", "created"] {
        if record[field].as_str().is_none_or(str::is_empty) {
            return wrong(field);
        }
    }
    if record["state"].as_str().is_none_or(|s| !STATES.contains(&s)) {
        return wrong("state");
    }
    let Some(journal) = record["journal"].as_array() else { return wrong("journal") };
    let steps: Vec<(&str, &str)> = journal
        .iter()
        .map(|e| (e["section"].as_str().unwrap_or(""), e["step"].as_str().unwrap_or("")))
        .collect();
    let phases: Vec<&str> = journal.iter().map(|e| e["phase"].as_str().unwrap_or("")).collect();
    // In the order of the steps, from the first one on, and each once; the network's where there is one, in Create or
    // in Start.
    let known = |network: &[(&'static str, &'static str)], at: usize| {
        let mut order = vec![("create", "cgroup"), ("create", "launcher"), ("start", "gate")];
        order.splice(at..at, network.iter().copied());
        order
    };
    let early = known(&[("create", "ingress"), ("create", "redirect")], 2);
    let late = known(&[("start", "ingress"), ("start", "redirect")], 2);
    // The logger, where there is one, before all.
    let steps = steps.strip_prefix(&[("create", "logger")]).map_or(steps.clone(), <[_]>::to_vec);
    // Hooks, where there are any, behind the launcher.
    let hooks = [("create", "hooks")];
    let steps: Vec<_> = match steps.get(2) == hooks.first() {
        true => steps.into_iter().filter(|step| *step != hooks[0]).collect(),
        false => steps,
    };
    let ordinary = vec![("create", "rootfs"), ("create", "oci"), ("start", "oci-start")];
    if ![known(&[], 2), early, late, ordinary].iter().any(|order| order.starts_with(&steps)) {
        return wrong("the journal's steps");
    }
    if phases.iter().any(|p| !["starting", "done", "undone"].contains(p)) {
        return wrong("the journal's phases");
    }
    // Nothing is begun after what was not done.
    let unfinished = phases.iter().position(|p| *p == "starting");
    if unfinished.is_some_and(|at| phases[at + 1..].iter().any(|p| *p != "undone")) {
        return wrong("the journal goes on after a step that was not done");
    }
    let committed = ["created", "starting", "running", "paused", "stopped"];
    let is_committed = committed.contains(&record["state"].as_str().unwrap_or(""));
    if is_committed
        && record["tombstone"] != true
        && record["process"]["pid"].as_i64().is_none_or(|pid| pid <= 1)
    {
        return wrong("committed without a process");
    }
    Ok(record)
}

/// The mount points of the host's cgroup hierarchies.
pub fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let cgroup = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        right.starts_with("cgroup").then(|| PathBuf::from(left.split(' ').nth(4).unwrap_or("/")))
    };
    mounts.lines().filter_map(cgroup).collect()
}

/// The cgroup leaves of a container, in all hierarchies.
pub fn leaves(namespace: &str, id: &str) -> Vec<PathBuf> {
    let mut leaves = Vec::new();
    for hierarchy in hierarchies() {
        let Ok(entries) = fs::read_dir(hierarchy.join(namespace).join(id)) else { continue };
        leaves.extend(entries.flatten().map(|e| e.path()).filter(|p| is_leaf(p)));
    }
    leaves
}

/// The processes in the cgroup leaves of a container.
pub fn processes(namespace: &str, id: &str) -> Vec<i32> {
    let mut pids: Vec<i32> = leaves(namespace, id)
        .iter()
        .flat_map(|leaf| {
            fs::read_to_string(leaf.join("cgroup.procs"))
                .unwrap_or_default()
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter_map(|pid| pid.parse().ok())
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

fn is_leaf(path: &Path) -> bool {
    path.is_dir() && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("urunc-"))
}
