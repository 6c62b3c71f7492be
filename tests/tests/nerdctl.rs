//! nerdctl: `nerdctl run --runtime io.containerd.urunc.v2`, and what people do with such a container.
//!
//! Each function is a test on containerd 1.6 and on 2.3. nerdctl calls itself from an OCI hook for every container, and
//! is the logger (`binary://`) of every detached one. The words behind an image replace its Cmd; its Entrypoint stays,
//! so a tiny guest says `tiny: unikernel -- WORDS`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

mod cli;

use urunc_tests::{
    direct::Proc,
    harness::{BOOT, Cgroup, Cli, Image, Job, Nerdctl, SOON, Version, on_terminal, page},
};

/// A Debian guest is ready for the power button when somebody has it open.
const READY: &str =
    "until ls -l /proc/[0-9]*/fd 2>&1 | grep -q dev/input; do :; done; echo ready; sleep 1000";

/// Makes two tests of every function.
macro_rules! tests {
    ($($test:ident;)*) => {
        mod v1_6 {
            $(
                #[test]
                fn $test() {
                    super::$test(super::Version::V1_6);
                }
            )*
        }
        mod v2_3 {
            $(
                #[test]
                fn $test() {
                    super::$test(super::Version::V2_3);
                }
            )*
        }
    };
}

tests! {
    run_prints_the_console_and_ends_with_the_guests_status;
    a_detached_container_has_logs_a_status_and_an_end;
    stop_presses_the_power_button_and_kill_does_not;
    rm_f_ends_whatever_runs;
    pause_stops_the_guests_clock_and_unpause_lets_it_go_on;
    stats_tell_memory_and_limit_and_update_changes_it;
    a_terminal_shows_the_console;
    input_without_a_terminal_reaches_the_guest;
    a_client_detaches_and_another_one_attaches;
    a_guest_on_a_bridge_is_reached;
    busybox_runs_as_under_runc;
    busybox_is_executed_in_stopped_and_removed;
    what_cannot_be_executed_is_told_by_the_status;
    what_runs_in_the_background_ends_with_busybox;
}

fn run_prints_the_console_and_ends_with_the_guests_status(version: Version) {
    Nerdctl::with(version, &[Image::Tiny, Image::Debian], |nerdctl| {
        for status in [0, 7, 127] {
            let word = format!("exit={status}");
            let done = nerdctl.run(&[], Image::Tiny, &[&word]).expect(status);
            assert_eq!(done.text(), format!("tiny: unikernel -- {word}\n"));
            nerdctl.check();
        }
        let done = nerdctl.run(&[], Image::Debian, &["echo", "hello"]).expect(0);
        assert!(done.text().lines().any(|line| line.trim_end() == "hello"), "{done}");
    });
}

fn a_detached_container_has_logs_a_status_and_an_end(version: Version) {
    Nerdctl::with(version, &[Image::Tiny], |nerdctl| {
        nerdctl.run_detached("detached", &[], Image::Tiny, &["say=hello", "sleep=1500", "exit=9"]);
        nerdctl.wait_for_logs("detached", "hello\n");
        assert_eq!(nerdctl.call(&["wait", "detached"]).expect(0).text(), "9\n");
        assert_eq!(nerdctl.wait_for_status("detached", "exited")["ExitCode"], 9);
        // It can be started again, and logs go on.
        nerdctl.call(&["start", "detached"]).expect(0);
        assert_eq!(nerdctl.call(&["wait", "detached"]).expect(0).text(), "9\n");
        let logs = nerdctl.call(&["logs", "detached"]).expect(0).text();
        assert_eq!(logs.matches("hello\n").count(), 2, "{logs}");
        nerdctl.call(&["rm", "detached"]).expect(0);
    });
}

fn stop_presses_the_power_button_and_kill_does_not(version: Version) {
    Nerdctl::with(version, &[Image::Tiny, Image::Debian], |nerdctl| {
        nerdctl.run_detached("button", &[], Image::Debian, &["sh", "-c", READY]);
        nerdctl.wait_for_logs("button", "\nready");
        Job::start(nerdctl.command(&["stop", "-t", "60", "button"])).wait(BOOT).expect(0);
        assert_eq!(nerdctl.wait_for_status("button", "exited")["ExitCode"], 143);
        nerdctl.wait_for_logs("button", "reboot: Power down");

        // A tiny guest has no button: what asks it to end ends it.
        for (verb, status) in
            [(&["stop", "-t", "60"][..], 143), (&["kill"], 137), (&["kill", "-s", "INT"], 130)]
        {
            nerdctl.run_detached("tiny", &[], Image::Tiny, &["hang"]);
            nerdctl.call(&["kill", "-s", "USR1", "tiny"]).expect(0);
            assert_eq!(nerdctl.inspect("tiny")["State"]["Status"], "running", "after SIGUSR1");
            nerdctl.call(&[verb, &["tiny"]].concat()).expect(0);
            assert_eq!(nerdctl.wait_for_status("tiny", "exited")["ExitCode"], status, "{verb:?}");
            nerdctl.call(&["rm", "tiny"]).expect(0);
        }
        nerdctl.call(&["rm", "button"]).expect(0);
    });
}

fn rm_f_ends_whatever_runs(version: Version) {
    Nerdctl::with(version, &[Image::Tiny], |nerdctl| {
        nerdctl.run_detached("running", &[], Image::Tiny, &["hang"]);
        nerdctl.create("created", &[], Image::Tiny, &[]);
        nerdctl.run_detached("ended", &[], Image::Tiny, &["exit=1"]);
        nerdctl.wait_for_status("ended", "exited");
        let monitor = Proc::of(nerdctl.pid("running"));
        nerdctl.call(&["rm", "-f", "running", "created", "ended"]).expect(0);
        assert!(!monitor.is_alive());
        nerdctl.check();
        assert_eq!(nerdctl.call(&["ps", "-aq"]).expect(0).text(), "");
    });
}

fn pause_stops_the_guests_clock_and_unpause_lets_it_go_on(version: Version) {
    Nerdctl::with(version, &[Image::Tiny], |nerdctl| {
        cli::a_guest_ticks_but_not_while_it_is_paused(nerdctl, "paused");
        // And it can be killed while it is paused.
        nerdctl.call(&["pause", "paused"]).expect(0);
        nerdctl.call(&["kill", "paused"]).expect(0);
        assert_eq!(nerdctl.wait_for_status("paused", "exited")["ExitCode"], 137);
        nerdctl.call(&["rm", "paused"]).expect(0);
    });
}

fn stats_tell_memory_and_limit_and_update_changes_it(version: Version) {
    Nerdctl::with(version, &[Image::Tiny], |nerdctl| {
        let flags = ["--memory", "64m", "--cpus", "1.5"];
        let id = nerdctl.run_detached("limited", &flags, Image::Tiny, &["fill", "hang"]);
        nerdctl.wait_for_logs("limited", " MiB)\n");
        let containerd = nerdctl.containerd();
        let plan = containerd.plan(&id);
        assert_eq!(
            (&plan["memory"]["guest_mib"], &plan["guest"]["vcpus"]),
            (&64.into(), &2.into()),
            "{plan}"
        );

        let cgroup = Cgroup::of(&containerd.namespace(), &id);
        let limit = cgroup.limit() >> 20;
        let told = nerdctl.call(&["stats", "--no-stream", "--format", "{{json .}}", "limited"]).expect(0);
        let told: serde_json::Value = serde_json::from_str(told.text().trim()).unwrap();
        let usage = told["MemUsage"].as_str().unwrap();
        assert!(usage.ends_with(&format!("/ {limit}MiB")), "{told}");
        let used: f64 = usage.split("MiB").next().unwrap().parse().unwrap();
        assert!(used >= 63.0, "the guest has filled 63 MiB: {told}");
        let pids: u32 = told["PIDs"].as_str().map_or(0, |pids| pids.parse().unwrap());
        assert!(pids > 0, "{told}");

        nerdctl.call(&["update", "--memory", "128m", "limited"]).expect(0);
        assert_eq!(cgroup.limit() >> 20, limit + 64);
        // The guest has its RAM: less than that is refused, and nothing is changed.
        let refused = nerdctl.call(&["update", "--memory", "32m", "limited"]);
        assert_ne!(refused.status, Some(0), "{refused}");
        assert_eq!(cgroup.limit() >> 20, limit + 64);
        nerdctl.call(&["rm", "-f", "limited"]).expect(0);
    });
}

fn a_terminal_shows_the_console(version: Version) {
    Nerdctl::with(version, &[Image::Tiny], |nerdctl| {
        let command = nerdctl.run_command(&["--rm", "-it"], Image::Tiny, &["say=hello", "exit=7"]);
        let done = on_terminal(&command).wait(SOON).expect(7);
        assert_eq!(done.text().replace('\r', ""), "tiny: unikernel -- say=hello exit=7\nhello\n");
    });
}

fn input_without_a_terminal_reaches_the_guest(version: Version) {
    Nerdctl::with(version, &[Image::Tiny], cli::input_without_a_terminal_reaches_the_guest);
}

fn a_client_detaches_and_another_one_attaches(version: Version) {
    Nerdctl::with(version, &[Image::Tiny], cli::a_client_detaches_and_another_one_attaches);
}

fn a_guest_on_a_bridge_is_reached(version: Version) {
    let Some(mut nerdctl) = Nerdctl::begin(version, &[Image::Debian]) else { return };
    let bridge = nerdctl.bridge();
    nerdctl.run_detached("web", &["--net", bridge.name()], Image::Debian, &["serve", "80"]);
    nerdctl.wait_for_logs("web", "guest: serving on port 80");
    let address = nerdctl.inspect("web")["NetworkSettings"]["IPAddress"].take();
    let page = page(address.as_str().unwrap().parse().unwrap());
    assert!(page.contains("hello from"), "{page}");
    nerdctl.call(&["rm", "-f", "web"]).expect(0);
    nerdctl.finish();
}

fn busybox_runs_as_under_runc(version: Version) {
    Nerdctl::with(version, &[Image::Busybox], cli::busybox_runs_as_under_runc);
}

fn busybox_is_executed_in_stopped_and_removed(version: Version) {
    Nerdctl::with(version, &[Image::Busybox], cli::busybox_is_executed_in_stopped_and_removed);
}

fn what_cannot_be_executed_is_told_by_the_status(version: Version) {
    Nerdctl::with(version, &[Image::Busybox], |cli| {
        // nerdctl's own status is 1 for whatever was not made, under runc's shim, too.
        cli::what_cannot_be_executed_is_told_by_the_status(cli, [1, 1]);
    });
}

fn what_runs_in_the_background_ends_with_busybox(version: Version) {
    Nerdctl::with(version, &[Image::Busybox], cli::what_runs_in_the_background_ends_with_busybox);
}
