//! A client that goes away in the middle.

use std::{thread::sleep, time::Duration};

use urunc_tests::{
    direct::eventually,
    harness::{Image, Job, Test, Version, tiny},
};

/// A containerd that gives up on a `start` which has just succeeded tells nobody: that daemon leaves by itself when it
/// was idle for 60 s.
const IDLE: Duration = Duration::from_secs(90);

/// `ctr run` is killed at many moments of Create. Whatever containerd makes of it, nothing is left, and the id can be
/// used again.
pub fn a_client_that_goes_away_in_the_middle_of_create_leaves_nothing(version: Version) {
    let Some(test) = Test::begin(version, &[Image::Tiny]) else { return };
    let containerd = test.containerd();
    let mut in_create = 0;
    for round in 0..60u64 {
        if round >= 20 && in_create >= 3 {
            break;
        }
        let job = Job::start(containerd.run_command(&["-d"], Image::Tiny.name(), "c", &tiny(&["hang"])));
        // Half of the moments are counted from ctr's start, half from the moment when the shim's Create has begun.
        let later = if round % 2 == 0 {
            round % 20 * 3
        } else {
            eventually("Create begins", || containerd.run_directory("c").exists() || !job.is_running());
            round % 20 / 2
        };
        sleep(Duration::from_millis(later));
        in_create += u32::from(containerd.state("c").as_deref() == Some("creating"));
        job.kill();

        // containerd may go on for a moment, and the container may be made after all: then it is deleted like any
        // other.
        eventually("the id is free", || {
            containerd.forget("c");
            containerd.has_forgotten("c")
        });
        if round % 5 == 4 {
            containerd.run(Image::Tiny, "c", &tiny(&["exit=6"])).expect(6);
        }
    }
    assert!(in_create >= 3, "only {in_create} of 60 clients went away in the middle of Create");
    test.finish_within(IDLE);
}
