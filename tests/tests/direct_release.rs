//! What is released has no fault points.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::fs;

use urunc_tests::direct::{shim, shim_with_faults};

#[test]
fn a_release_has_no_fault_points() {
    let has = |binary: &[u8], text: &str| binary.windows(text.len()).any(|w| w == text.as_bytes());
    let (released, faulty) = (fs::read(shim()).unwrap(), fs::read(shim_with_faults()).unwrap());
    for text in [
        "URUNC_FAULTS",
        "record.write",
        "record.torn",
        "record.rename",
        "before-intent",
        "after-acting",
        "launcher.spawned",
        "launcher.joined",
        "plan.made",
        "commit.before",
        "image.initrd",
        "start.answer",
        "leave.decided",
        "deadline.create",
        "deadline.retry",
    ] {
        assert!(!has(&released, text), "the released shim holds {text:?}");
        // Else this looks for the wrong thing.
        assert!(has(&faulty, text), "the shim with fault points does not hold {text:?}");
    }
}
