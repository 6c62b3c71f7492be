//! The fault matrix: every step, every point of it, every fault, every kind of undo, every way to go on.
//!
//! Which steps and points there are is found by running each verb once with tracing fault points ([`Plan::find`]), so a
//! step that is new is covered without a change here. Each [`Case`] then has its fault made to happen in a bench of its
//! own, does what containerd would do next, and ends as every test of a bench: nothing is left, nobody was touched, and
//! the same id can be created and run. A case has a name by which just it can be repeated.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

mod case;
mod plan;
mod run;
mod sweep;
mod verb;

pub use case::{Case, Fault, Next, Undo};
pub use plan::{Plan, Point};
pub use sweep::{Choice, sweep};
pub use verb::Verb;
