//! Drives the shim binary directly, playing containerd: `start` and `delete` are executed as containerd executes them,
//! the Task service is called as containerd calls it, events are taken by a server of our own. No containerd is
//! needed, so it is fast, and every moment can be chosen.
//!
//! A test makes a [`Bench`] (a containerd of its own: scratch folder, namespace, address, events server), makes
//! bundles, starts shims, and ends with [`Bench::finish`], which compares the host with what it was before and fails
//! if anything was left behind. When a test fails, what the daemons logged is printed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

mod action;
mod bench;
mod bundle;
mod canary;
mod client;
mod double;
mod env;
mod events;
mod faults;
mod fifo;
mod odd;
mod opened;
mod ordinary;
mod output;
mod pod_network;
mod points;
mod process;
mod random;
mod record;
mod runtime;
mod small;
mod snapshot;
mod spec;
mod stranger;
mod survivor;

pub use action::{Exited, Ran};
pub use bench::{Bench, Shim, leaks_found};
pub use bundle::Bundle;
pub use canary::Canaries;
pub use client::{Client, Failure, Pending, TASK};
pub use double::{Spy, double, hanging, hangs, killed_after, killed_when, was_reached};
pub use env::{cache, shim, shim_with_faults, skip, urunc};
pub use events::{Event, Events, Mode};
pub use faults::{Faults, Fired};
pub use fifo::Reader;
pub use odd::{Busy, Odd};
pub use opened::Opened;
pub use ordinary::{A_WHILE, Executed, busybox_image, process, runc};
pub use output::{assert_same, lines, much, much_input};
pub use pod_network::PodNetwork;
pub use points::{Passed, Point, dry_run};
pub use process::Proc;
pub use random::Random;
pub use record::{check_record, hierarchies, leaves, seal, unseal};
pub use small::Small;
pub use snapshot::{masked, snapshot};
pub use spec::Spec;
pub use stranger::Stranger;
pub use survivor::Survivor;

use std::time::{Duration, Instant};

/// How many times longer than on this kind of machine everything may take: one digit, `URUNC_TEST_PATIENCE` at the time
/// of building. It is for a guest in software.
pub(crate) const PATIENCE: u64 = match option_env!("URUNC_TEST_PATIENCE") {
    Some(digit) => (digit.as_bytes()[0] - b'0') as u64,
    None => 1,
};
/// How long a condition may take that holds at once on a quiet machine.
pub const SOON: Duration = Duration::from_secs(10 * PATIENCE);

/// Waits until `condition` holds; fails after [`SOON`] with what was waited for.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {SOON:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until there is something; fails after [`SOON`] with what was waited for.
#[track_caller]
pub fn eventually_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    eventually(what, || {
        found = look();
        found.is_some()
    });
    found.unwrap()
}
