//! The detector against real leaks: each kind is leaked on this host, seen by name, cleaned, and seen to be gone.
//!
//! These tests need root. They run beside each other and beside strangers: each has a marker of its own, and every
//! leak has a guard that undoes it also when the test fails. What the host cannot do is skipped, said so and counted;
//! with `LEAKCHECK_NO_SKIP` set it is a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "the whole crate is tests")]

mod cgroup;
mod file;
mod guards;
mod holder;
mod host;
mod inside;
mod link;
mod loop_device;
mod mount;
mod netns;
mod network;
mod process;
mod strangers;
mod unix_socket;
