//! What the journal costs: the wall time of every record that one Create writes, locks and checksums included, as the
//! shim itself says in its log. On a tmpfs, which is what /run is, and on the disk. `make bench-journal` prints it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::path::Path;

use urunc_tests::direct::{Bench, Spec, eventually, shim, skip};

/// How many Creates are measured; `make bench-journal` measures more.
const ROUNDS: &str = "URUNC_TEST_JOURNAL";

/// How many more a busy machine gets until one is within the goal.
const CHANCES: usize = 30;

/// What a Create writes, in this order: the intents of both steps, who the launcher is; the plan; the commit.
const WRITES: [&str; 5] = ["record.json", "record.json", "record.json", "plan.json", "record.json"];

/// What they may cost on a tmpfs, in microseconds.
const GOAL: u64 = 500;

/// The writes of one Create: what was written, and how many microseconds that took.
fn writes(log: &str) -> Vec<(String, u64)> {
    let field = |line: &str, name: &str| {
        let rest = line.split_once(&format!("{name}="))?.1;
        Some(rest.split([' ', '\n']).next()?.trim_matches('"').to_owned())
    };
    let line = |line: &str| Some((field(line, "file")?, field(line, "us")?.parse().ok()?));
    log.lines().filter(|l| l.contains("written")).filter_map(line).collect()
}

#[test]
fn all_writes_of_one_create() {
    let rounds: usize = std::env::var(ROUNDS).map_or(3, |n| n.parse().expect("a number of Creates"));
    for (kind, folder) in [("tmpfs", "/dev/shm"), ("disk", env!("CARGO_TARGET_TMPDIR"))] {
        if !Path::new(folder).is_dir() {
            skip(&format!("there is no {folder}"));
            continue;
        }
        let Some(mut bench) = Bench::released() else { return };
        let root = tempfile::Builder::new().prefix("urunc-journal-").tempdir_in(folder).unwrap();
        bench.set_variable("URUNC_ROOT", root.path().to_str().unwrap());
        // The quickest: what a busy machine adds is not ours. Nor is what a build for debugging does.
        let is_release = !shim().parent().is_some_and(|folder| folder.ends_with("debug"));
        let is_within = |sums: &[u64]| !is_release || kind != "tmpfs" || sums.iter().any(|us| *us <= GOAL);
        let mut sums = vec![];
        for round in 0..rounds + CHANCES {
            if round >= rounds && is_within(&sums) {
                break;
            }
            let bundle = bench.bundle("c1", &Spec::tiny("hang")).without_stdio();
            let shim = bench.start(&bundle);
            shim.client.create(&bundle).unwrap();
            // The rest of the log is on its way.
            eventually("Create's writes are logged", || writes(&bundle.log()).len() >= WRITES.len());
            let written = writes(&bundle.log());
            assert_eq!(written.iter().map(|(file, _)| file.as_str()).collect::<Vec<_>>(), WRITES);
            sums.push(written.iter().map(|(_, us)| us).sum::<u64>());
            if round == 0 {
                eprintln!("journal of one Create on {kind}: {} writes: {written:?}", written.len());
            }
            bench.end(&shim, bundle);
        }
        sums.sort_unstable();
        let (p50, most) = (sums[sums.len() / 2], sums[sums.len() - 1]);
        assert!(is_within(&sums), "{sums:?} us are more than {GOAL} us");
        eprintln!("journal of one Create on {kind}: p50 {p50} us, most {most} us of {}", sums.len());
        bench.finish();
    }
}
