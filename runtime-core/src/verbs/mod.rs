//! The verbs, one per file. Each blocks; each is an inherent method of [`crate::Runtime`].

mod create;
mod delete;
mod exit;
mod kill;
mod pause;
mod pids;
mod start;
mod stats;
mod update;
