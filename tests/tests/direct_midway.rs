//! What comes while Create or Start is at work, at each of their points: other verbs, and the end of their time.
//!
//! A point is held until the test has seen what it wants to see, so nothing here depends on how fast the machine is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use containerd_shim_protos::{api::Status, ttrpc::Code};
use urunc_tests::direct::{
    Bench, Bundle, Client, Failure, Passed, SOON, Shim, Spec, dry_run, eventually, leaves,
};

#[track_caller]
fn assert_code<T: std::fmt::Debug>(result: Result<T, Failure>, code: Code, when: &str) {
    match result {
        Err(failure) if failure.code == Some(code) => {}
        other => panic!("{when}: {code:?} was expected: {other:?}"),
    }
}

/// Nothing of this container is left.
#[track_caller]
fn assert_gone(bench: &Bench, id: &str, when: &str) {
    assert!(!bench.run_directory(id).exists(), "{when}: the run directory is left");
    assert_eq!(leaves(&bench.namespace, id), Vec::<&Path>::new(), "{when}: cgroups are left");
}

fn create(client: &Client, bundle: &Bundle) {
    client.create(bundle).unwrap();
}

fn start(client: &Client, bundle: &Bundle) {
    client.start(&bundle.id).unwrap();
}

/// The points of a Create.
fn points_of_create(bench: &Bench) -> Passed {
    let points = dry_run(bench, &Spec::tiny("hang"), |_, _| {}, create);
    for must in ["cgroup.after-intent", "launcher.spawned", "plan.made", "commit.before", "commit.after"] {
        assert!(points.daemon.iter().any(|(name, _)| name == must), "{must} is not among {points:?}");
    }
    points
}

/// The points of a Start.
fn points_of_start(bench: &Bench) -> Passed {
    let points = dry_run(bench, &Spec::tiny("hang"), create, start);
    assert!(points.daemon.iter().any(|(name, _)| name == "start.ready"), "{points:?}");
    assert!(points.launcher.iter().any(|(name, _)| name == "launcher.exec"), "{points:?}");
    points
}

fn fresh(bench: &Bench) -> (Bundle, Shim) {
    let bundle = bench.bundle("c1", &Spec::tiny("hang")).without_stdio();
    let shim = bench.start(&bundle);
    (bundle, shim)
}

/// Ends what is there by now.
fn end(bench: &Bench, shim: &Shim, bundle: Bundle) {
    bench.faults.set(&[]);
    shim.client.shutdown("c1");
    assert!(shim.daemon.ends_within(SOON), "the daemon stays");
    bench.delete(&bundle).deleted();
    bundle.remove();
}

#[test]
fn verbs_during_create() {
    let Some(bench) = Bench::with_faults() else { return };
    let points = points_of_create(&bench).daemon;
    for (n, (name, passage)) in points.iter().enumerate() {
        let when = format!("{name}#{passage}");
        let (bundle, shim) = fresh(&bench);
        let client = &shim.client;
        // What the Delete below waits for.
        let cancel = if n % 3 == 1 { "deadline.cancel=100" } else { "" };
        bench.faults.set(&[&format!("{when}=hold"), cancel]);
        let create = client.send_create(&bundle, Duration::from_secs(30));
        eventually(&when, || bench.faults.has_fired(name));

        // Nobody has been told of it yet.
        let began = Instant::now();
        assert_code(client.state("c1"), Code::NOT_FOUND, &when);
        assert_code(client.pids("c1"), Code::NOT_FOUND, &when);
        assert_code(client.kill("c1", 9), Code::NOT_FOUND, &when);
        assert_code(client.start("c1"), Code::NOT_FOUND, &when);
        assert_code(client.wait("c1"), Code::NOT_FOUND, &when);
        assert_code(client.create(&bundle), Code::ALREADY_EXISTS, &when);
        assert_eq!(client.connect_task("c1").1, 0, "{when}");
        client.shutdown("c1");
        assert!(began.elapsed() < SOON, "{when}: somebody waits: {:?}", began.elapsed());
        assert!(shim.daemon.is_alive(), "{when}: Shutdown ends a Create");

        if n % 3 == 2 {
            // Nothing but that: it is a container like any other.
            bench.faults.set(&[]);
            create.wait().unwrap_or_else(|e| panic!("{when}: {e:?}"));
            assert_eq!(client.status("c1"), Ok(Status::CREATED), "{when}");
            client.delete("c1").unwrap();
        } else if n % 3 == 1 {
            // The Delete's time is over before the Create gives way. It gives way all the same.
            assert_code(client.delete("c1"), Code::DEADLINE_EXCEEDED, &when);
            assert!(bench.faults.has_fired("deadline.cancel"));
            bench.faults.set(&[]);
            create.wait().expect_err(&when);
            assert_code(client.delete("c1"), Code::NOT_FOUND, &when);
        } else {
            let delete = client.send_delete("c1");
            assert!(delete.within(Duration::from_millis(20)).is_none(), "{when}: nothing is undone yet");
            bench.faults.set(&[]);
            // A commit that was faster is deleted like any container; the Create fails in any case.
            if let Err(failure) = delete.wait() {
                assert_eq!(failure.code, Some(Code::NOT_FOUND), "{when}: {failure:?}");
            }
            create.wait().expect_err(&when);
        }
        assert_gone(&bench, "c1", &when);
        end(&bench, &shim, bundle);
        bench.check();
    }
    bench.finish();
}

#[test]
fn verbs_during_start() {
    let Some(bench) = Bench::with_faults() else { return };
    let Passed { daemon, launcher } = points_of_start(&bench);
    let in_launcher = launcher.iter().map(|(name, _)| (name, name.clone()));
    let in_daemon = daemon.iter().map(|(name, passage)| (name, format!("{name}#{passage}")));
    for (n, (name, when)) in in_daemon.chain(in_launcher).enumerate() {
        let (bundle, shim) = fresh(&bench);
        let client = &shim.client;
        let pid = client.create(&bundle).unwrap();
        bench.faults.set(&[&format!("{when}=hold")]);
        let start = client.send_start("c1");
        eventually(&when, || bench.faults.has_fired(name));

        let began = Instant::now();
        // Until it is told to run it runs for nobody; the commit's last point may be behind that.
        let status = client.status("c1").unwrap();
        assert!([Status::CREATED, Status::RUNNING].contains(&status), "{when}: {status:?}");
        assert_eq!(client.pids("c1"), Ok(vec![pid]), "{when}");
        assert_eq!(client.connect_task("c1").1, pid, "{when}");
        assert_code(client.delete("c1"), Code::FAILED_PRECONDITION, &when);
        assert_code(client.create(&bundle), Code::ALREADY_EXISTS, &when);
        client.shutdown("c1");
        let again = client.send_start("c1");
        // It waits its turn; whoever asks meanwhile does not.
        assert!(again.within(Duration::from_millis(5)).is_none(), "{when}: two Starts at once");
        assert_eq!(client.pids("c1"), Ok(vec![pid]), "{when}");
        let signal = if n % 2 == 0 { 9 } else { 15 };
        client.kill("c1", signal).unwrap();
        assert!(began.elapsed() < SOON, "{when}: somebody waits: {:?}", began.elapsed());
        assert!(shim.daemon.is_alive(), "{when}: Shutdown ends a Start");

        bench.faults.set(&[]);
        let status = 128 + signal.unsigned_abs();
        assert_eq!(client.wait("c1"), Ok(status), "{when}");
        start.wait().ok();
        assert_code(again.wait(), Code::FAILED_PRECONDITION, &when);
        assert_eq!(client.status("c1"), Ok(Status::STOPPED), "{when}");
        assert_eq!(client.delete("c1").map(|d| d.exit_status), Ok(status), "{when}");
        assert_gone(&bench, "c1", &when);
        end(&bench, &shim, bundle);
    }
    bench.finish();
}

/// Times that are tried, in milliseconds: on a busy machine a short one is over before the point is reached.
const TIMES: [u64; 4] = [150, 600, 2400, 9600];

/// Waits until a verb stands at its point, and then until its time is over, which began before that. `false`: the time
/// was too short.
fn wait_out(ms: u64, reached: impl Fn() -> bool, answered: impl Fn() -> bool) -> bool {
    let (began, time) = (Instant::now(), Duration::from_millis(ms));
    eventually("the verb gets somewhere", || reached() || answered());
    let in_time = reached() && began.elapsed() < time;
    thread::sleep(time + Duration::from_millis(20));
    in_time
}

/// Its own deadline, not its caller's: a step that comes back too late is the last one.
#[test]
fn the_time_of_a_create_ends_at_each_of_its_points() {
    let Some(bench) = Bench::with_faults() else { return };
    let Passed { daemon, launcher } = points_of_create(&bench);
    let commit = daemon.iter().position(|(name, _)| name == "commit.before").unwrap();
    let in_launcher = launcher.iter().map(|(name, _)| (name, name.clone(), true, true));
    let in_daemon = daemon
        .iter()
        .enumerate()
        .map(|(n, (name, passage))| (name, format!("{name}#{passage}"), n <= commit, false));
    'points: for (name, when, is_late, hangs) in in_daemon.chain(in_launcher) {
        for ms in TIMES {
            let (bundle, shim) = fresh(&bench);
            bench.faults.set(&[&format!("deadline.create={ms}"), &format!("{when}=hold")]);
            let create = shim.client.send_create(&bundle, Duration::from_secs(60));
            let reached = || bench.faults.has_fired(name);
            if !wait_out(ms, reached, || create.within(Duration::ZERO).is_some()) {
                bench.faults.set(&[]);
                create.within(SOON);
                shim.client.delete("c1").ok();
                end(&bench, &shim, bundle);
                continue;
            }
            assert!(bench.faults.has_fired("deadline.create"), "{when}");
            // A launcher is given up while it still hangs, a step of the daemon's own when it comes back.
            if !hangs {
                bench.faults.set(&[]);
            }
            match (create.wait(), is_late) {
                (created, true) => assert_code(created, Code::DEADLINE_EXCEEDED, &when),
                (Ok(_), false) => drop(shim.client.delete("c1").unwrap()),
                (Err(e), false) => panic!("{when}: it is durable by now: {e:?}"),
            }
            assert_code(shim.client.delete("c1"), Code::NOT_FOUND, &when);
            assert_gone(&bench, "c1", &when);
            end(&bench, &shim, bundle);
            continue 'points;
        }
        panic!("{when} was never reached in time");
    }
    bench.finish();
}

#[test]
fn the_time_of_a_start_ends_at_each_of_its_points() {
    let Some(bench) = Bench::with_faults() else { return };
    let Passed { daemon, launcher } = points_of_start(&bench);
    let in_launcher = launcher.iter().map(|(name, _)| (name, name.clone(), true));
    let in_daemon = daemon.iter().map(|(name, passage)| (name, format!("{name}#{passage}"), false));
    let (mut retracted, mut stopped) = (0, 0);
    'points: for (name, when, hangs) in in_daemon.chain(in_launcher) {
        for ms in TIMES {
            let (bundle, shim) = fresh(&bench);
            let client = &shim.client;
            let pid = client.create(&bundle).unwrap();
            bench.faults.set(&[&format!("deadline.start={ms}"), &format!("{when}=hold")]);
            let start = client.send_start("c1");
            let reached = || bench.faults.has_fired(name);
            let in_time = wait_out(ms, reached, || start.within(Duration::ZERO).is_some());
            assert!(bench.faults.has_fired("deadline.start"), "{when}");
            if !hangs || !in_time {
                bench.faults.set(&[]);
            }
            if in_time {
                match (start.wait(), client.status("c1").unwrap()) {
                    // Before the gate: nothing has happened, and it may be tried again.
                    (Err(failure), Status::CREATED) => {
                        assert_eq!(failure.code, Some(Code::DEADLINE_EXCEEDED), "{when}: {failure:?}");
                        bench.faults.set(&[]);
                        assert_eq!(client.start("c1"), Ok(pid), "{when}");
                        retracted += 1;
                    }
                    (Err(_), Status::STOPPED) => {
                        assert_eq!(client.wait("c1"), Ok(128), "{when}");
                        stopped += 1;
                    }
                    // Behind its last wait: it is durable.
                    (Ok(_), Status::RUNNING) if name == "start.ready" || name.starts_with("record.") => {}
                    other => panic!("{when}: {other:?}"),
                }
            } else {
                start.within(SOON);
            }
            client.kill("c1", 9).ok();
            client.wait("c1").unwrap();
            client.delete("c1").unwrap();
            assert_gone(&bench, "c1", &when);
            end(&bench, &shim, bundle);
            if in_time {
                continue 'points;
            }
        }
        panic!("{when} was never reached in time");
    }
    assert!(retracted > 0 && stopped > 0, "{retracted} before the gate, {stopped} behind it");
    bench.finish();
}
