//! Signals from outside.

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
