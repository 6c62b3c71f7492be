//! A narrow layer over the kernel's cgroup file systems: v1, v2 and hosts that have both (hybrid).
//!
//! What for: to give a group of processes a *leaf* of its own, `urunc-<txid>`, below a path that belongs to
//! somebody else, in every hierarchy that matters; to put limits on that path; to kill exactly what is in the leaf;
//! and to take back exactly what was made.
//!
//! The order of use: [`Hierarchies::detect`] once, [`CgroupsPath::parse`], [`LeafPlan::new`] (looks, makes nothing;
//! the plan is written to a journal), [`create`] (its fds let a process put *itself* into the leaf), [`kill`],
//! [`remove`], [`probe`].
//!
//! Where an OCI runtime makes the path itself, there is a [`WholePlan`] instead: whoever is below a path that did not
//! exist before can be ended and removed with it.
//!
//! What it owns: the leaf directories, and those parents of the leaf that did not exist when the plan was drawn.
//! Of everything else it owns nothing: it is read, limited if asked, never removed, and signalled
//! only where the caller says of each process that it is meant.
//!
//! When it fails: every failure is an [`Error`] with the file it speaks of. [`remove`] undoes any part of [`create`],
//! also after a crash, from the plan alone, as often as wanted.

mod create;
mod detect;
mod error;
mod files;
mod kill;
mod limits;
mod notes;
mod oom;
mod path;
mod plan;
mod remove;
mod stats;
mod usage;
mod values;
mod wait;
mod whole;

pub use create::create;
pub use detect::{Hierarchies, Hierarchy, Version};
pub use error::{Error, PathFault};
pub use files::{DirId, Files, Kernel};
pub use kill::{kill, procs};
pub use limits::set_limits;
pub use notes::Notes;
pub use oom::OomWatch;
pub use path::{CgroupsPath, LeafName};
pub use plan::{LeafIn, LeafPlan};
pub use remove::{Presence, probe, remove};
pub use stats::{
    Counter, CpuStats, DeviceIo, IoStats, MemoryStats, PidsStats, Pressure, Stall, Stats, stats,
    stats_of_whole,
};
pub use usage::{ParentRoom, memory_limit, oom_kills, parent_room};
pub use values::{Amount, CpuQuota, Extra, Limits, MemoryLimit};
pub use whole::{WholeIn, WholePlan};
