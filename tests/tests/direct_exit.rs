//! Why a container has ended: different ends have different reasons, in the exit status, in the log and in the record.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use containerd_shim_protos::{
    api::{Empty, KillRequest, Status},
    ttrpc::Code,
};
use rustix::process::Signal;
use urunc_tests::{
    direct::{Bench, Bundle, Proc, Shim, Spec, skip},
    harness::Cgroup,
};

/// How long a daemon may take to come to rest.
const REST: Duration = Duration::from_secs(60);
/// For how long a daemon must do nothing at all.
const IDLE: Duration = Duration::from_secs(15);

fn run(bench: &Bench, id: &str, words: &str) -> (Shim, Bundle, Proc) {
    // Without a pid namespace: the first process of one is deaf to what it has no handler for.
    start(bench, id, &Spec::tiny(words).on_the_host())
}

fn start(bench: &Bench, id: &str, spec: &Spec) -> (Shim, Bundle, Proc) {
    let bundle = bench.bundle(id, spec);
    let shim = bench.start(&bundle);
    let pid = shim.client.create(&bundle).unwrap();
    let monitor = Proc::of(pid.cast_signed());
    shim.client.start(id).unwrap();
    (shim, bundle, monitor)
}

/// It ended with this status and for this reason, which State, record and log tell alike.
#[track_caller]
fn ended(bench: &Bench, shim: &Shim, bundle: Bundle, status: u32, reason: &str, logged: &str) {
    let id = bundle.id.clone();
    assert_eq!(shim.client.wait(&id), Ok(status), "{reason}");
    let state = shim.client.state(&id).unwrap();
    assert_eq!(state.exit_status, status, "{reason}");
    let record = bench.record(&id).unwrap();
    assert_eq!((&record["exit"]["status"], &record["exit"]["reason"]), (&status.into(), &reason.into()));
    bundle.wait_for_log(logged);
    bench.end(shim, bundle);
}

#[test]
fn each_end_has_a_reason_of_its_own() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle, _) = run(&bench, "own", "exit=7");
    ended(&bench, &shim, bundle, 7, "guest-status", "the guest told its status");

    let (shim, bundle, _) = run(&bench, "zero", "exit=0");
    ended(&bench, &shim, bundle, 0, "guest-status", "the guest told its status");

    let (shim, bundle, _) = run(&bench, "triple", "triple");
    ended(&bench, &shim, bundle, 71, "triple-fault", "the guest met a triple fault");

    let (shim, bundle, _) = start(&bench, "reset", &Spec::with_initrd("reset").on_the_host());
    ended(&bench, &shim, bundle, 129, "reset", "the guest was reset");

    for (signal, status) in [(Signal::KILL, 137), (Signal::TERM, 143)] {
        let (shim, bundle, _) = run(&bench, "killed", "hang");
        shim.client.kill("killed", signal.as_raw()).unwrap();
        ended(&bench, &shim, bundle, status, "killed", "killed on request");
    }
    // By somebody else, and not for want of memory. QEMU ends orderly on TERM, with exit code 0.
    for (signal, status) in [(Signal::KILL, 137), (Signal::USR2, 140), (Signal::TERM, 143)] {
        let (shim, bundle, monitor) = run(&bench, "signal", "hang");
        monitor.signal(signal);
        ended(&bench, &shim, bundle, status, "signal", "a signal from elsewhere");
    }
    let (shim, bundle, monitor) = run(&bench, "crash", "hang");
    monitor.signal(Signal::SEGV);
    ended(&bench, &shim, bundle, 139, "monitor-crashed", "the monitor crashed");
    bench.finish();
}

#[test]
fn a_power_button_that_nobody_follows_is_no_end_and_no_reason_for_a_later_one() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle, monitor) = start(&bench, "deaf", &Spec::with_initrd("hang").on_the_host());
    let term = || KillRequest { id: "deaf".to_owned(), signal: 15, ..KillRequest::default() };
    // At once, and while the monitor is slow: whoever waits for an answer is told that there was none.
    for _ in 0..5 {
        let kills = [(); 4].map(|()| shim.client.send::<Empty>("Kill", &term()));
        kills.into_iter().for_each(|kill| drop(kill.wait().unwrap()));
    }
    monitor.stop();
    let failure = shim.client.send::<Empty>("Kill", &term()).wait().unwrap_err();
    assert_eq!(failure.code, Some(Code::DEADLINE_EXCEEDED), "{failure:?}");
    monitor.signal(Signal::CONT);
    assert_eq!(shim.client.status("deaf"), Ok(Status::RUNNING));
    monitor.signal(Signal::SEGV);
    ended(&bench, &shim, bundle, 139, "monitor-crashed", "the monitor crashed");

    let (shim, bundle, _) = start(&bench, "own", &Spec::with_initrd("sleep=6000 exit=7").on_the_host());
    shim.client.kill("own", 15).unwrap();
    ended(&bench, &shim, bundle, 7, "guest-status", "the guest told its status");
    bench.finish();
}

#[test]
fn a_start_that_fails_and_a_cleanup_are_reasons_too() {
    let Some(bench) = Bench::with_faults() else { return };
    let bundle = bench.bundle("c1", &Spec::tiny("hang"));
    let shim = bench.start(&bundle);
    shim.client.create(&bundle).unwrap();
    bench.faults.set(&["start.ready=error"]);
    shim.client.start("c1").unwrap_err();
    bench.faults.set(&[]);
    ended(&bench, &shim, bundle, 128, "never-ran", "start failed");

    // Its `delete` while it runs: the tombstone is read by the one who wrote it last.
    let (shim, bundle, _) = run(&bench, "c2", "hang");
    let deleted = bench.delete(&bundle).deleted();
    assert_eq!(deleted.exit_status, 137);
    bundle.remove();
    shim.client.shutdown("c2");
    bench.finish();
}

/// A power button that nobody hears: only a configured grace time ends the guest.
#[test]
fn a_deaf_guest_is_killed_after_its_grace_time_and_only_with_one() {
    let Some(mut bench) = Bench::released() else { return };
    let deaf = |bench: &Bench, id: &str| {
        let bundle = bench.bundle(id, &Spec::with_initrd("hang"));
        let shim = bench.start(&bundle);
        shim.client.create(&bundle).unwrap();
        shim.client.start(id).unwrap();
        shim.client.kill(id, Signal::TERM.as_raw()).unwrap();
        bundle.wait_for_log("the power button is pressed");
        (shim, bundle)
    };
    let config = bench.scratch().join("config.toml");
    fs::write(&config, "[runtime]\ngrace_seconds = 1\n").unwrap();
    let (patient, first) = deaf(&bench, "c1");
    bench.set_variable("URUNC_CONFIG_FILE", config.to_str().unwrap());
    let (shim, bundle) = deaf(&bench, "c2");
    bundle.wait_for_log("did not end within its grace time");
    for (bundle, grace) in [(&first, None), (&bundle, Some(" grace=1 "))] {
        let log = bundle.log();
        let pressed = log.lines().find(|line| line.contains("button is pressed")).unwrap();
        assert_eq!(pressed.contains("grace"), grace.is_some(), "{pressed}");
        assert!(pressed.contains(grace.unwrap_or_default()), "{pressed}");
    }
    ended(&bench, &shim, bundle, 137, "killed", "killed on request");
    assert_eq!(patient.client.status("c1"), Ok(Status::RUNNING), "it was pressed before the other's");
    bench.end(&patient, first);
    bench.finish();
}

#[test]
fn what_the_kernel_kills_for_memory_is_told_before_its_exit() {
    let Some(bench) = Bench::released() else { return };
    let spec = Spec::tiny("echo fill hang").memory(64 << 20);
    let mut bundle = bench.bundle("c1", &spec);
    let stdin = bundle.path.join("stdin");
    assert!(Command::new("mkfifo").arg(&stdin).status().unwrap().success());
    bundle.stdin = stdin.to_string_lossy().into_owned();
    let shim = bench.start(&bundle);
    shim.client.create(&bundle).unwrap();
    shim.client.start("c1").unwrap();
    bundle.output.as_ref().unwrap().wait_for("tiny: echo\n");
    // Behind the shim's back: less than the monitor needs with its guest's RAM.
    let cgroup = Cgroup::of(&bench.namespace, "c1");
    let folder = cgroup.above().join("c1");
    let limit = cgroup.usage() + (16 << 20);
    let files = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max", "memory.swap.max"];
    for file in files.map(|f| folder.join(f)).iter().filter(|f| f.exists()) {
        let value = if file.ends_with("memory.swap.max") { 0 } else { limit };
        fs::write(file, value.to_string()).unwrap();
    }
    fs::write(&stdin, "quit\n").unwrap();
    assert_eq!(shim.client.wait("c1"), Ok(137));
    bench.events.expect("c1", &["create", "start", "oom", "exit"]);
    let record = bench.record("c1").unwrap();
    assert_eq!(record["usage"]["oom_kills"], 1);
    ended(&bench, &shim, bundle, 137, "out-of-memory", "for want of memory");
    bench.events.expect("c1", &["create", "start", "oom", "exit", "delete"]);
    bench.finish();
}

/// How often the threads of a process were scheduled.
fn scheduled(pid: i32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let of = |path: PathBuf| -> Option<u64> {
        let text = fs::read_to_string(path.join("status")).ok()?;
        let switches = text.lines().filter_map(|line| line.split_once("ctxt_switches:"));
        Some(switches.map(|(_, n)| n.trim().parse::<u64>().unwrap()).sum())
    };
    threads.filter_map(|t| of(t.path())).sum()
}

/// A daemon whose guest runs, or whose containers are all in order, is not woken by anything of its own.
#[test]
fn an_idle_daemon_does_nothing() {
    let Some(bench) = Bench::released() else { return };
    if !PathBuf::from("/proc/self/task").exists() {
        return skip("there is no /proc/PID/task");
    }
    let (shim, bundle, _) = run(&bench, "c1", "hang");
    let daemon = shim.daemon.pid();
    // The pool's threads go, memory is given back, and what others left is looked for once.
    let deadline = Instant::now() + REST;
    let mut rests = (scheduled(daemon), Instant::now());
    while rests.1.elapsed() < Duration::from_secs(4) {
        assert!(Instant::now() < deadline, "the daemon does not come to rest within {REST:?}");
        std::thread::sleep(Duration::from_millis(500));
        let now = scheduled(daemon);
        if now != rests.0 {
            rests = (now, Instant::now());
        }
    }
    let before = scheduled(daemon);
    std::thread::sleep(IDLE);
    assert_eq!(scheduled(daemon), before, "it was woken within {IDLE:?}");
    bench.end(&shim, bundle);
    bench.finish();
}
