//! The calls against real runtimes, runc and crun, with real containers of busybox.
//!
//! They need root, and the runtimes from PATH or the cache ($URUNC_TEST_CACHE). What cannot run says `skipped: WHY`,
//! appended to $URUNC_TEST_SKIPS. Each test has its own root, bundle, cgroup and ids.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

mod console;
mod errors;
mod exec;
mod given;
mod ground;
mod hung;
mod life;
