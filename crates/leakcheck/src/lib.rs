//! The leak detector: a snapshot of the host before, one after, and the difference as a table and as JSON. It ends
//! every end-to-end test and every demo, and is the operator's `urunc leakcheck`.
//!
//! ```
//! use leakcheck::{Scope, Snapshot, settle};
//! use std::time::Duration;
//!
//! let scope = Scope::new().marker("/tmp/my-scratch-folder-4711").root("/run/urunc/0123456789ab");
//! let before = Snapshot::take(&scope);
//! // ... run containers ...
//! let leaks = settle(&before, &scope, Duration::from_secs(2));
//! assert!(leaks.is_clean(), "{}", leaks.table());
//! ```
//!
//! What is looked at, and what of it is a leak, is said by [`Kind`], by [`Scope`], and by the first lines of each file in
//! `kinds`. A process is ours by a mark in its arguments, environment, cgroup, program or working directory, or because it
//! descends from one that is. Whoever else has something of ours open is a *holder*: it is named, but what it has of its
//! own is none of ours.
//!
//! The inside of one process, a daemon after many containers, is compared in the same way:
//!
//! ```
//! # use leakcheck::{Scope, Snapshot, settle};
//! # use std::time::Duration;
//! # let daemon = std::process::id() as i32;
//! let scope = Scope::new().only_marked().inside(daemon);
//! let before = Snapshot::take(&scope); // once it is quiet
//! // ... containers come and go ...
//! let leaks = settle(&before, &scope, Duration::from_secs(2)); // fds, threads, zombies
//! # assert!(leaks.is_clean(), "{}", leaks.table());
//! ```
//!
//! It owns nothing and changes nothing: it reads `/proc`, `/sys`, the cgroup trees and the run directories, and asks
//! netlink in each network namespace from a thread of its own. It knows the names of our things, but uses none of our
//! other libraries: a detector that shared their code would share their blind spots.
//!
//! When something cannot be read, the snapshot goes on and the difference says so; `is_clean` is then false. What
//! vanishes between being listed and being read is no failure.

mod entry;
mod error;
mod host;
mod kinds;
mod leaks;
mod ours;
mod scope;
mod snapshot;

pub use entry::{Entry, Kind, Unreadable};
pub use error::Error;
pub use leaks::Leaks;
pub use scope::Scope;
pub use snapshot::{Snapshot, settle};
