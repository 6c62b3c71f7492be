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
