//! `start` and `delete` against a daemon that leaves, is slow or stopped, or dies: a pod never has two daemons, an
//! address that was printed serves, and nobody is killed who need not be.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    env, fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use containerd_shim_protos::{
    api::{Empty, ShutdownRequest, Status},
    ttrpc::Code,
};
use rustix::process::Signal;
use urunc_tests::direct::{
    Bench, Bundle, Exited, Pending, Proc, Ran, Random, SOON, Shim, Spec, eventually, leaves,
};

/// What `delete` may take of the 5 s that containerd gives it.
const BUDGET: Duration = Duration::from_secs(4);

/// A bundle of the pod `pod`, with what a daemon refuses at the door: its Create answers at once, and leaves nothing.
fn refused(bench: &Bench, id: &str) -> Bundle {
    let mut bundle = bench.bundle(id, &Spec::tiny("hang").in_pod("pod")).without_stdio();
    bundle.stdout = "npipe:////./pipe/c1".to_owned();
    bundle
}

/// The Create that follows a `start` is answered by a daemon that stays.
#[track_caller]
fn is_served(shim: &Shim, bundle: &Bundle, when: &str) {
    let failure = shim.client.create(bundle).expect_err("it asks for what is not built");
    assert!(
        ![None, Some(Code::UNAVAILABLE)].contains(&failure.code) && failure.message.contains("npipe"),
        "{when}: {failure:?}"
    );
}

fn send_shutdown(shim: &Shim) -> Pending<Empty> {
    shim.client.send("Shutdown", &ShutdownRequest { id: "pod".to_owned(), ..ShutdownRequest::default() })
}

/// Ends the one daemon that the pod has by now.
#[track_caller]
fn end_pod(bench: &Bench) {
    eventually("the pod has one daemon at most", || bench.daemons().len() <= 1);
    for daemon in bench.daemons() {
        daemon.signal(Signal::TERM);
        assert!(daemon.ends_within(SOON));
    }
}

#[test]
fn a_start_meets_a_daemon_at_every_point_of_its_leaving() {
    let Some(bench) = Bench::with_faults() else { return };
    bench.faults.set(&["*=trace"]);
    let first = refused(&bench, "pod");
    let shim = bench.start(&first);
    shim.client.shutdown("pod");
    assert!(shim.daemon.ends_within(SOON));
    let points: Vec<String> = bench.faults.fired().into_iter().map(|f| f.name).collect();
    let points: Vec<&String> = points.iter().filter(|name| name.starts_with("leave.")).collect();
    for must in ["leave.begins", "leave.decided", "leave.closed", "leave.nameless", "leave.left"] {
        assert!(points.iter().any(|name| *name == must), "{must} is not among {points:?}");
    }
    for point in points {
        for action in ["hold", "kill"] {
            let when = format!("{action} at {point}");
            bench.faults.set(&[]);
            let second = refused(&bench, "c1");
            let old = bench.start(&first);
            bench.faults.set(&[&format!("{point}={action}")]);
            let leaving = send_shutdown(&old);
            eventually(&when, || bench.faults.has_fired(point));
            let start = bench.run_start(&second, b"");
            if action == "hold" {
                // So long it waits for the lock, for an answer, or has gone ahead.
                thread::sleep(Duration::from_millis(40));
            }
            bench.faults.set(&[]);
            let started = start.wait();
            assert_eq!((started.code, started.stderr.as_str()), (Some(0), ""), "{when}");
            leaving.wait().ok();
            let shim = bench.connect(&started.text());
            is_served(&shim, &second, &when);
            // Whoever has decided to leave is gone.
            let leaves = point != "leave.begins" && point != "leave.locked" || action == "kill";
            assert!(!leaves || shim.daemon.pid() != old.daemon.pid(), "{when}: it was kept");
            end_pod(&bench);
            bench.delete(&second).deleted();
            second.remove();
            bench.check();
        }
        // Killed, and nobody starts it anew: all that comes is the `delete` that follows a broken connection.
        let old = bench.start(&first);
        bench.faults.set(&[&format!("{point}=kill")]);
        send_shutdown(&old).wait().expect_err("the connection breaks");
        assert!(bench.faults.has_fired(point) && old.daemon.ends_within(SOON));
        bench.faults.set(&[]);
        bench.delete(&first).deleted();
        bench.check();
    }
    first.remove();
    bench.finish();
}

/// The `gc` that `start` has spawned is dismissed by the first Create, which does not wait for its end.
#[track_caller]
fn that_of_start_goes(bench: &Bench) {
    eventually("the gc of `start` has ended", || bench.actions("gc").is_empty());
}

/// containerd has forgotten the task when it dies, and asks for no `delete`.
#[test]
fn a_daemon_that_is_killed_behind_its_last_delete_leaves_nothing() {
    let Some(bench) = Bench::with_faults() else { return };
    let points =
        ["", "leave.begins", "leave.locked", "leave.decided", "leave.closed", "leave.nameless", "leave.left"];
    for point in points {
        let (shim, bundle, _) = bench.created("pod", &Spec::tiny("hang").in_pod("pod"));
        that_of_start_goes(&bench);
        let (_, member, _) = bench.created("c1", &Spec::tiny("hang").in_pod("pod"));
        shim.client.delete("c1").unwrap();
        assert!(bench.actions("gc").is_empty(), "{point}: there is another one");
        shim.client.delete("pod").unwrap();
        assert_eq!(bench.actions("gc").len(), 1, "{point}: nobody stands by");
        if point.is_empty() {
            shim.daemon.kill();
        } else {
            bench.faults.set(&[&format!("{point}=kill")]);
            send_shutdown(&shim).wait().expect_err("the connection breaks");
            assert!(bench.faults.has_fired(point) && shim.daemon.ends_within(SOON));
        }
        eventually("nothing is left", || !bench.socket("pod").exists() && !bench.pod_file("pod").exists());
        eventually("gc has ended", || bench.actions("gc").is_empty());
        bench.faults.set(&[]);
        bundle.remove();
        member.remove();
        bench.check();
    }
    // It is not needed behind another Create, nor behind the daemon.
    let (shim, bundle, _) = bench.created("pod", &Spec::tiny("hang").in_pod("pod"));
    that_of_start_goes(&bench);
    shim.client.delete("pod").unwrap();
    let (_, member, _) = bench.created("c1", &Spec::tiny("hang").in_pod("pod"));
    assert!(bench.actions("gc").is_empty(), "it stands by for one that serves");
    let task = PathBuf::from(format!("/proc/{0}/task/{0}/children", shim.daemon.pid()));
    let children = fs::read_to_string(task).unwrap();
    assert_eq!(children.split_whitespace().count(), 1, "but the launcher: {children}");
    shim.client.delete("c1").unwrap();
    shim.client.shutdown("pod");
    assert!(shim.daemon.ends_within(SOON));
    assert!(bench.actions("gc").is_empty(), "it outlives what it stood by for");
    bundle.remove();
    member.remove();
    bench.finish();
}

/// Its end is no Delete's, or nobody's alone.
#[test]
fn whatever_empties_a_daemon_leaves_somebody_who_stands_by() {
    let Some(bench) = Bench::with_faults() else { return };
    let is_left = |group: &str| bench.socket(group).exists() || bench.pod_file(group).exists();
    let killed = |shim: &Shim, group: &str, how: &str| {
        assert_eq!(bench.actions("gc").len(), 1, "{how}");
        shim.daemon.kill();
        eventually(how, || !is_left(group) && bench.actions("gc").is_empty());
    };
    let in_pod = Spec::tiny("hang").in_pod("pod");

    let how = "two Deletes at once";
    let (shim, pod, _) = bench.created("pod", &in_pod);
    that_of_start_goes(&bench);
    let (_, member, _) = bench.created("c1", &in_pod);
    bench.faults.set(&["cgroup.undo=hold"]);
    let deletes = ["pod", "c1"].map(|id| shim.client.send_delete(id));
    let at_work = || bench.faults.fired().iter().filter(|f| f.name == "cgroup.undo").count();
    eventually("both are at work", || at_work() == 2);
    bench.faults.set(&[]);
    for delete in deletes {
        delete.wait().unwrap();
    }
    killed(&shim, "pod", how);
    pod.remove();
    member.remove();
    bench.check();

    let how = "a `delete` that finds it alive";
    let (shim, bundle, _) = bench.created("c1", &Spec::tiny("hang"));
    that_of_start_goes(&bench);
    bench.delete(&bundle).deleted();
    killed(&shim, "c1", how);
    bundle.remove();
    bench.check();

    let how = "a Create that fails, and the Delete behind it";
    let bundle = refused(&bench, "pod");
    let shim = bench.start(&bundle);
    shim.client.create(&bundle).unwrap_err();
    assert_eq!(shim.client.delete("pod").unwrap_err().code, Some(Code::NOT_FOUND));
    killed(&shim, "pod", how);
    bundle.remove();
    bench.check();

    // Nor does a further Create, until it is done.
    let (shim, pod, _) = bench.created("pod", &in_pod);
    shim.client.delete("pod").unwrap();
    let member = bench.bundle("c1", &in_pod);
    bench.start(&member);
    bench.faults.set(&["cgroup.after-acting=kill", "cgroup.undo=hold"]);
    shim.client.create(&member).expect_err("the connection breaks");
    assert!(bench.faults.has_fired("cgroup.after-acting"));
    eventually("gc is at work", || bench.faults.has_fired("cgroup.undo"));
    // No `delete` comes: without a bundle, no tombstone waits for one.
    pod.remove();
    member.remove();
    bench.faults.set(&[]);
    eventually("all is gone", || !is_left("pod") && bench.actions("gc").is_empty());
    bench.check();

    // Where there is no room for one, all goes on without.
    let bundle = bench.bundle("c1", &Spec::tiny("hang"));
    bench.faults.set(&["standby.spawn=error"]);
    let shim = bench.start(&bundle);
    shim.client.create(&bundle).unwrap();
    shim.client.delete("c1").unwrap();
    let fired = bench.faults.fired().iter().filter(|f| f.name == "standby.spawn").count();
    assert!(fired >= 2 && bench.actions("gc").is_empty(), "{fired}");
    bench.faults.set(&[]);
    shim.client.shutdown("c1");
    assert!(shim.daemon.ends_within(SOON));
    bundle.remove();
    bench.finish();
}

#[test]
fn a_daemon_that_leaves_does_not_take_the_next_ones_pod_file_along() {
    let Some(bench) = Bench::released() else { return };
    let bundle = refused(&bench, "pod");
    let shim = bench.start(&bundle);
    bench.edit_pod_file("pod", |pod| pod["owner"] = "0123456789abcdef".into());
    let theirs = fs::read(bench.pod_file("pod")).unwrap();
    shim.client.shutdown("pod");
    assert!(shim.daemon.ends_within(SOON));
    assert_eq!(fs::read(bench.pod_file("pod")).ok(), Some(theirs));
    assert!(bench.socket("pod").exists(), "it is that one's, too");
    // That one is dead.
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

/// `URUNC_TEST_RACES` is how many.
#[test]
fn starts_race_with_a_daemon_that_leaves() {
    let Some(bench) = Bench::released() else { return };
    let rounds = env::var("URUNC_TEST_RACES").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let seed = std::process::id().into();
    let mut random = Random(seed);
    let first = refused(&bench, "pod");
    let mut shim = bench.start(&first);
    let (mut kept, mut replaced) = (0, 0);
    // When a `start` that was just executed finds its daemon, in microseconds: learned, for then the two meet.
    let mut meeting = 3000;
    for round in 0..rounds {
        let second = refused(&bench, "c1");
        let moment = Duration::from_micros(meeting / 2 + random.below(meeting + 1));
        let when = format!("seed {seed}, round {round}, {moment:?}");
        let start = bench.run_start(&second, b"");
        thread::sleep(moment);
        let leaving = send_shutdown(&shim);
        let started = start.wait();
        assert_eq!((started.code, started.stderr.as_str()), (Some(0), ""), "{when}");
        let next = bench.connect(&started.text());
        is_served(&next, &second, &when);
        leaving.wait().ok();
        match next.daemon.pid() == shim.daemon.pid() {
            true => (kept, meeting) = (kept + 1, meeting * 9 / 10),
            false => (replaced, meeting) = (replaced + 1, (meeting * 11 / 10 + 20).min(100_000)),
        }
        if round % 25 == 0 {
            eventually("the pod has one daemon", || bench.daemons().len() == 1);
        }
        shim = next;
        second.remove();
    }
    eprintln!("{rounds} races: {kept} daemons were kept, {replaced} replaced");
    assert!(kept > 0 && replaced > 0, "{kept} kept, {replaced} replaced: the moments were chosen badly");
    end_pod(&bench);
    first.remove();
    bench.finish();
}

#[test]
fn a_daemon_that_is_slow_is_waited_for_and_never_doubled() {
    let Some(bench) = Bench::released() else { return };
    let (first, second, third) = (refused(&bench, "pod"), refused(&bench, "c1"), refused(&bench, "c2"));
    let shim = bench.start(&first);
    shim.daemon.stop();
    let starts = [&second, &third].map(|bundle| bench.run_start(bundle, b""));
    thread::sleep(Duration::from_millis(1200));
    assert_eq!(bench.daemons().len(), 1, "a second daemon beside a living one");
    shim.daemon.signal(Signal::CONT);
    for started in starts.map(Ran::wait) {
        assert_eq!((started.code, started.text()), (Some(0), shim.address.clone()), "{}", started.stderr);
        assert!(started.took > Duration::from_secs(1), "{:?}", started.took);
    }
    assert_eq!(bench.connect(&shim.address).daemon.pid(), shim.daemon.pid());
    is_served(&shim, &second, "it goes on");
    end_pod(&bench);
    [first, second, third].into_iter().for_each(Bundle::remove);
    bench.finish();
}

// ---- delete ----

/// A pod that runs: its sandbox and two guests.
struct Pod {
    shim: Shim,
    sandbox: Bundle,
    members: [Bundle; 2],
    /// The sandbox's and the guests' processes.
    processes: [Proc; 3],
}

impl Pod {
    #[track_caller]
    fn run(bench: &Bench) -> Self {
        let sandbox = bench.bundle("pod", &Spec::sandbox()).without_stdio();
        let shim = bench.start(&sandbox);
        let pid = shim.client.create(&sandbox).unwrap();
        shim.client.start("pod").unwrap();
        let member = |id: &str| {
            let bundle = bench.bundle(id, &Spec::tiny("hang").member_of("pod", pid)).without_stdio();
            bench.start(&bundle);
            let pid = shim.client.create(&bundle).unwrap();
            shim.client.start(id).unwrap();
            (bundle, Proc::of(pid.cast_signed()))
        };
        let ((first, one), (second, two)) = (member("c1"), member("c2"));
        let processes = [Proc::of(pid.cast_signed()), one, two];
        Self { shim, sandbox, members: [first, second], processes }
    }

    /// Executes the `delete` of each at once.
    fn delete_at_once(&self, bench: &Bench) -> Vec<Exited> {
        let all = self.members.iter().chain([&self.sandbox]);
        let runs: Vec<Ran> = all.map(|bundle| bench.run_delete(bundle)).collect();
        runs.into_iter().map(Ran::wait).collect()
    }

    fn remove(self) {
        self.sandbox.remove();
        self.members.into_iter().for_each(Bundle::remove);
    }
}

/// As containerd does when a connection breaks: it calls for all that it knows of, at once.
#[test]
fn a_pod_and_its_members_are_deleted_at_once() {
    let Some(bench) = Bench::released() else { return };
    for daemon in ["serves", "is dead", "is dying", "is stopped"] {
        for round in 0..2 {
            let pod = Pod::run(&bench);
            match daemon {
                "is dead" => pod.shim.daemon.kill(),
                "is dying" => pod.shim.daemon.signal(Signal::KILL),
                "is stopped" => pod.shim.daemon.stop(),
                _ => {}
            }
            for deleted in pod.delete_at_once(&bench) {
                assert!(deleted.took < BUDGET, "the daemon {daemon}: {:?}", deleted.took);
                assert_eq!(deleted.answer().exit_status, 137, "the daemon {daemon}: {}", deleted.stderr);
                // A member's gives up on a stopped daemon that the sandbox's is about to kill.
                assert!(
                    deleted.code == Some(0) || daemon == "is stopped" && deleted.stderr.contains("depend on"),
                    "the daemon {daemon}, round {round}: {}",
                    deleted.stderr
                );
            }
            let is_dead = || pod.processes.iter().all(|p| !p.is_alive());
            eventually(&format!("the daemon {daemon}: its guests' end"), is_dead);
            if daemon == "serves" {
                eventually("all but the daemon's own gc have ended", || bench.actions("gc").len() == 1);
                pod.shim.client.shutdown("pod");
            }
            assert!(pod.shim.daemon.ends_within(SOON), "the daemon {daemon}");
            eventually("gc has ended", || bench.actions("gc").is_empty());
            for deleted in pod.delete_at_once(&bench) {
                deleted.deleted();
            }
            pod.remove();
            bench.check();
        }
    }
    bench.finish();
}

#[test]
fn a_members_delete_kills_nobody_and_the_sandboxs_kills_the_stopped_daemon() {
    let Some(bench) = Bench::released() else { return };
    let pod = Pod::run(&bench);
    let client = &pod.shim.client;
    pod.shim.daemon.stop();
    let deleted = bench.delete(&pod.members[0]);
    assert!(deleted.took < BUDGET, "it took {:?}", deleted.took);
    assert_ne!(deleted.code, Some(0), "it is not done");
    assert_eq!(deleted.answer().exit_status, 137, "it tells what it knows all the same");
    assert!(pod.processes.iter().all(Proc::is_alive) && pod.shim.daemon.is_alive(), "somebody was killed");
    eventually("it is handed over", || !bench.actions("gc").is_empty());

    pod.shim.daemon.signal(Signal::CONT);
    eventually("it is ended by its daemon", || bench.record("c1").is_none_or(|r| r["tombstone"] == true));
    assert!(pod.processes[1].ends_within(SOON));
    eventually("gc has ended", || bench.actions("gc").is_empty());
    assert_eq!((client.status("pod"), client.status("c2")), (Ok(Status::RUNNING), Ok(Status::RUNNING)));
    bench.delete(&pod.members[0]).deleted();
    // They do not merely look alive.
    client.kill("c2", 9).unwrap();
    assert_eq!(client.wait("c2"), Ok(137));
    assert!(pod.processes[0].is_alive());

    pod.shim.daemon.stop();
    let began = Instant::now();
    let deleted = bench.delete(&pod.sandbox);
    assert_eq!(deleted.deleted().exit_status, 137);
    assert!(deleted.took < BUDGET, "it took {:?}", began.elapsed());
    assert!(!pod.shim.daemon.is_alive() && !pod.processes[0].is_alive());
    assert!(leaves(&bench.namespace, "c2").is_empty(), "the member that containerd may not ask for");
    bench.delete(&pod.members[1]).deleted();
    pod.remove();
    bench.finish();
}
