//! Defects of the Go urunc, each by its number there, as tests that must never fail.
//!
//! | test | defect |
//! | --- | --- |
//! | `urunc_767_*` | a choice that failed in Create orphaned the container that was made before it |
//! | `urunc_598_*` | a crash in the middle of a write left a state file that nobody could read, hence a container for ever |
//! | `urunc_778_751_*` | a crash in Create left a VMM; its clean-up killed by a bare number, in the worst case everybody |
//!
//! More of them, and of others, are in `direct_known_defects`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use containerd_shim_protos::{api::Status, ttrpc::Code};
use serde_json::Value;
use urunc_tests::direct::{
    Bench, Bundle, Client, Proc, Random, SOON, Shim, Spec, check_record, dry_run, eventually,
    eventually_some, leaves, unseal,
};

fn json(bench: &Bench, id: &str, name: &str) -> Option<Value> {
    let text = fs::read(bench.run_directory(id).join(name)).ok()?;
    Some(unseal(&text).unwrap_or_else(|e| panic!("{name} of {id}: {e}")))
}

/// Nothing of this container is left, while others may still be at work.
#[track_caller]
fn assert_gone(bench: &Bench, id: &str, after: &str) {
    assert!(!bench.run_directory(id).exists(), "{after}: the run directory is left");
    assert_eq!(leaves(&bench.namespace, id), Vec::<&Path>::new(), "{after}: cgroups are left");
}

// ---- #767 ----

/// urunc #767: the shim's Create failed behind the making of the task, and nobody knew of that task any more.
#[test]
fn urunc_767_a_choice_that_cannot_be_made_in_create_is_made_at_start() {
    let Some(bench) = Bench::with_faults() else { return };
    let bundle = bench.bundle("c1", &Spec::with_initrd("exit=5"));
    let shim = bench.start(&bundle);
    bench.faults.set(&["image.initrd=error"]);
    shim.client.create(&bundle).expect("Create does not need the choice");
    assert!(bench.faults.has_fired("image.initrd"));
    bundle.wait_for_log("chosen at Start");
    let log = bundle.log();
    let line = log.lines().find(|l| l.contains("chosen at Start")).unwrap();
    assert!(line.contains("level=warning") && line.contains("injected fault at image.initrd"), "{line}");
    let plan = json(&bench, "c1", "plan.json").unwrap();
    assert!(
        plan["what"]["guest"]["rootfs"]["at-start"].as_str().unwrap().contains("injected fault"),
        "{plan}"
    );
    assert!(plan["what"]["guest"]["launch"].is_null(), "{plan}");
    assert_eq!(json(&bench, "c1", "start.json"), None);

    bench.faults.set(&[]);
    shim.client.start("c1").unwrap();
    let late = json(&bench, "c1", "start.json").expect("what was chosen late is durable");
    assert_eq!(late["rootfs"]["initrd"], "/initrd");
    assert_eq!(json(&bench, "c1", "plan.json").unwrap(), plan, "a plan never changes");
    assert_eq!(shim.client.wait("c1"), Ok(5));
    assert!(bundle.output().contains("-- exit=5"));
    bench.events.expect("c1", &["create", "start", "exit"]);
    bench.end(&shim, bundle);
    bench.finish();
}

/// urunc #767, where it is Start that fails: the container is as it was before.
#[test]
fn urunc_767_a_choice_that_fails_at_start_leaves_a_created_container() {
    let Some(bench) = Bench::with_faults() else { return };
    for end in ["delete", "another start", "the daemon dies"] {
        let bundle = bench.bundle("c1", &Spec::with_initrd("exit=5")).without_stdio();
        let shim = bench.start(&bundle);
        bench.faults.set(&["image.initrd=error"]);
        let pid = shim.client.create(&bundle).unwrap();
        for _ in 0..2 {
            let failure = shim.client.start("c1").expect_err("the choice fails");
            assert!(failure.message.contains("com.urunc.unikernel.initrd"), "{failure:?}");
            assert_eq!(shim.client.status("c1"), Ok(Status::CREATED));
            let record = bench.record("c1").unwrap();
            assert_eq!(record["state"], "created");
            assert!(
                record["journal"].as_array().unwrap().iter().all(|e| e["section"] == "create"),
                "{record}"
            );
            assert_eq!(json(&bench, "c1", "start.json"), None);
            assert!(Proc::of(pid.cast_signed()).is_alive());
        }
        match end {
            "delete" => {
                assert_eq!(shim.client.delete("c1").unwrap().pid, pid);
                assert_gone(&bench, "c1", end);
                shim.client.shutdown("c1");
            }
            "another start" => {
                bench.faults.set(&[]);
                assert_eq!(shim.client.start("c1"), Ok(pid));
                assert_eq!(shim.client.wait("c1"), Ok(5));
                shim.client.delete("c1").unwrap();
                shim.client.shutdown("c1");
            }
            _ => shim.daemon.kill(),
        }
        bench.faults.set(&[]);
        bench.delete(&bundle).deleted();
        bundle.remove();
        bench.check();
    }
    bench.finish();
}

/// urunc #767, where what is wrong is known at once: nothing was made.
#[test]
fn urunc_767_a_choice_that_is_wrong_is_an_error_of_create() {
    let Some(bench) = Bench::released() else { return };
    let bundle =
        bench.bundle("c1", &Spec::with_initrd("exit=5").key("initrd", "/no-such-initrd")).without_stdio();
    let shim = bench.start(&bundle);
    let failure = shim.client.create(&bundle).unwrap_err();
    assert_eq!(failure.code, Some(Code::INVALID_ARGUMENT), "{failure:?}");
    assert_eq!(shim.client.delete("c1").unwrap_err().code, Some(Code::NOT_FOUND));
    assert_gone(&bench, "c1", "a wrong choice");
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

// ---- every point ----

fn create(client: &Client, bundle: &Bundle) {
    client.create(bundle).unwrap();
}

/// A process in a pid namespace that containers join, as the sandbox of a pod with a shared one.
struct PidNamespace {
    unshare: Child,
    first: Proc,
}

impl PidNamespace {
    fn new() -> Self {
        let unshare = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "sleep", "3600"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let first = eventually_some("the first process of the pid namespace", || {
            let pid = fs::read_to_string(&children).ok()?.trim().parse().ok()?;
            Proc::find(pid).filter(|p| p.comm() == "sleep")
        });
        Self { unshare, first }
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/pid", self.first.pid())
    }
}

impl Drop for PidNamespace {
    fn drop(&mut self) {
        self.unshare.kill().ok();
        self.unshare.wait().ok();
    }
}

/// How the pid namespace of a launcher comes about: each has its own way to die.
fn spec(n: usize, shared: &PidNamespace) -> (&'static str, Spec) {
    match n % 3 {
        0 => ("its own pid namespace", Spec::tiny("hang")),
        1 => ("the host's pid namespace", Spec::tiny("hang").on_the_host()),
        _ => ("a shared pid namespace", Spec::tiny("hang").join_pid_namespace(&shared.path())),
    }
}

/// After a crash: `delete`, or nothing at all. Then the same id is created and run as if nothing had happened.
#[track_caller]
fn recover(bench: &Bench, bundle: Bundle, with_delete: bool, after: &str) {
    let id = bundle.id.clone();
    // A reader of records never meets half of one.
    bench.record(&id);
    if with_delete {
        let deleted = bench.delete(&bundle);
        assert_eq!(deleted.deleted().exit_status, 137, "{after}");
        assert_gone(bench, &id, after);
        bundle.remove();
        bench.check();
    } else {
        bundle.remove();
    }
    bench.run(&id, 7);
    assert_gone(bench, &id, after);
    bench.check();
}

/// urunc #778, #751: a crash in Create left the pid -1 in the state: `kill(-1, 0)` took it for running for ever, and the
/// clean-up's `kill(-1, SIGKILL)` killed every process of the host.
#[test]
fn urunc_778_751_the_daemon_is_killed_at_every_point_of_create() {
    let Some(bench) = Bench::with_faults() else { return };
    let shared = PidNamespace::new();
    let points = dry_run(&bench, &Spec::tiny("hang"), |_, _| {}, create).daemon;
    for must in ["cgroup.after-intent", "launcher.spawned", "record.torn", "plan.made", "commit.after"] {
        assert!(points.iter().any(|(name, _)| name == must), "{must} is not among {points:?}");
    }
    let mut n = 0;
    for (name, passage) in &points {
        for with_delete in [true, false] {
            let (kind, spec) = spec(n, &shared);
            n += 1;
            let after = format!("{name}#{passage} in {kind}, delete: {with_delete}");
            let bundle = bench.bundle("c1", &spec).without_stdio();
            let shim = bench.start(&bundle);
            bench.faults.set(&[&format!("{name}#{passage}=kill")]);
            let failure = shim.client.create(&bundle).expect_err(&after);
            assert_eq!(failure.code, None, "{after}: {failure:?}");
            assert!(shim.daemon.ends_within(SOON), "{after}");
            assert!(bench.faults.has_fired(name));
            bench.faults.set(&[]);
            recover(&bench, bundle, with_delete, &after);
            assert!(shared.first.is_alive(), "{after}: the canary in the shared pid namespace was killed");
        }
    }
    bench.finish();
}

/// urunc #778, #751, where it is Start that is cut off.
#[test]
fn urunc_778_751_the_daemon_is_killed_at_every_point_of_start() {
    let Some(bench) = Bench::with_faults() else { return };
    let shared = PidNamespace::new();
    let start = |client: &Client, bundle: &Bundle| {
        client.start(&bundle.id).unwrap();
    };
    let points = dry_run(&bench, &Spec::tiny("hang"), create, start).daemon;
    assert!(points.iter().any(|(name, _)| name == "start.ready"), "{points:?}");
    // In the host's network nothing is left to be decided in Start: it passes fewer points.
    let fewer = dry_run(&bench, &Spec::tiny("hang").on_the_host(), create, start).daemon;
    for (n, point) in points.iter().enumerate() {
        let (name, passage) = point;
        let (kind, spec) = spec(if fewer.contains(point) { n } else { 0 }, &shared);
        let after = format!("{name}#{passage} in {kind}");
        let bundle = bench.bundle("c1", &spec).without_stdio();
        let shim = bench.start(&bundle);
        shim.client.create(&bundle).unwrap();
        bench.faults.set(&[&format!("{name}#{passage}=kill")]);
        shim.client.start("c1").expect_err(&after);
        assert!(shim.daemon.ends_within(SOON), "{after}");
        bench.faults.set(&[]);
        recover(&bench, bundle, n % 2 == 0, &after);
        assert!(shared.first.is_alive(), "{after}: the canary in the shared pid namespace was killed");
    }
    bench.finish();
}

/// Waits until a launcher stands at this point, and gives its processes: whoever is in the container's leaf.
fn launcher_at(bench: &Bench, point: &str) -> Vec<Proc> {
    eventually(&format!("the launcher at {point}"), || bench.faults.has_fired(point));
    let processes = bench.processes("c1");
    assert!(!processes.is_empty(), "nobody is in the leaf at {point}");
    processes
}

/// urunc #778, #751, where it is the process whose pid was to be written down that dies.
#[test]
fn urunc_778_751_the_launcher_is_killed_at_every_point_that_it_passes() {
    let Some(bench) = Bench::with_faults() else { return };
    let shared = PidNamespace::new();
    let both = |client: &Client, bundle: &Bundle| {
        create(client, bundle);
        client.start(&bundle.id).unwrap();
    };
    let points = dry_run(&bench, &Spec::tiny("hang"), |_, _| {}, both).launcher;
    for must in ["launcher.joined", "launcher.namespaces", "launcher.root", "launcher.gate", "launcher.exec"]
    {
        assert!(points.iter().any(|(name, _)| name == must), "{must} is not among {points:?}");
    }
    let mut n = 0;
    for (point, _) in &points {
        for victim in ["launcher", "daemon", "both"] {
            let (kind, spec) = spec(n, &shared);
            n += 1;
            let after = format!("{victim} killed at {point} in {kind}");
            let bundle = bench.bundle("c1", &spec).without_stdio();
            let shim = bench.start(&bundle);
            bench.faults.set(&[&format!("{point}=delay:60000")]);
            let in_start = ["launcher.gate", "launcher.exec"].contains(&point.as_str());
            let create = shim.client.send_create(&bundle, SOON);
            let start = in_start.then(|| {
                create.within(SOON).expect("Create ends").unwrap();
                shim.client.send_start("c1")
            });
            let launcher = launcher_at(&bench, point);
            if victim != "launcher" {
                shim.daemon.kill();
            }
            if victim != "daemon" {
                launcher.iter().for_each(Proc::kill);
            }
            // Before it is tied to the daemon, which takes microseconds but for this delay, it is found by its leaf.
            if point != "launcher.joined" {
                for process in &launcher {
                    assert!(process.ends_within(SOON), "{after}: the launcher outlives the daemon");
                }
            }
            bench.faults.set(&[]);
            if victim == "launcher" {
                let failure = match start {
                    None => create.wait().expect_err(&after),
                    Some(start) => start.wait().expect_err(&after),
                };
                assert!(failure.message.contains("the launcher ended"), "{after}: {failure:?}");
                if in_start {
                    assert_eq!(shim.client.status("c1"), Ok(Status::STOPPED), "{after}");
                    assert_eq!(shim.client.wait("c1"), Ok(128), "{after}");
                    assert_eq!(shim.client.delete("c1").unwrap().exit_status, 128, "{after}");
                } else {
                    assert_eq!(shim.client.delete("c1").unwrap_err().code, Some(Code::NOT_FOUND), "{after}");
                }
                assert_gone(&bench, "c1", &after);
                shim.client.shutdown("c1");
            }
            recover(&bench, bundle, n % 2 == 0, &after);
            assert!(shared.first.is_alive(), "{after}: the canary in the shared pid namespace was killed");
        }
    }
    bench.finish();
}

/// Found by chaos: the first stage was killed between its clone and its word of it. The child was ready, Create waited
/// for the word until its deadline, and nobody would have reaped the child.
#[test]
fn a_first_stage_that_is_killed_before_it_tells_of_its_child_fails_create_at_once() {
    let Some(bench) = Bench::with_faults() else { return };
    for kind in [Spec::tiny("hang"), Spec::tiny("hang").on_the_host()] {
        let bundle = bench.bundle("c1", &kind).without_stdio();
        let shim = bench.start(&bundle);
        bench.faults.set(&["launcher.cloned=kill"]);
        // Less than the deadline of its set-up, which is 20 s.
        let failure = shim.client.send_create(&bundle, SOON).wait().unwrap_err();
        assert!(bench.faults.has_fired("launcher.cloned"));
        assert!(failure.message.contains("the launcher ended"), "{failure:?}");
        bench.faults.set(&[]);
        assert_gone(&bench, "c1", "a killed first stage");
        let daemon = shim.daemon.pid();
        let tasks = fs::read_dir(format!("/proc/{daemon}/task")).unwrap().flatten();
        // A thread may end meanwhile.
        let children = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
        assert_eq!(children.collect::<String>().trim(), "", "the daemon has a child, or a zombie");
        shim.client.create(&bundle).expect("the same id can be made");
        bench.end(&shim, bundle);
    }
    bench.finish();
}

/// urunc #778, #751, where it dies between Create and Start: an exit like any other.
#[test]
fn urunc_778_751_a_launcher_that_is_killed_at_its_gate_is_an_exit() {
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.bundle("c1", &Spec::tiny("hang"));
    let shim = bench.start(&bundle);
    let pid = shim.client.create(&bundle).unwrap();
    Proc::of(pid.cast_signed()).kill();
    assert_eq!(shim.client.wait("c1"), Ok(137));
    assert_eq!(shim.client.start("c1").unwrap_err().code, Some(Code::FAILED_PRECONDITION));
    bundle.output();
    bench.events.expect("c1", &["create", "exit"]);
    bench.end(&shim, bundle);
    bench.finish();
}

/// An error at a point instead of a crash: the verb fails and undoes itself.
#[test]
fn an_error_at_every_point_of_create_leaves_nothing() {
    let Some(bench) = Bench::with_faults() else { return };
    let points = dry_run(&bench, &Spec::tiny("hang"), |_, _| {}, create);
    for (name, passage) in points.daemon.iter().chain(&points.launcher) {
        let after = format!("{name}#{passage}");
        let bundle = bench.bundle("c1", &Spec::tiny("hang")).without_stdio();
        let shim = bench.start(&bundle);
        bench.faults.set(&[&format!("{after}=error")]);
        let failure = shim.client.create(&bundle).expect_err(&after);
        assert!(failure.message.contains("injected fault"), "{after}: {failure:?}");
        assert!(failure.code.is_some(), "{after}: {failure:?}");
        bench.faults.set(&[]);
        assert_gone(&bench, "c1", &after);
        assert!(bench.processes("c1").is_empty(), "{after}");
        assert_eq!(shim.client.delete("c1").unwrap_err().code, Some(Code::NOT_FOUND), "{after}");
        // The same daemon, the same id.
        shim.client.create(&bundle).unwrap_or_else(|e| panic!("{after}: {e:?}"));
        bench.end(&shim, bundle);
        assert!(shim.daemon.ends_within(SOON), "{after}: the daemon stays");
    }
    bench.finish();
}

#[test]
fn an_error_at_every_point_of_start_is_undone_or_an_exit() {
    let Some(bench) = Bench::with_faults() else { return };
    let start = |client: &Client, bundle: &Bundle| {
        client.start(&bundle.id).unwrap();
    };
    let points = dry_run(&bench, &Spec::tiny("hang"), create, start);
    for (n, (name, passage)) in points.daemon.iter().chain(&points.launcher).enumerate() {
        let (after, id) = (format!("{name}#{passage}"), format!("c{n}"));
        let bundle = bench.bundle(&id, &Spec::tiny("exit=6"));
        let shim = bench.start(&bundle);
        let pid = shim.client.create(&bundle).unwrap();
        bench.faults.set(&[&format!("{after}=error")]);
        shim.client.start(&id).expect_err(&after);
        assert!(bench.faults.has_fired(name), "{after}");
        bench.faults.set(&[]);
        match shim.client.status(&id) {
            // Before the gate: nothing has happened, and it may be tried again.
            Ok(Status::CREATED) => {
                assert_eq!(bench.record(&id).unwrap()["state"], "created", "{after}");
                assert_eq!(shim.client.start(&id), Ok(pid), "{after}");
                assert_eq!(shim.client.wait(&id), Ok(6), "{after}");
                assert!(bundle.output().contains("exit=6"), "{after}: stdio is as before");
                bench.events.expect(&id, &["create", "start", "exit"]);
            }
            // Behind it: an end, which is told after the failure.
            Ok(Status::STOPPED) => {
                assert_eq!(shim.client.wait(&id), Ok(128), "{after}");
                bundle.output();
                assert_eq!(
                    shim.client.start(&id).unwrap_err().code,
                    Some(Code::FAILED_PRECONDITION),
                    "{after}"
                );
                bench.events.expect(&id, &["create", "exit"]);
            }
            other => panic!("{after}: {other:?}"),
        }
        bench.end(&shim, bundle);
        assert_gone(&bench, &id, &after);
    }
    bench.finish();
}

#[test]
fn a_crash_or_an_error_at_every_point_of_delete_is_made_up_for() {
    let Some(bench) = Bench::with_faults() else { return };
    let delete = |client: &Client, bundle: &Bundle| {
        client.delete(&bundle.id).unwrap();
        client.create(bundle).unwrap();
    };
    let points = dry_run(&bench, &Spec::tiny("hang"), create, delete).daemon;
    // Behind the undo comes the Create that the dry run ends with.
    let last = points.iter().position(|(name, _)| name == "cgroup.before-intent").unwrap();
    let points = &points[..last];
    assert!(points.iter().any(|(name, _)| name == "cgroup.undone"), "{points:?}");
    for (n, (name, passage)) in points.iter().enumerate() {
        let id = format!("c{n}");
        let bundle = bench.bundle(&id, &Spec::tiny("hang")).without_stdio();
        let shim = bench.start(&bundle);
        let pid = shim.client.create(&bundle).unwrap();
        let after = format!("kill at {name}#{passage}");
        bench.faults.set(&[&format!("{name}#{passage}=kill")]);
        shim.client.delete(&id).expect_err(&after);
        assert!(shim.daemon.ends_within(SOON), "{after}");
        bench.faults.set(&[]);
        recover(&bench, bundle, n % 2 == 0, &after);

        let after = format!("error at {name}#{passage}");
        let bundle = bench.bundle(&id, &Spec::tiny("hang")).without_stdio();
        let shim = bench.start(&bundle);
        assert_ne!(shim.client.create(&bundle), Ok(pid));
        bench.faults.set(&[&format!("{name}#{passage}=error")]);
        let deleted = shim.client.delete(&id);
        bench.faults.set(&[]);
        if let Err(failure) = deleted {
            assert!(failure.message.contains("injected fault"), "{after}: {failure:?}");
            eventually(&format!("{after}: it is tried again"), || {
                bench.record(&id).is_none_or(|record| record["tombstone"] == true)
            });
        }
        bench.delete(&bundle).deleted();
        assert_gone(&bench, &id, &after);
        shim.client.shutdown(&id);
        assert!(shim.daemon.ends_within(SOON), "{after}");
        bundle.remove();
        bench.check();
    }
    bench.finish();
}

#[test]
fn an_exit_that_cannot_be_written_down_is_told_all_the_same() {
    let Some(bench) = Bench::with_faults() else { return };
    let bundle = bench.bundle("c1", &Spec::tiny("hang")).without_stdio();
    let shim = bench.start(&bundle);
    shim.client.create(&bundle).unwrap();
    shim.client.start("c1").unwrap();
    bench.faults.set(&["record.rename=error"]);
    shim.client.kill("c1", 15).unwrap();
    assert_eq!(shim.client.wait("c1"), Ok(143));
    assert_eq!(shim.client.status("c1"), Ok(Status::STOPPED));
    bench.events.expect("c1", &["create", "start", "exit"]);
    bundle.wait_for_log("the exit was not recorded");
    assert_eq!(bench.record("c1").unwrap()["state"], "running", "the old record is whole");
    assert_eq!(shim.client.delete("c1").map(|d| d.exit_status), Ok(143), "a full disk stops no undo");
    bench.faults.set(&[]);
    assert_gone(&bench, "c1", "a full disk");
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

// Twenty seconds of waiting, while the others work.
#[test]
fn a_launcher_that_hangs_is_given_up() {
    let Some(bench) = Bench::with_faults() else { return };
    let bundle = bench.bundle("c1", &Spec::tiny("hang")).without_stdio();
    let shim = bench.start(&bundle);
    bench.faults.set(&["launcher.root=delay:60000"]);
    let began = Instant::now();
    let failure = shim.client.send_create(&bundle, Duration::from_secs(40)).wait().unwrap_err();
    assert_eq!(failure.code, Some(Code::DEADLINE_EXCEEDED), "{failure:?}");
    assert!((18..26).contains(&began.elapsed().as_secs()), "after {:?}", began.elapsed());
    bench.faults.set(&[]);
    assert_gone(&bench, "c1", "a hanging launcher");
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

// ---- #598 ----

/// Reads every record again and again while others write them.
fn keep_reading(folder: &Path) -> (Arc<AtomicBool>, thread::JoinHandle<usize>) {
    let stop = Arc::new(AtomicBool::new(false));
    let (folder, stopped) = (folder.to_owned(), stop.clone());
    let reader = thread::spawn(move || {
        let read = AtomicUsize::new(0);
        while !stopped.load(Ordering::SeqCst) {
            for directory in fs::read_dir(&folder).into_iter().flatten().flatten() {
                if let Ok(text) = fs::read(directory.path().join("record.json")) {
                    check_record(&text).unwrap_or_else(|e| panic!("while it is written: {e}"));
                    read.fetch_add(1, Ordering::SeqCst);
                }
            }
            thread::sleep(Duration::from_micros(500));
        }
        read.into_inner()
    });
    (stop, reader)
}

/// Create, start, wait, delete, as far as the daemon lives.
fn live(client: &Client, bundle: &Bundle) {
    let id = &bundle.id;
    if client.create(bundle).is_ok() && client.start(id).is_ok() && client.wait(id).is_ok() {
        client.delete(id).ok();
    }
}

/// urunc #598: `state.json` was written in place; a crash in mid-write left a file that no verb could read again.
#[test]
fn urunc_598_every_record_is_whole_whenever_the_daemon_is_killed() {
    const ROUNDS: u64 = 120;
    let Some(bench) = Bench::with_faults() else { return };
    let seed = std::process::id().into();
    eprintln!("seed {seed}");
    let mut random = Random(seed);
    let (stop, reader) = keep_reading(&bench.folder().join(&bench.namespace));
    let (mut inside, mut kills, mut found) = (0, 0, 0);
    for round in 0..ROUNDS {
        let bundle = bench.bundle("c1", &Spec::tiny("exit=1")).without_stdio();
        let Shim { client, daemon, .. } = bench.start(&bundle);
        let point =
            ["record.write", "record.torn", "record.rename"][usize::try_from(random.below(3)).unwrap()];
        let by_fault = round % 3 != 2;
        let what = if by_fault {
            // A life has about ten writes.
            let fault = format!("{point}#{}=kill", 1 + random.below(9));
            bench.faults.set(&[&fault]);
            live(&client, &bundle);
            inside += usize::from(bench.faults.has_fired(point));
            fault
        } else {
            let moment = Duration::from_micros(random.below(120_000));
            let lives = thread::scope(|scope| {
                let life = scope.spawn(|| live(&client, &bundle));
                let began = Instant::now();
                thread::sleep(moment.saturating_sub(began.elapsed()));
                let lives = daemon.is_alive();
                daemon.kill();
                life.join().unwrap();
                lives
            });
            format!("after {moment:?}, it lived: {lives}")
        };
        // One that outlived its fault ends here all the same.
        daemon.kill();
        kills += 1;
        bench.faults.set(&[]);
        let record = bench.run_directory("c1").join("record.json");
        if let Ok(text) = fs::read(&record) {
            check_record(&text).unwrap_or_else(|e| panic!("seed {seed}, round {round}, {what}: {e}"));
            found += 1;
        }
        if round % 4 == 3 {
            // Nobody cleans up: the next Create does.
            bundle.remove();
            continue;
        }
        let deleted = bench.delete(&bundle);
        let status = deleted.deleted().exit_status;
        assert!([1, 137].contains(&status), "seed {seed}, round {round}, {what}: exit {status}");
        // Killed before its first own write, it has left the record of an older round, for which no `delete` will
        // come: another one's bundle is none of this `delete`'s business.
        let is_older = |record: Value| record["bundle"]["ino"] != fs::metadata(&bundle.path).unwrap().ino();
        let older = bench.record("c1").is_some_and(is_older);
        if !older {
            // A `gc` that found it locked removes the folder behind the `delete`.
            eventually("the run directory goes", || !bench.run_directory("c1").exists());
            assert_gone(&bench, "c1", &format!("seed {seed}, round {round}, {what}"));
        }
        bundle.remove();
        if round % 10 == 5 && !older {
            bench.check();
        }
    }
    stop.store(true, Ordering::SeqCst);
    let read = reader.join().expect("every record that was read was whole");
    eprintln!("{kills} kills, {inside} of them inside a write; {found} records found, {read} read meanwhile");
    assert!(kills >= 100 && inside >= 40 && found >= 40 && read >= 100);
    bench.run("c1", 0);
    bench.finish();
}

// Here because it only waits, while the others work.
#[test]
fn a_pod_whose_bundles_are_gone_is_ended_after_a_minute() {
    let Some(bench) = Bench::released() else { return };
    let sandbox = bench.bundle("pod", &Spec::sandbox()).without_stdio();
    let shim = bench.start(&sandbox);
    let pid = shim.client.create(&sandbox).unwrap();
    shim.client.start("pod").unwrap();
    let member = bench.bundle("c1", &Spec::tiny("hang").member_of("pod", pid)).without_stdio();
    bench.start(&member);
    shim.client.create(&member).unwrap();
    shim.client.start("c1").unwrap();
    // Nothing is called for it: containerd knows nothing of it any more.
    sandbox.remove();
    member.remove();
    assert!(!shim.daemon.ends_within(Duration::from_secs(55)), "that was rash");
    assert_eq!(shim.client.status("c1"), Ok(Status::RUNNING));
    eventually("they are ended", || bench.processes("c1").is_empty() && bench.processes("pod").is_empty());
    eventually("nothing is left", || {
        !bench.run_directory("c1").exists() && !bench.run_directory("pod").exists()
    });
    // The daemon leaves as any that is idle; a Shutdown is quicker than the minute.
    shim.client.shutdown("pod");
    assert!(shim.daemon.ends_within(SOON));
    bench.finish();
}

#[test]
fn a_daemon_that_never_had_a_create_leaves_soon() {
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.bundle("c1", &Spec::tiny("hang")).without_stdio();
    let shim = bench.start(&bundle);
    let began = Instant::now();
    assert!(!shim.daemon.ends_within(Duration::from_secs(17)), "it left after {:?}", began.elapsed());
    assert!(shim.daemon.ends_within(Duration::from_secs(10)), "it stays");
    assert!(!bench.socket("c1").exists());
    bundle.remove();
    bench.finish();
}
