//! Signals from outside, and ends of the guest's own.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use urunc_tests::harness::{BOOT, Image, SOON, Test, Version, tiny};

/// A guest without a power button is ended by what asks a process to end; other signals do nothing.
pub fn the_status_is_128_and_the_signal(version: Version) {
    Test::with(version, &[Image::Tiny], |containerd| {
        for (signal, status) in [("SIGKILL", 137), ("SIGTERM", 143), ("SIGINT", 130)] {
            let job = containerd.spawn(Image::Tiny, "killed", &tiny(&["hang"]));
            job.wait_for("hang\n", SOON);
            containerd.wait_for_status("killed", "RUNNING");
            containerd.kill("killed", "SIGUSR1");
            assert_eq!(
                containerd.task("killed").map(|t| t.status).as_deref(),
                Some("RUNNING"),
                "after SIGUSR1"
            );
            containerd.kill("killed", signal);
            job.wait(SOON).expect(status);
        }
    });
}

/// A guest that switches itself off counts as successful although nothing has shown that: it is marked.
pub fn a_power_off_is_unproven(version: Version) {
    Test::with(version, &[Image::Debian], |containerd| {
        containerd.run_detached(Image::Debian, "off", &["/init", "sh", "-c", "exit 3"]);
        let deadline = Instant::now() + BOOT;
        while containerd.task("off").is_some_and(|task| task.status != "STOPPED") {
            assert!(Instant::now() < deadline, "it does not switch itself off");
            thread::sleep(Duration::from_millis(50));
        }
        let told = containerd.urunc(&["inspect", "off", "--json"]).expect(0).text();
        let exit = serde_json::from_str::<Value>(&told).unwrap()["exit"].take();
        let seen = (&exit["status"], &exit["reason"], &exit["unproven"]);
        assert_eq!(seen, (&0.into(), &"power-off".into(), &true.into()), "{told}");
        let table = containerd.urunc(&["inspect", "off"]).expect(0).text();
        assert!(table.contains("unproven true"), "{table}");
        assert_eq!(containerd.delete("off"), 0);
    });
}

/// A Debian guest hears the power button and powers off by itself.
pub fn term_presses_the_power_button_of_a_debian_guest(version: Version) {
    // The guest is ready when somebody has the button open.
    const READY: &str =
        "until ls -l /proc/[0-9]*/fd 2>&1 | grep -q dev/input; do :; done; echo ready; sleep 1000";
    Test::with(version, &[Image::Debian], |containerd| {
        let job = containerd.spawn(Image::Debian, "button", &["/init", "sh", "-c", READY]);
        job.wait_for("\nready", BOOT);
        containerd.kill("button", "SIGTERM");
        job.wait_for("guest: power button", SOON);
        let done = job.wait(SOON).expect(143);
        assert!(done.text().contains("reboot: Power down"), "{done}");
    });
}
