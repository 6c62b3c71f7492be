//! Reading what the kernel counts: memory limits, OOM kills, and the room that a parent's limit leaves.
//!
//! It changes nothing. A cgroup that is not there has no limit and no count.

use std::path::Path;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::files::{Files, is_absent};
use crate::{Error, LeafPlan, Version};

/// From here on a v1 limit means "none": the kernel shows the largest multiple of a page.
pub(crate) const V1_UNLIMITED: u64 = 1 << 62;

/// What the nearest limited ancestor leaves for one of its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentRoom {
    /// The ancestor's memory limit in bytes.
    pub limit: u64,
    /// The memory limits of its other children together, in bytes; a child without a limit counts 0.
    pub others: u64,
}

impl ParentRoom {
    /// What is left, in bytes.
    pub fn bytes(self) -> u64 {
        self.limit.saturating_sub(self.others)
    }
}

/// The memory limit of the caller's path in bytes; `None`: no limit, no such cgroup, or no memory controller.
pub fn memory_limit(files: &dyn Files, plan: &LeafPlan) -> Result<Option<u64>, Error> {
    plan.memory().map_or(Ok(None), |h| limit_of(files, h.version, &h.dir()))
}

/// How many processes of the leaf the kernel has killed for want of memory; `None` where it does not count them
/// for this leaf.
pub fn oom_kills(files: &dyn Files, plan: &LeafPlan) -> Result<Option<u64>, Error> {
    plan.memory().map_or(Ok(None), |h| oom_kills_in(files, h.version, &h.leaf_dir()))
}

/// The same for any directory of a hierarchy that accounts memory.
pub(crate) fn oom_kills_in(files: &dyn Files, version: Version, dir: &Path) -> Result<Option<u64>, Error> {
    let file = dir.join(match version {
        Version::V1 => "memory.oom_control",
        Version::V2 => "memory.events",
    });
    let Some(text) = absent_is_none(files.read(&file)).map_err(Error::io("reading", &file))? else {
        return Ok(None);
    };
    let Some(count) = text.lines().find_map(|line| line.strip_prefix("oom_kill ")) else { return Ok(None) };
    count.trim().parse().map(Some).map_err(|_| Error::Content { file, text })
}

/// The room that is left below the nearest ancestor of the caller's path that has a memory limit; `None` where no
/// ancestor has one. Neither the path nor its ancestors need to exist.
pub fn parent_room(files: &dyn Files, plan: &LeafPlan) -> Result<Option<ParentRoom>, Error> {
    let Some(h) = plan.memory() else { return Ok(None) };
    let on_the_way: Vec<_> = h.path.prefixes().map(|p| h.dir_of(&p)).collect();
    // The mount point itself counts: inside a container it is no root and may be limited.
    let ancestors = [h.mount.clone()].into_iter().chain(on_the_way.iter().cloned());
    for (ancestor, ours) in ancestors.zip(&on_the_way).collect::<Vec<_>>().into_iter().rev() {
        let Some(limit) = limit_of(files, h.version, &ancestor)? else { continue };
        let children = absent_is_none(files.subdirs(&ancestor)).map_err(Error::io("listing", &ancestor))?;
        let mut others = 0u64;
        for child in children.unwrap_or_default().iter().filter(|child| *child != ours) {
            others = others.saturating_add(limit_of(files, h.version, child)?.unwrap_or(0));
        }
        return Ok(Some(ParentRoom { limit, others }));
    }
    Ok(None)
}

pub(crate) fn limit_of(files: &dyn Files, version: Version, dir: &Path) -> Result<Option<u64>, Error> {
    let file = dir.join(match version {
        Version::V1 => "memory.limit_in_bytes",
        Version::V2 => "memory.max",
    });
    let text = match absent_is_none(files.read(&file)).map_err(Error::io("reading", &file))? {
        Some(text) => text,
        None => return Ok(None),
    };
    match text.trim() {
        "max" => Ok(None),
        number => match number.parse::<u64>() {
            Ok(n) if n < V1_UNLIMITED => Ok(Some(n)),
            Ok(_) => Ok(None),
            Err(_) => Err(Error::Content { file, text }),
        },
    }
}

fn absent_is_none<T>(answer: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match answer {
        Err(e) if is_absent(e) => Ok(None),
        outcome => outcome.map(Some),
    }
}
