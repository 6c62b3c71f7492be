//! Docker, the real one: `docker run --runtime io.containerd.urunc.v2`, and what people do with such a container.
//!
//! Each function is a test with the Docker of Debian 12 on containerd 1.6, and with that of Debian 13 on containerd 2.3:
//! the older one fills a container's network from a hook. The words behind an image replace its Cmd; its Entrypoint
//! stays, so a tiny guest says `tiny: unikernel -- WORDS`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use serde_json::Value;
use urunc_tests::{
    direct::Proc,
    harness::{BOOT, Cgroup, Debian, Docker, Image, Job, SOON, Version},
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
    memory_and_cpus_are_limits_of_the_guests_cgroup;
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
        let waiter = Job::start(docker.docker(&["wait", "detached"]));
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
        Job::start(docker.docker(&["stop", "-t", "60", "button"])).wait(BOOT).expect(0);
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
        let monitor = Proc::of(pid(docker, "running"));
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
    let monitor = Proc::of(pid(&docker, "outlives"));
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
    docker.run_detached("outlives", &[], Image::Tiny, &["sleep=1500", "exit=5"]);
    let monitor = Proc::of(pid(&docker, "outlives"));
    docker.kill9();
    assert!(monitor.is_alive(), "the guest was to run longer than that");
    assert!(monitor.ends_within(SOON));
    docker.start();
    assert_eq!(docker.wait_for_status("outlives", "exited")["ExitCode"], 5);
    docker.call(&["rm", "outlives"]).expect(0);
    assert!(docker.containerd().has_no_files(&id));
    docker.finish();
}

fn memory_and_cpus_are_limits_of_the_guests_cgroup(debian: Debian, version: Version) {
    Docker::with(debian, version, &[Image::Tiny], |docker| {
        let id = docker.run_detached(
            "limited",
            &["--memory", "64m", "--cpus", "1.5"],
            Image::Tiny,
            &["fill", "hang"],
        );
        docker.wait_for_logs("limited", " MiB)\n");
        let plan = docker.containerd().plan(&id);
        assert_eq!((&plan["memory"]["guest_mib"], &plan["vcpus"]), (&64.into(), &2.into()), "{plan}");
        let limit = Cgroup::of(&docker.containerd().namespace(), &id).limit() >> 20;
        assert!(limit > 64, "{limit} MiB: the guest's and what the monitor needs");
        docker.call(&["rm", "-f", "limited"]).expect(0);
    });
}

/// The pid that Docker tells.
fn pid(docker: &Docker, name: &str) -> i32 {
    let pid = docker.inspect(name)["State"]["Pid"].take();
    pid.as_i64().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_else(|| panic!("{name}: pid {pid}"))
}

/// What `docker stats` and others print as JSON.
#[allow(dead_code, reason = "not yet")]
fn json(text: &str) -> Value {
    serde_json::from_str(text.trim()).unwrap()
}
