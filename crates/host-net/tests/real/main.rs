//! The crate against the real kernel: every test in a fresh network namespace of its own, with `ip` and `tc` of
//! iproute2 to build what strangers build, and to see what they see.
//!
//! These tests need root. What cannot run says `skipped: WHY`, appended to $URUNC_TEST_SKIPS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "the whole crate is tests")]

mod filters;
mod frames;
mod ground;
mod ingress;
mod look;
mod netns;
mod tap;
