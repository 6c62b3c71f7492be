//! The plan of a leaf: which directories will be made, decided before any of them is.
//!
//! Drawing a plan looks at the host and changes nothing. A plan is a plain value; the caller writes it to its journal
//! first, so that after a crash the plan alone tells what to take back.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::files::{Files, is_absent};
use crate::{CgroupsPath, Error, Hierarchies, Hierarchy, LeafName, Limits, Version};

/// The v1 hierarchies that are always used: limits, accounting and OOM. Others only when a limit asks for them: each
/// costs a directory, and an attach that can take milliseconds.
const ALWAYS: [&str; 4] = ["memory", "cpu", "cpuacct", "pids"];
/// Where one tree has all, this costs nothing more: what goes to block devices is counted.
const ON_V2: &str = "io";

/// One leaf, in each of the hierarchies that are used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafPlan {
    /// Never empty when it comes from [`LeafPlan::new`].
    pub hierarchies: Vec<LeafIn>,
}

/// The leaf in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafIn {
    /// Where the hierarchy is mounted.
    pub mount: PathBuf,
    /// Which interface it speaks.
    pub version: Version,
    /// v1: all of the hierarchy's. v2: those to be enabled down to the leaf.
    pub controllers: Vec<String>,
    /// The caller's path, which gets the limits.
    pub path: CgroupsPath,
    /// The directory below it that holds our processes.
    pub leaf: LeafName,
    /// `path` and the paths above it that did not exist, outermost first. These, and no others, are ours to remove.
    pub to_make: Vec<CgroupsPath>,
}

impl LeafPlan {
    /// Plans the leaf `urunc-<txid>` below `path`.
    ///
    /// Refuses a path that holds the calling process in one of the hierarchies, limits that make no sense, and
    /// limits for which no controller is mounted.
    pub fn new(
        files: &dyn Files,
        hierarchies: &Hierarchies,
        path: &CgroupsPath,
        txid: &str,
        limits: &Limits,
    ) -> Result<Self, Error> {
        limits.check()?;
        let leaf = LeafName::of(txid)?;
        let own_cgroups = hierarchies.own_cgroups()?;
        let limited = limits.controllers();
        let wanted = |c: &str| ALWAYS.contains(&c) || limited.iter().any(|(name, _)| *name == c);
        let mut plan = Self { hierarchies: Vec::new() };
        for hierarchy in hierarchies.iter() {
            let Some(controllers) = used(hierarchy, wanted) else { continue };
            if let Some(own) = hierarchy.own_cgroup_in(path, &own_cgroups) {
                let (path, mount) = (path.to_string(), hierarchy.mount.clone());
                return Err(Error::OwnCgroup { path, own, mount });
            }
            plan.hierarchies.push(LeafIn {
                mount: hierarchy.mount.clone(),
                version: hierarchy.version,
                controllers,
                path: path.clone(),
                leaf: leaf.clone(),
                to_make: missing(files, hierarchy, path)?,
            });
        }
        if plan.hierarchies.is_empty() {
            return Err(Error::NoHierarchy);
        }
        plan.serves(limits)?;
        Ok(plan)
    }

    /// Refuses limits for which the plan has no controller.
    pub(crate) fn serves(&self, limits: &Limits) -> Result<(), Error> {
        for (controller, version) in limits.controllers() {
            if !self.hierarchies.iter().any(|h| h.has(controller) && version.is_none_or(|v| v == h.version)) {
                return Err(Error::NoController { controller: controller.to_owned(), version });
            }
        }
        Ok(())
    }

    /// What of it is ours.
    pub(crate) fn ours(&self) -> Vec<Ours> {
        self.hierarchies.iter().map(LeafIn::ours).collect()
    }

    /// Where memory is accounted, if it is.
    pub(crate) fn memory(&self) -> Option<&LeafIn> {
        self.hierarchies.iter().find(|h| h.has("memory"))
    }
}

impl LeafIn {
    /// The directory of the caller's path.
    pub fn dir(&self) -> PathBuf {
        self.dir_of(&self.path)
    }

    /// The directory of the leaf.
    pub fn leaf_dir(&self) -> PathBuf {
        self.dir().join(self.leaf.as_str())
    }

    /// The directory of any path in this hierarchy.
    pub(crate) fn dir_of(&self, path: &CgroupsPath) -> PathBuf {
        self.mount.join(path.relative())
    }

    /// What of it is ours.
    pub(crate) fn ours(&self) -> Ours {
        Ours {
            dir: self.leaf_dir(),
            version: self.version,
            parents: self.to_make.iter().map(|path| self.dir_of(path)).collect(),
        }
    }

    pub(crate) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }
}

/// What is ours in one hierarchy: the directory in which every process is killed, and which is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ours {
    /// The directory.
    pub dir: PathBuf,
    /// Which interface its hierarchy speaks.
    pub version: Version,
    /// The directories above it that did not exist before, outermost first.
    pub parents: Vec<PathBuf>,
}

/// The controllers to be named in the plan; `None` if the hierarchy is of no use. The v2 tree always is, even without
/// controllers: it has `cgroup.kill`.
fn used(hierarchy: &Hierarchy, wanted: impl Fn(&str) -> bool) -> Option<Vec<String>> {
    let all = &hierarchy.controllers;
    match hierarchy.version {
        Version::V1 => all.iter().any(|c| wanted(c)).then(|| all.clone()),
        Version::V2 => Some(all.iter().filter(|c| wanted(c) || *c == ON_V2).cloned().collect()),
    }
}

/// Looks from the bottom up, because usually only the last component is missing.
pub(crate) fn missing(
    files: &dyn Files,
    hierarchy: &Hierarchy,
    path: &CgroupsPath,
) -> Result<Vec<CgroupsPath>, Error> {
    let mut missing = Vec::new();
    for prefix in path.prefixes().rev() {
        let dir = hierarchy.mount.join(prefix.relative());
        match files.identity(&dir) {
            Ok(_) => break,
            Err(e) if is_absent(e) => missing.push(prefix),
            Err(e) => return Err(Error::io("looking at", dir)(e)),
        }
    }
    missing.reverse();
    Ok(missing)
}
