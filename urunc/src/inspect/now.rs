//! What is true of a container now, whatever its record says.

use std::{fs, path::PathBuf};

use runtime_core::{
    Error,
    layout::Layout,
    owner,
    record::{BundleId, Record, RunDir},
};
use serde::Serialize;

/// Its process, as the kernel knows it now.
#[derive(Serialize)]
pub struct Process {
    /// The recorded pid, 0: none.
    pid: u32,
    /// Whether the process of that pid is the recorded one: by boot, pid and start time.
    identity: &'static str,
    /// The program that it runs.
    program: Option<PathBuf>,
}

impl Process {
    /// In one line.
    pub fn text(&self) -> String {
        if self.pid == 0 {
            return self.identity.to_owned();
        }
        let program = self.program.as_ref().map(|p| format!(", runs {}", p.display())).unwrap_or_default();
        format!("{}: {}{program}", self.pid, self.identity)
    }
}

/// Looks at the process.
pub fn process(record: Option<&Record>) -> Process {
    let none = |identity| Process { pid: 0, identity, program: None };
    let Some(record) = record else { return none("not known") };
    let Some(id) = &record.process else { return none("none was made") };
    let pid = record.pid();
    // Opened first and looked at then: the number cannot become another's meanwhile.
    match id.open() {
        Ok(Some(_process)) => {
            let program = fs::read_link(format!("/proc/{pid}/exe")).ok();
            Process { pid, identity: "alive, and the recorded one", program }
        }
        Ok(None) => Process { pid, identity: "dead", program: None },
        Err(proc_id::Error::NotAProcess { .. }) => {
            Process { pid, identity: "not one that can be ours", program: None }
        }
        Err(_) => Process { pid, identity: "cannot be looked at", program: None },
    }
}

/// Whether its daemon lives; of a record that cannot be read, by its markers.
pub fn daemon(layout: &Layout, dir: &RunDir, record: Option<&Record>) -> Result<bool, Error> {
    let owners = match record {
        Some(record) => vec![record.owner.clone()],
        None => dir.owners()?,
    };
    for owner in owners {
        if runtime_core::layout::is_instance(&owner) && owner::is_alive(layout, &owner)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Something that the transaction made, or depends on.
#[derive(Serialize)]
pub struct Resource {
    what: &'static str,
    name: String,
    present: bool,
}

impl Resource {
    /// In one line.
    pub fn text(&self) -> String {
        let presence = if self.present { "present" } else { "missing" };
        format!("{} {presence}: {}", self.what, self.name)
    }
}

/// Looks for what the record names.
pub fn resources(record: &Record) -> Vec<Resource> {
    let bundle = BundleId::of(&record.bundle_path).ok().flatten();
    let mut resources = vec![Resource {
        what: "bundle",
        name: record.bundle_path.display().to_string(),
        // Another one at the same path is not it.
        present: bundle.as_ref() == Some(&record.bundle),
    }];
    for leaf in record.cgroup.iter().flat_map(|plan| &plan.hierarchies) {
        let dir = leaf.leaf_dir();
        resources.push(Resource { what: "cgroup", present: dir.is_dir(), name: dir.display().to_string() });
    }
    if let Some(network) = &record.network {
        let launcher = record.process.iter().map(|p| PathBuf::from(format!("/proc/{}/ns/net", p.pid)));
        let hints: Vec<PathBuf> = launcher.chain(network.paths.iter().cloned()).collect();
        resources.push(Resource {
            what: "network namespace",
            name: format!("net:[{}], interface {}", network.netns.ino, network.index),
            present: host_net::find(network.netns, &hints).is_ok_and(|found| found.is_some()),
        });
    }
    resources
}
