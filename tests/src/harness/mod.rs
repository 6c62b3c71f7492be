//! Drives a real containerd with our shim, by `ctr` alone: what a person at a shell sees.
//!
//! A test makes a [`Test`] (a scratch folder, a containerd namespace that nobody else has, one containerd or more),
//! runs containers, and ends with [`Test::finish`], which compares the host with what it was before and fails if
//! anything was left behind. A test that fails prints the end of containerd's log, which has the shim's lines in it,
//! and everything it started is taken down; what a test leaves that was killed itself, the next one takes down.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

mod cgroup;
mod cli;
mod containerd;
mod cri;
mod ctr;
mod docker;
mod env;
mod events;
mod job;
mod kit;
mod nerdctl;
mod record;
mod scratch;
mod test;
mod watch;
mod web;

pub use cgroup::Cgroup;
pub use cli::Cli;
pub use containerd::{Containerd, Version};
pub use cri::{
    Container, Exit, Handler, Line, Member, Network, Node, Parent, Pod, Sandbox, Scene, Setup, Share, within,
};
pub use ctr::Task;
pub use docker::{Debian, Docker};
pub use events::{Event, Events};
pub use job::{Done, Job, on_terminal};
pub use kit::{Image, tiny};
pub use nerdctl::Nerdctl;
pub use test::Test;
pub use watch::Watch;
pub use web::page;

use std::time::Duration;

/// How long anything may take that takes no time on a quiet machine.
pub const SOON: Duration = Duration::from_secs(20);
/// How long a Debian guest may take from `ctr run` to its end: 5 s on a quiet machine without hardware
/// virtualization.
pub const BOOT: Duration = Duration::from_secs(120);
