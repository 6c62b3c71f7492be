//! Docker, the real one: `docker run --runtime io.containerd.urunc.v2`, and what people do with such a container.
//!
//! Each function is a test with the Docker of Debian 12 on containerd 1.6, and with that of Debian 13 on containerd 2.3:
//! the older one fills a container's network from a hook. The words behind an image replace its Cmd; its Entrypoint
//! stays, so a tiny guest says `tiny: unikernel -- WORDS`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

mod cli;

use serde_json::Value;
use urunc_tests::{
    direct::Proc,
    harness::{BOOT, Cgroup, Cli, Debian, Docker, Image, Job, SOON, Version, on_terminal, page},
};

/// A Debian guest is ready for the power button when somebody has it open.
const READY: &str =
    "until ls -l /proc/[0-9]*/fd 2>&1 | grep -q dev/input; do :; done; echo ready; sleep 1000";

/// Makes two tests of every function.
macro_rules! tests {
    ($($test:ident;)*) => {
        mod debian_12 {
            $(
                #[test]
                fn $test() {
                    super::$test(super::Debian::Twelve, super::Version::V1_6);
                }
            )*
        }
        mod debian_13 {
            $(
                #[test]
                fn $test() {
                    super::$test(super::Debian::Thirteen, super::Version::V2_3);
                }
            )*
        }
    };
}

tests! {
    run_rm_prints_the_console_ends_with_the_guests_status_and_leaves_no_shim;
    a_detached_container_has_logs_a_status_and_an_end;
    stop_presses_the_power_button_and_kill_does_not;
    rm_f_ends_whatever_runs;
    events_tell_a_life_in_order;
    a_guest_outlives_a_restart_of_dockerd;
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

fn run_rm_prints_the_console_ends_with_the_guests_status_and_leaves_no_shim(
    debian: Debian,
    version: Version,
) {
    Docker::with(debian, version, &[Image::Tiny, Image::Debian], |docker| {
        for status in [0, 7, 127] {
            let word = format!("exit={status}");
            let done = docker.run(&[], Image::Tiny, &[&word]).expect(status);
            assert_eq!(done.text(), format!("tiny: unikernel -- {word}\n"));
            // Also the shim is gone: it is a process with a marker.
            docker.check();
        }
        let done = docker.run(&[], Image::Debian, &["echo", "hello"]).expect(0);
        assert!(done.text().lines().any(|line| line.trim_end() == "hello"), "{done}");
    });
}

fn a_detached_container_has_logs_a_status_and_an_end(debian: Debian, version: Version) {
    Docker::with(debian, version, &[Image::Tiny], |docker| {
        let id = docker.run_detached("detached", &[], Image::Tiny, &["say=hello", "sleep=1500", "exit=9"]);
        let waiter = Job::start(docker.command(&["wait", "detached"]));
        docker.wait_for_logs("detached", "hello\n");
        assert_eq!(waiter.wait(SOON).expect(0).text(), "9\n");
        let state = docker.wait_for_status("detached", "exited");
        assert_eq!((&state["ExitCode"], &state["OOMKilled"]), (&9.into(), &false.into()));
        assert!(docker.containerd().task(&id).is_none(), "containerd still has the task");
        // It can be started again, with the same id and the same name.
        docker.call(&["start", "detached"]).expect(0);
        assert_eq!(docker.call(&["wait", "detached"]).expect(0).text(), "9\n");
        assert_eq!(docker.call(&["logs", "detached"]).expect(0).text().matches("hello\n").count(), 2);
        docker.call(&["rm", "detached"]).expect(0);
    });
}

fn stop_presses_the_power_button_and_kill_does_not(debian: Debian, version: Version) {
    Docker::with(debian, version, &[Image::Tiny, Image::Debian], |docker| {
        docker.run_detached("button", &[], Image::Debian, &["sh", "-c", READY]);
        docker.wait_for_logs("button", "\nready");
        Job::start(docker.command(&["stop", "-t", "60", "button"])).wait(BOOT).expect(0);
        let state = docker.wait_for_status("button", "exited");
        assert_eq!(state["ExitCode"], 143);
        docker.wait_for_logs("button", "reboot: Power down");

        // A tiny guest has no button: what asks it to end ends it.
        for (verb, status) in
            [(&["stop", "-t", "60"][..], 143), (&["kill"], 137), (&["kill", "-s", "INT"], 130)]
        {
            docker.run_detached("tiny", &[], Image::Tiny, &["hang"]);
            docker.call(&["kill", "-s", "USR1", "tiny"]).expect(0);
            assert_eq!(docker.inspect("tiny")["State"]["Status"], "running", "after SIGUSR1");
            docker.call(&[verb, &["tiny"]].concat()).expect(0);
            assert_eq!(docker.wait_for_status("tiny", "exited")["ExitCode"], status, "{verb:?}");
            docker.call(&["rm", "tiny"]).expect(0);
        }
        docker.call(&["rm", "button"]).expect(0);
    });
}

fn rm_f_ends_whatever_runs(debian: Debian, version: Version) {
    Docker::with(debian, version, &[Image::Tiny], |docker| {
        docker.run_detached("running", &[], Image::Tiny, &["hang"]);
        docker.create("created", &[], Image::Tiny, &[]);
        docker.run_detached("ended", &[], Image::Tiny, &["exit=1"]);
        docker.wait_for_status("ended", "exited");
        let monitor = Proc::of(docker.pid("running"));
        docker.call(&["rm", "-f", "running", "created", "ended"]).expect(0);
        assert!(!monitor.is_alive());
        docker.check();
        assert_eq!(docker.call(&["ps", "-aq"]).expect(0).text(), "");
    });
}

fn events_tell_a_life_in_order(debian: Debian, version: Version) {
    Docker::with(debian, version, &[Image::Tiny], |docker| {
        let id = docker.run_detached("told", &[], Image::Tiny, &["hang"]);
        docker.call(&["kill", "told"]).expect(0);
        docker.wait_for_status("told", "exited");
        docker.call(&["rm", "told"]).expect(0);
        let events = docker.events(&id);
        let actions: Vec<_> = events.iter().map(|event| event["Action"].as_str().unwrap()).collect();
        // `die` may come before the `kill` that it follows from.
        let mut middle = actions[2..actions.len() - 1].to_vec();
        middle.sort_unstable();
        assert_eq!(
            (&actions[..2], &middle[..], actions.last()),
            (&["create", "start"][..], &["die", "kill"][..], Some(&"destroy")),
            "{actions:?}"
        );
        let die = events.iter().find(|event| event["Action"] == "die").unwrap();
        assert_eq!(die["Actor"]["Attributes"]["exitCode"], "137");
    });
}

fn a_guest_outlives_a_restart_of_dockerd(debian: Debian, version: Version) {
    let Some(docker) = Docker::begin(debian, version, &[Image::Tiny]) else { return };
    let id =
        docker.run_detached("outlives", &[], Image::Tiny, &["say=before", "sleep=4000", "say=after", "hang"]);
    docker.wait_for_logs("outlives", "before\n");
    let monitor = Proc::of(docker.pid("outlives"));
    docker.kill9();
    assert!(monitor.is_alive(), "the guest died with dockerd");
    docker.start();
    assert_eq!(docker.wait_for_status("outlives", "running")["Pid"], monitor.pid());
    // Its output arrives at the new one.
    docker.wait_for_logs("outlives", "after\n");
    docker.stop();
    assert!(monitor.is_alive(), "the guest died with dockerd");
    docker.start();
    docker.call(&["kill", "outlives"]).expect(0);
    assert_eq!(docker.wait_for_status("outlives", "exited")["ExitCode"], 137);
    assert!(!monitor.is_alive());

    // One that ends while nobody listens.
    docker.call(&["rm", "outlives"]).expect(0);
    docker.run_detached("outlives", &[], Image::Tiny, &["sleep=6000", "exit=5"]);
    let monitor = Proc::of(docker.pid("outlives"));
    docker.kill9();
    assert!(monitor.is_alive(), "the guest was to run longer than that");
    assert!(monitor.ends_within(SOON));
    docker.start();
    assert_eq!(docker.wait_for_status("outlives", "exited")["ExitCode"], 5);
    docker.call(&["rm", "outlives"]).expect(0);
    assert!(docker.containerd().has_no_files(&id));
    docker.finish();
}

fn pause_stops_the_guests_clock_and_unpause_lets_it_go_on(debian: Debian, version: Version) {
    Docker::with(debian, version, &[Image::Tiny], |docker| {
        cli::a_guest_ticks_but_not_while_it_is_paused(docker, "paused");
        // And it can be ended while it is paused.
        docker.call(&["pause", "paused"]).expect(0);
        docker.call(&["rm", "-f", "paused"]).expect(0);
    });
}

fn stats_tell_memory_and_limit_and_update_changes_it(debian: Debian, version: Version) {
    Docker::with(debian, version, &[Image::Tiny], |docker| {
        let flags = ["--memory", "64m", "--memory-reservation", "32m", "--cpus", "1.5"];
        let id = docker.run_detached("limited", &flags, Image::Tiny, &["fill", "hang"]);
        docker.wait_for_logs("limited", " MiB)\n");
        let plan = docker.containerd().plan(&id);
        assert_eq!(
            (&plan["memory"]["guest_mib"], &plan["guest"]["vcpus"]),
            (&64.into(), &2.into()),
            "{plan}"
        );

        let cgroup = Cgroup::of(&docker.containerd().namespace(), &id);
        let limit = cgroup.limit() >> 20;
        assert_eq!(cgroup.reservation() >> 20, limit - 32);
        let told = docker.call(&["stats", "--no-stream", "--format", "{{json .}}", "limited"]).expect(0);
        let told: Value = serde_json::from_str(told.text().trim()).unwrap();
        let usage = told["MemUsage"].as_str().unwrap();
        assert!(usage.ends_with(&format!("/ {limit}MiB")), "{told}");
        let used: f64 = usage.split("MiB").next().unwrap().parse().unwrap();
        assert!(used >= 63.0, "the guest has filled 63 MiB: {told}");
        let pids: u32 = told["PIDs"].as_str().map_or(0, |pids| pids.parse().unwrap());
        assert!(pids > 0, "{told}");

        // Docker has a limit of memory and swap as well, twice that of memory.
        let update = |memory| docker.call(&["update", "--memory", memory, "--memory-swap", "-1", "limited"]);
        update("128m").expect(0);
        assert_eq!(cgroup.limit() >> 20, limit + 64);
        docker.call(&["update", "--memory-reservation", "48m", "limited"]).expect(0);
        assert_eq!(cgroup.reservation() >> 20, limit - 16, "with the monitor's overhead");
        // The guest has its RAM: less than that is refused, and nothing is changed.
        let refused = update("32m");
        assert_ne!(refused.status, Some(0), "{refused}");
        assert_eq!(cgroup.limit() >> 20, limit + 64);
        docker.call(&["rm", "-f", "limited"]).expect(0);
    });
}

fn a_terminal_shows_the_console(debian: Debian, version: Version) {
    Docker::with(debian, version, &[Image::Tiny], |docker| {
        let command = docker.run_command(&["--rm", "-it"], Image::Tiny, &["say=hello", "exit=7"]);
        let done = on_terminal(&command).wait(SOON).expect(7);
        assert_eq!(done.text().replace('\r', ""), "tiny: unikernel -- say=hello exit=7\nhello\n");
    });
}

fn input_without_a_terminal_reaches_the_guest(debian: Debian, version: Version) {
    Docker::with(debian, version, &[Image::Tiny], cli::input_without_a_terminal_reaches_the_guest);
}

fn a_client_detaches_and_another_one_attaches(debian: Debian, version: Version) {
    Docker::with(debian, version, &[Image::Tiny], cli::a_client_detaches_and_another_one_attaches);
}

fn a_guest_on_a_bridge_is_reached(debian: Debian, version: Version) {
    let Some(mut docker) = Docker::begin(debian, version, &[Image::Debian]) else { return };
    let bridge = docker.bridge();
    let flags = ["--network", bridge.name(), "--hostname", "guest"];
    docker.run_detached("web", &flags, Image::Debian, &["serve", "80"]);
    docker.wait_for_logs("web", "guest: serving on port 80");
    let address = docker.inspect("web")["NetworkSettings"]["Networks"][bridge.name()]["IPAddress"].take();
    let page = page(address.as_str().unwrap().parse().unwrap());
    assert!(page.contains("hello from"), "{page}");
    docker.call(&["rm", "-f", "web"]).expect(0);
    docker.finish();
}

fn busybox_runs_as_under_runc(debian: Debian, version: Version) {
    Docker::with(debian, version, &[Image::Busybox], cli::busybox_runs_as_under_runc);
}

fn busybox_is_executed_in_stopped_and_removed(debian: Debian, version: Version) {
    Docker::with(debian, version, &[Image::Busybox], cli::busybox_is_executed_in_stopped_and_removed);
}

fn what_cannot_be_executed_is_told_by_the_status(debian: Debian, version: Version) {
    Docker::with(debian, version, &[Image::Busybox], |cli| {
        cli::what_cannot_be_executed_is_told_by_the_status(cli, [127, 126]);
    });
}

fn what_runs_in_the_background_ends_with_busybox(debian: Debian, version: Version) {
    Docker::with(debian, version, &[Image::Busybox], cli::what_runs_in_the_background_ends_with_busybox);
}
