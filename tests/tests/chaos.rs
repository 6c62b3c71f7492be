//! Random kills in random lives, against both containerds: see `urunc_tests::chaos`. CI runs 100 cycles; `make chaos`
//! as many as one likes, and containerd's runc shim to compare with.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use urunc_tests::chaos::{Options, run};

#[test]
fn random_kills_leave_nothing() {
    let options = Options::from_env();
    let Some(report) = run(&options) else { return };
    println!("{report}");
    if let Some(path) = &options.json {
        report.write(path).unwrap();
    }
    let (hits, cycles) = report.hits();
    assert_eq!(report.failed(), 0, "of {cycles} cycles failed; seed {}", options.seed);
    // A kill that never hits shows nothing.
    assert!(cycles < 20 || hits * 2 >= cycles, "only {hits} of {cycles} kills hit anybody");
}
