//! Output to a logger (`binary://`): containerd's contract, and whatever a logger does wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use containerd_shim_protos::{
    api::{StatsRequest, StatsResponse, Status},
    ttrpc::Code,
};
use urunc_tests::direct::{
    Bench, Bundle, Failure, Proc, SOON, Shim, Spec, assert_same, eventually, leaves, lines, much, much_input,
};

/// What it reads goes to files.
const GOOD: &str =
    "cat <&3 5>&- >\"$2.out\" & cat <&4 5>&- >\"$2.err\" & exec 5>&- 3>&- 4>&-; wait; echo end >\"$2.end\"";

/// A bundle whose output goes to a logger of this script, and the beginning of the names that it is given.
fn bundle(bench: &Bench, spec: &Spec, script: &str) -> (Bundle, PathBuf) {
    let path = bench.scratch().join("the logger");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let log = bench.scratch().join("log");
    let uri = format!("{}?to={}&a=b%26+c&z", path.display(), log.display()).replace(' ', "%20");
    (with_uri(bench.bundle("c1", spec), &format!("binary://{uri}")), log)
}

fn with_uri(mut bundle: Bundle, uri: &str) -> Bundle {
    (bundle.stdout, bundle.stderr) = (uri.to_owned(), uri.to_owned());
    (bundle.output, bundle.errors) = (None, None);
    bundle
}

/// The logger's pid.
fn logger(bench: &Bench) -> i32 {
    let record = bench.record("c1").expect("a record");
    i32::try_from(record["logger"]["pid"].as_i64().expect("a logger")).unwrap()
}

/// Whether it has ended, and was reaped.
fn is_gone(pid: i32) -> bool {
    Proc::find(pid).is_none()
}

fn create(bench: &Bench, bundle: &Bundle) -> Shim {
    let shim = bench.start(bundle);
    shim.client.create(bundle).unwrap();
    shim
}

#[test]
fn much_goes_both_ways_and_is_read_to_the_end_by_a_logger_that_is_called_as_containerd_calls_it() {
    let Some(bench) = Bench::released() else { return };
    let script = format!(
        "printf '%s|' \"$@\" >\"$2.args\"; cat /proc/$$/environ >\"$2.env\"; ls /proc/$$/fd >\"$2.fds\"; {GOOD}"
    );
    let words = format!("echo out={} exit=3", much());
    let (bundle, log) = bundle(&bench, &Spec::tiny(&words), &script);
    let bundle = bundle.with_stdin();
    let read = |what: &str| fs::read_to_string(log.with_extension(what)).unwrap_or_default();
    let shim = create(&bench, &bundle);
    let logger = logger(&bench);
    assert_eq!(read("args"), format!("to|{}|a|b& c|z||", log.display()));
    let namespace = bench.record("c1").unwrap()["namespace"].as_str().unwrap().to_owned();
    let env = read("env");
    let mut env: Vec<_> = env.split('\0').filter(|v| !v.is_empty()).collect();
    env.sort_unstable();
    assert_eq!(env[..2], ["CONTAINER_ID=c1".to_owned(), format!("CONTAINER_NAMESPACE={namespace}")]);
    assert!(env.len() == 3 && env[2].starts_with("PATH="), "{env:?}");
    // From 10 on are the shell's own.
    let mut fds: Vec<u32> = read("fds").lines().map(|n| n.parse().unwrap()).filter(|n| *n < 10).collect();
    fds.sort_unstable();
    assert_eq!(fds, [0, 1, 2, 3, 4, 5]);

    shim.client.start("c1").unwrap();
    // What comes before its UART is set up is lost in there.
    eventually("it listens", || read("out").contains("tiny: echo"));
    bundle.give_much().join().unwrap().unwrap();
    assert_eq!(shim.client.wait("c1"), Ok(3));
    // It ends by itself, and nobody has to ask.
    eventually("the logger's end", || read("end") == "end\n" && is_gone(logger));
    let echoed = lines(much_input());
    assert_same(&read("out"), &format!("{}tiny: echo\n{echoed}{}", Spec::greeting(&words), lines(much())));
    assert_eq!(read("err"), "");
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn delete_waits_for_what_a_slow_logger_has_not_read_yet() {
    let Some(bench) = Bench::released() else { return };
    let script = "exec 5>&-; read -r x <\"$2.go\"; cat <&3 >\"$2.out\"; sleep 0.3; echo end >\"$2.end\"";
    let (bundle, log) = bundle(&bench, &Spec::tiny("out=30000 exit=3"), script);
    let go = log.with_extension("go");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &go,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let shim = create(&bench, &bundle);
    shim.client.start("c1").unwrap();
    assert_eq!(shim.client.wait("c1"), Ok(3));
    fs::write(&go, "go\n").unwrap();
    shim.client.delete("c1").unwrap();
    assert_eq!(fs::read_to_string(log.with_extension("end")).unwrap(), "end\n");
    let out = fs::read_to_string(log.with_extension("out")).unwrap();
    assert_same(&out, &format!("{}{}", Spec::greeting("out=30000 exit=3"), lines(30_000)));
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

#[test]
fn a_logger_that_dies_does_not_stop_the_guest() {
    let Some(bench) = Bench::released() else { return };
    let (bundle, _) = bundle(&bench, &Spec::tiny("out=200000 exit=3"), "exec 5>&-; exit 1");
    let shim = create(&bench, &bundle);
    let logger = logger(&bench);
    bundle.wait_for_log("the logger ended before its container");
    eventually("the logger is reaped", || is_gone(logger));
    shim.client.start("c1").unwrap();
    assert_eq!(shim.client.wait("c1"), Ok(3));
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn a_logger_that_never_gets_ready_fails_create_by_name_and_is_ended() {
    let Some(bench) = Bench::with_faults() else { return };
    let first = bench.bundle("c0", &Spec::tiny("hang")).without_stdio();
    let shim = create(&bench, &first);
    let hang = "echo $$ >\"$2.pid.new\"; mv \"$2.pid.new\" \"$2.pid\"; exec sleep 1000";
    for way in ["too late", "cancelled", "unsaid"] {
        bench.faults.set(if way == "too late" { &["deadline.logger=2000"] } else { &[] });
        let script = if way == "unsaid" { "exec 5>&-; exec sleep 1000" } else { hang };
        let (mut bundle, log) = bundle(&bench, &Spec::tiny("hang").in_pod("c0"), script);
        if way == "unsaid" {
            bundle.stdout = bundle.stdout.replace("binary", "binary-v2");
            bundle.stderr.clone_from(&bundle.stdout);
        }
        let began = Instant::now();
        let create = shim.client.send_create(&bundle, SOON);
        if way == "cancelled" {
            eventually("the logger", || log.with_extension("pid").exists());
            shim.client.delete("c1").unwrap_err();
        }
        let failure: Failure = create.wait().unwrap_err();
        let (code, words): (_, &[&str]) = match way {
            "too late" => (Code::DEADLINE_EXCEEDED, &["stdout", "the logger", "2.0 s"]),
            "cancelled" => (Code::ABORTED, &["deleted"]),
            _ => (Code::FAILED_PRECONDITION, &["stdout", "the logger", "fd 5"]),
        };
        assert_eq!(failure.code, Some(code), "{way}: {failure:?}");
        assert!(words.iter().all(|word| failure.message.contains(word)), "{way}: {failure:?}");
        assert!(began.elapsed() < SOON, "{way}: it took {:?}", began.elapsed());
        if way != "unsaid" {
            let pid = fs::read_to_string(log.with_extension("pid")).unwrap().trim().parse().unwrap();
            assert!(is_gone(pid), "{way}: it is ended, and reaped");
            fs::remove_file(log.with_extension("pid")).unwrap();
        }
        bundle.remove();
    }
    bench.end(&shim, first);
    bench.finish();
}

#[test]
fn a_program_that_cannot_be_executed_is_refused_by_name() {
    let Some(bench) = Bench::released() else { return };
    let first = bench.bundle("c0", &Spec::tiny("hang")).without_stdio();
    let shim = create(&bench, &first);
    let plain = bench.scratch().join("plain");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    for path in [
        "/no/such/logger".into(),
        plain.to_string_lossy().into_owned(),
        bench.scratch().to_string_lossy().into_owned(),
    ] {
        let bundle =
            with_uri(bench.bundle("c1", &Spec::tiny("hang").in_pod("c0")), &format!("binary://{path}?k=v"));
        let failure = shim.client.create(&bundle).unwrap_err();
        assert_eq!(failure.code, Some(Code::INVALID_ARGUMENT), "{failure:?}");
        assert!(failure.message.contains("stdout") && failure.message.contains(&path), "{failure:?}");
        bundle.remove();
    }
    bench.end(&shim, first);
    bench.finish();
}

#[test]
fn a_logger_that_hangs_is_ended_by_delete_and_holds_nobody_up_before() {
    let Some(bench) = Bench::with_faults() else { return };
    // A third of it from SIGTERM on, which must do for the one that is to hear it.
    for (script, killed, time) in [
        ("exec 5>&-; exec sleep 1000", false, "deadline.logger.end=3000"),
        ("trap '' TERM; exec 5>&-; exec sleep 1000", true, "deadline.logger.end=300"),
    ] {
        bench.faults.set(&[time]);
        // More than its pipe takes.
        let (bundle, _) = bundle(&bench, &Spec::tiny("out=200000"), script);
        let shim = create(&bench, &bundle);
        let logger = logger(&bench);
        shim.client.start("c1").unwrap();
        let began = Instant::now();
        shim.client.state("c1").unwrap();
        shim.client.kill("c1", 9).unwrap();
        assert_eq!(shim.client.wait("c1"), Ok(137));
        assert!(began.elapsed() < Duration::from_secs(3), "it took {:?}", began.elapsed());
        assert!(!is_gone(logger));
        shim.client.delete("c1").unwrap();
        assert!(is_gone(logger));
        bundle.wait_for_log("asked to by SIGTERM");
        let words = "the logger did not end when it was asked to";
        if killed {
            bundle.wait_for_log(words);
        }
        shim.client.shutdown("c1");
        bench.delete(&bundle).deleted();
        assert_eq!(bundle.log().contains(words), killed, "{script}");
        bundle.remove();
    }
    bench.finish();
}

#[test]
fn a_logger_of_five_seconds_is_waited_for_and_nobody_but_delete_waits() {
    let Some(bench) = Bench::with_faults() else { return };
    // A logger's time comes on top.
    bench.faults.set(&["deadline.delete=2000"]);
    let (bundle, log) = bundle(
        &bench,
        &Spec::tiny("out=1000 exit=3"),
        "exec 5>&-; cat <&3 >/dev/null; sleep 5; echo end >\"$2.end\"",
    );
    let shim = create(&bench, &bundle);
    shim.client.start("c1").unwrap();
    assert_eq!(shim.client.wait("c1"), Ok(3));
    bench.events.expect("c1", &["create", "start", "exit"]);
    let delete = shim.client.send_delete("c1");
    eventually("only the logger is left", || leaves(&bench.namespace, "c1").is_empty());
    assert_eq!(shim.client.status("c1"), Ok(Status::STOPPED));
    assert_eq!(shim.client.wait("c1"), Ok(3));
    shim.client.pids("c1").unwrap();
    shim.client.connect_task("c1");
    assert_eq!(shim.client.kill("c1", 15).unwrap_err().code, Some(Code::NOT_FOUND));
    let stats = StatsRequest { id: "c1".to_owned(), ..StatsRequest::default() };
    shim.client.send::<StatsResponse>("Stats", &stats).wait().unwrap();
    assert!(delete.within(Duration::ZERO).is_none(), "Delete waits, and only Delete");
    delete.wait().unwrap();
    assert_eq!(fs::read_to_string(log.with_extension("end")).unwrap(), "end\n");
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

#[test]
fn a_logger_that_waits_for_sigterm_can_still_write() {
    let Some(bench) = Bench::with_faults() else { return };
    // A third of it from SIGTERM on.
    bench.faults.set(&["deadline.logger.end=3000"]);
    let script = "trap 'echo end >\"$2.end\"; exit' TERM; exec 5>&-; while :; do sleep 0.05; done";
    let (bundle, log) = bundle(&bench, &Spec::tiny("exit=3"), script);
    let shim = create(&bench, &bundle);
    shim.client.start("c1").unwrap();
    assert_eq!(shim.client.wait("c1"), Ok(3));
    shim.client.delete("c1").unwrap();
    assert_eq!(fs::read_to_string(log.with_extension("end")).unwrap(), "end\n");
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

#[test]
fn the_end_of_a_container_that_is_deleted_before_start_is_told_before_its_logger_ends() {
    let Some(bench) = Bench::with_faults() else { return };
    bench.faults.set(&["deadline.logger.end=20000"]);
    let script = "exec 5>&-; until [ -e \"$2.go\" ]; do sleep 0.05; done";
    let (bundle, log) = bundle(&bench, &Spec::tiny("exit=3"), script);
    let shim = create(&bench, &bundle);
    let delete = shim.client.send_delete("c1");
    assert_eq!(shim.client.wait("c1"), Ok(137));
    bench.events.expect("c1", &["create", "exit"]);
    assert!(delete.within(Duration::ZERO).is_none(), "its logger is still there");
    fs::write(log.with_extension("go"), "").unwrap();
    delete.wait().unwrap();
    bench.events.expect("c1", &["create", "exit", "delete"]);
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

#[test]
fn a_logger_ends_with_a_daemon_that_is_killed_or_is_ended_for_it() {
    let Some(bench) = Bench::released() else { return };
    for script in [GOOD, "exec 5>&-; exec sleep 1000"] {
        let (bundle, log) = bundle(&bench, &Spec::tiny("hang"), script);
        let shim = create(&bench, &bundle);
        let logger = Proc::of(logger(&bench));
        shim.client.start("c1").unwrap();
        if script == GOOD {
            let out = || fs::read_to_string(log.with_extension("out")).unwrap_or_default();
            eventually("output", || out().ends_with("hang\n"));
        }
        shim.daemon.kill();
        if script == GOOD {
            assert!(logger.ends_within(SOON));
            assert_eq!(fs::read_to_string(log.with_extension("end")).unwrap(), "end\n");
        }
        bench.delete(&bundle).deleted();
        assert!(logger.ends_within(Duration::ZERO));
        bundle.remove();
    }
    bench.finish();
}
