//! The verbs, one per file. Each blocks; each is an inherent method of [`crate::Runtime`].

pub(crate) mod create;
mod delete;
mod exit;
mod kill;
mod ordinary;
mod pause;
mod pids;
mod start;
mod stats;
mod update;
