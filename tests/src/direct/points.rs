//! The fault points that a shim passes, found by running it once.

use std::collections::HashMap;

use super::{Bench, Bundle, Client, Fired, Spec};

/// A point with the number of its passage in its process.
pub type Point = (String, usize);

/// What a daemon passes from its beginning to the end of `verbs`, and what its launcher passes.
#[derive(Debug)]
pub struct Passed {
    /// The daemon's.
    pub daemon: Vec<Point>,
    /// Its launcher's.
    pub launcher: Vec<Point>,
}

/// Runs `before` and then `verbs` with a container and tells which points are passed in `verbs`.
pub fn dry_run(
    bench: &Bench,
    spec: &Spec,
    before: impl Fn(&Client, &Bundle),
    verbs: impl Fn(&Client, &Bundle),
) -> Passed {
    bench.faults.set(&["*=trace"]);
    let bundle = bench.bundle("dry", spec).without_stdio();
    let shim = bench.start(&bundle);
    before(&shim.client, &bundle);
    let skip = bench.faults.fired().len();
    verbs(&shim.client, &bundle);
    let fired = bench.faults.fired();
    bench.faults.set(&[]);
    bench.end(&shim, bundle);
    let mut passages: HashMap<(i32, String), usize> = HashMap::new();
    let (mut daemon, mut launcher) = (vec![], vec![]);
    for (n, Fired { name, pid, .. }) in fired.into_iter().enumerate() {
        let passage = passages.entry((pid, name.clone())).or_default();
        *passage += 1;
        // A launcher in a pid namespace of its own believes to be number 1, or 0 on its way there.
        let list = if pid == shim.daemon.pid() { &mut daemon } else { &mut launcher };
        if n >= skip {
            list.push((name, *passage));
        }
    }
    Passed { daemon, launcher }
}
