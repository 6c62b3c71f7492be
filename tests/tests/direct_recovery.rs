//! Recovery: an undo that was killed is resumed, one that is stuck is tried again, what cannot be understood harms
//! nobody else, and what takes long goes on without the one who asked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use containerd_shim_protos::{
    api::{ConnectResponse, DeleteRequest, Status},
    ttrpc::Code,
};
use rustix::fs::{FlockOperation, flock};
use serde_json::json;
use urunc_tests::direct::{
    Bench, Bundle, Opened, Proc, SOON, Spec, check_record, eventually, hierarchies, leaves, seal, skip,
};

/// What `delete` may take of the 5 s that containerd gives it, where it has to give up.
const BUDGET: Duration = Duration::from_millis(4700);

fn is_buried(bench: &Bench, id: &str) -> bool {
    bench.record(id).is_none_or(|record| record["tombstone"] == true)
}

/// How far the undo of these steps has come, by the record.
fn phase(bench: &Bench, id: &str, step: &str) -> String {
    let record = bench.record(id).unwrap();
    let journal = record["journal"].as_array().unwrap();
    let entry = journal.iter().find(|e| e["step"] == step).unwrap_or_else(|| panic!("no {step} in {record}"));
    entry["phase"].as_str().unwrap().to_owned()
}

// ---- the bundle ----

#[test]
fn an_orphan_is_cleaned_up_though_its_bundle_is_gone() {
    let Some(bench) = Bench::released() else { return };
    // The working directory of `delete` vanishes under it: it still is that of its container.
    let (bundle, _) = bench.orphaned("c1");
    let delete = bench.command("delete", "c1", &bundle.path);
    let mut script = Command::new("sh");
    script
        .args(["-c", "rm -rf \"$PWD\"; exec \"$@\"", "sh"])
        .arg(delete.get_program())
        .args(delete.get_args());
    script.current_dir(&bundle.path).envs(delete.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let output = script.output().unwrap();
    assert!(output.status.success() && !output.stdout.is_empty(), "{output:?}");
    assert!(!bundle.path.exists() && !bench.run_directory("c1").exists());
    bundle.remove();
    bench.check();

    // It is gone before `delete` comes, which is therefore executed elsewhere: what it means cannot be known.
    let (bundle, _) = bench.orphaned("c1");
    let path = bundle.path.clone();
    bundle.remove();
    let late = bench.command("delete", "c1", &path).current_dir("/").output().unwrap();
    assert!(late.status.success() && !late.stdout.is_empty(), "{late:?}");
    assert!(!leaves(&bench.namespace, "c1").is_empty(), "it does nothing");
    // The next container of the same id sees to it, or any other one of the same containerd.
    bench.run("c1", 3);
    bench.check();
    let (bundle, _) = bench.orphaned("c1");
    bundle.remove();
    bench.run("c2", 4);
    eventually("what was swept waits for nobody", || !bench.run_directory("c1").exists());
    bench.finish();
}

// ---- an undo that was killed ----

/// The rollback of a Create, killed at each of its points: `delete` resumes it, or the next Create.
#[test]
fn a_rollback_that_was_killed_is_resumed() {
    let Some(bench) = Bench::with_faults() else { return };
    let failing = "commit.before=error";
    let bundle = bench.bundle("dry", &Spec::tiny("hang")).without_stdio();
    let shim = bench.start(&bundle);
    bench.faults.set(&["*=trace", failing]);
    shim.client.create(&bundle).unwrap_err();
    let passed: Vec<String> = bench.faults.fired().into_iter().map(|f| f.name).collect();
    bench.faults.set(&[]);
    shim.client.shutdown("dry");
    assert!(shim.daemon.ends_within(SOON));
    bench.delete(&bundle).deleted();
    bundle.remove();
    // Traced and failed: it is there twice.
    let from = passed.iter().rposition(|name| name == "commit.before").unwrap() + 1;
    let points = &passed[from..];
    for must in ["launcher.undo", "launcher.undone", "cgroup.undo", "cgroup.undone"] {
        assert!(points.iter().any(|name| name == must), "{must} is not among {points:?}");
    }
    for (n, name) in points.iter().enumerate() {
        for resumed_by in ["delete", "create"] {
            let when = format!("killed at {name}, resumed by {resumed_by}");
            let bundle = bench.bundle("c1", &Spec::tiny("hang")).without_stdio();
            let shim = bench.start(&bundle);
            // Points of the record are passed before, too.
            let passage = passed[..=from + n].iter().filter(|p| *p == name).count();
            bench.faults.set(&[failing, &format!("{name}#{passage}=kill")]);
            shim.client.create(&bundle).expect_err(&when);
            assert!(shim.daemon.ends_within(SOON) && bench.faults.has_fired(name), "{when}");
            bench.faults.set(&[]);
            if resumed_by == "delete" {
                assert_eq!(bench.delete(&bundle).deleted().exit_status, 137, "{when}");
                assert!(!bench.run_directory("c1").exists(), "{when}");
            }
            bundle.remove();
            bench.run("c1", 5);
            bench.check();
        }
    }
    bench.finish();
}

/// What an undo has done is known to the next one, which begins where it stopped.
#[test]
fn an_undo_is_resumed_where_it_stopped() {
    let Some(bench) = Bench::with_faults() else { return };
    let (bundle, pid) = bench.orphaned("c1");
    bench.faults.set(&["cgroup.undo=error"]);
    assert_ne!(bench.delete(&bundle).code, Some(0));
    assert_eq!(
        (phase(&bench, "c1", "launcher"), phase(&bench, "c1", "cgroup")),
        ("undone".into(), "done".into())
    );
    // Killed in the middle of it, as often as you like.
    for _ in 0..3 {
        bench.end_gc();
        bench.faults.set(&["cgroup.undo=kill"]);
        assert_eq!(bench.delete(&bundle).code, None, "it was to be killed");
        assert!(bench.faults.has_fired("cgroup.undo"));
        bench.faults.set(&["cgroup.undo=error"]);
        assert_ne!(bench.delete(&bundle).code, Some(0));
    }
    bench.end_gc();
    bench.faults.set(&["*=trace"]);
    let deleted = bench.delete(&bundle).deleted();
    assert_eq!((deleted.pid, deleted.exit_status), (pid, 137));
    assert!(bench.faults.has_fired("cgroup.undo"));
    assert!(!bench.faults.has_fired("launcher.undo"), "what was undone is undone again");
    bench.faults.set(&[]);
    bundle.remove();
    bench.finish();
}

// ---- an undo that is stuck ----

/// The times at which a point was passed by the first who passed it, or by those behind him.
fn passages(bench: &Bench, point: &str, by_first: bool, many: usize) -> Vec<Duration> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let fired: Vec<_> = bench.faults.fired().into_iter().filter(|f| f.name == point).collect();
        let meant = fired.iter().filter(|f| (f.pid == fired[0].pid) == by_first);
        let times: Vec<_> = meant.map(|f| f.at).take(many).collect();
        if times.len() == many {
            return times;
        }
        assert!(Instant::now() < deadline, "{point} was tried {} times", times.len());
        thread::sleep(Duration::from_millis(5));
    }
}

/// The pauses are at least so long, in milliseconds.
#[track_caller]
fn backs_off(times: &[Duration], least: &[u64], who: &str) {
    let pauses: Vec<Duration> = times.windows(2).map(|two| two[1] - two[0]).collect();
    let are_long = pauses.iter().zip(least).all(|(pause, ms)| *pause >= Duration::from_millis(*ms));
    assert!(are_long && pauses.len() == least.len(), "{who} does not back off: {pauses:?}");
}

/// A process that does not die, simulated: what it holds is not touched, and the daemon tries again, less and less
/// often.
#[test]
fn a_daemon_tries_a_blocked_undo_again_with_growing_pauses() {
    let Some(bench) = Bench::with_faults() else { return };
    let (shim, bundle, pid) = bench.created("c1", &Spec::tiny("hang"));
    bench.faults.set(&["launcher.undo=error"]);
    let failure = shim.client.delete("c1").unwrap_err();
    assert!(failure.message.contains("blocked: cgroup"), "what it holds is not touched: {failure:?}");
    assert!(!leaves(&bench.namespace, "c1").is_empty());
    // The first is the Delete's own, the second comes with the next tick.
    let times = passages(&bench, "launcher.undo", true, 4);
    // Each is due 2 and 4 s behind the one before it, and a busy machine lets one of them begin late.
    backs_off(&times[1..], &[1600, 3200], "the daemon");
    shim.client.shutdown("c1");
    assert!(shim.daemon.is_alive(), "it leaves a record that is blocked");
    assert_eq!(shim.client.status("c1"), Ok(Status::STOPPED));
    bench.faults.set(&[]);
    let process = Proc::find(pid.cast_signed());
    // Somebody who asks need not wait for the next try.
    shim.client.delete("c1").unwrap();
    assert!(process.is_none_or(|p| !p.is_alive()) && leaves(&bench.namespace, "c1").is_empty());
    shim.client.shutdown("c1");
    assert!(shim.daemon.ends_within(SOON));
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

#[test]
fn a_detached_gc_tries_a_blocked_undo_again_with_growing_pauses() {
    let Some(bench) = Bench::with_faults() else { return };
    let (bundle, pid) = bench.orphaned("c1");
    bench.faults.set(&["cgroup.undo=error"]);
    assert_ne!(bench.delete(&bundle).code, Some(0));
    // It tried for as long as it may. gc's first try is at once.
    let times = passages(&bench, "cgroup.undo", false, 4);
    backs_off(&times, &[200, 400, 800], "gc");
    bench.faults.set(&[]);
    eventually("gc is done", || is_buried(&bench, "c1") && bench.actions("gc").is_empty());
    assert!(leaves(&bench.namespace, "c1").is_empty());
    assert_eq!(bench.delete(&bundle).deleted().pid, pid);
    bundle.remove();
    bench.finish();
}

/// A cgroup of version 1 that is frozen: who is in it does not even die of SIGKILL.
struct Ice(PathBuf);

impl Ice {
    /// `None`: this host has none, which was said.
    fn new() -> Option<Self> {
        let Some(top) =
            hierarchies().into_iter().find(|h| h.join("cgroup.procs").exists() && h.ends_with("freezer"))
        else {
            skip("a process that does not die needs the freezer of cgroup v1");
            return None;
        };
        // Not the bench's: it is there longer than what is looked at.
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::SeqCst);
        let folder = top.join(format!("ice-{}-{number}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        Some(Self(folder))
    }

    fn freeze(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
        fs::write(self.0.join("freezer.state"), "FROZEN").unwrap();
        eventually("it is frozen", || {
            fs::read_to_string(self.0.join("freezer.state")).unwrap().trim() == "FROZEN"
        });
    }

    fn melt(&self) {
        fs::write(self.0.join("freezer.state"), "THAWED").unwrap();
    }
}

impl Drop for Ice {
    fn drop(&mut self) {
        self.melt();
        let deadline = Instant::now() + SOON;
        while fs::remove_dir(&self.0).is_err() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The real thing: neither RPC Delete nor `delete` claim what is not so, and both are made good when it can be done.
#[test]
fn a_process_that_does_not_die_blocks_and_is_waited_for() {
    let Some(bench) = Bench::with_faults() else { return };
    let Some(ice) = Ice::new() else { return bench.finish() };
    let (shim, bundle, pid) = bench.created("c1", &Spec::tiny("hang"));
    shim.client.start("c1").unwrap();
    eventually("that of `start` has gone", || bench.actions("gc").is_empty());
    let process = Proc::of(pid.cast_signed());
    ice.freeze(pid);
    shim.client.kill("c1", 9).unwrap();
    assert_eq!(shim.client.status("c1"), Ok(Status::RUNNING), "it lives");
    assert_eq!(shim.client.delete("c1").unwrap_err().code, Some(Code::FAILED_PRECONDITION));
    assert!(bench.actions("gc").is_empty(), "it is served still");
    // The end that needs no permission: as of a container that containerd has forgotten.
    bench.faults.set(&["deadline.end=300", "deadline.retry=300"]);
    let deleted = bench.delete(&bundle);
    assert!(bench.faults.has_fired("deadline.end"));
    assert!(deleted.code != Some(0) && deleted.took < BUDGET, "{deleted:?}");
    assert!(!is_buried(&bench, "c1") && !leaves(&bench.namespace, "c1").is_empty() && process.is_alive());
    eventually("the daemon tries again", || bench.faults.has_fired("deadline.retry"));
    ice.melt();
    eventually("it is done", || is_buried(&bench, "c1"));
    assert!(!process.is_alive() && leaves(&bench.namespace, "c1").is_empty());
    bench.faults.set(&[]);
    eventually("all but the daemon's own gc have ended", || bench.actions("gc").len() == 1);
    assert_eq!(bench.delete(&bundle).deleted().exit_status, 137);
    shim.client.shutdown("c1");
    assert!(shim.daemon.ends_within(SOON) && bench.actions("gc").is_empty());
    bundle.remove();
    bench.check();

    // With the daemon dead: `delete` says in time that it is not done, and gc goes on.
    let (shim, bundle, pid) = bench.created("c1", &Spec::tiny("hang"));
    let process = Proc::of(pid.cast_signed());
    ice.freeze(pid);
    shim.daemon.kill();
    let deleted = bench.delete(&bundle);
    assert!(deleted.code != Some(0) && deleted.took < Duration::from_millis(4900), "{deleted:?}");
    assert_eq!((deleted.answer().pid, deleted.answer().exit_status), (pid, 137));
    assert!(process.is_alive());
    ice.melt();
    eventually("gc is done", || is_buried(&bench, "c1") && bench.actions("gc").is_empty());
    assert!(!process.is_alive());
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

/// Some containerds call nothing for the members: what a sandbox's `delete` could not do for them its gc does.
#[test]
fn what_a_sandboxs_delete_cannot_finish_for_its_members_goes_on_without_it() {
    let Some(bench) = Bench::released() else { return };
    let Some(ice) = Ice::new() else { return bench.finish() };
    let (shim, sandbox, _) = bench.created("pod", &Spec::sandbox().in_pod("pod"));
    let (_, first, stuck) = bench.created("c1", &Spec::tiny("hang").in_pod("pod"));
    let (_, second, _) = bench.created("c2", &Spec::tiny("hang").in_pod("pod"));
    ice.freeze(stuck);
    shim.daemon.kill();
    let deleted = bench.delete(&sandbox);
    assert!(deleted.code != Some(0) && deleted.took < Duration::from_millis(4900), "{deleted:?}");
    assert!(is_buried(&bench, "c2"), "one that is stuck holds up another one");
    ice.melt();
    eventually("gc is done", || ["pod", "c1"].iter().all(|id| is_buried(&bench, id)));
    eventually("gc has ended", || bench.actions("gc").is_empty());
    for id in ["pod", "c1", "c2"] {
        assert_eq!(leaves(&bench.namespace, id), Vec::<&Path>::new(), "{id}");
    }
    for bundle in [first, second, sandbox] {
        bench.delete(&bundle).deleted();
        bundle.remove();
    }
    bench.finish();
}

// ---- what cannot be understood ----

#[test]
fn a_member_whose_record_cannot_be_read_affects_no_other() {
    let Some(bench) = Bench::released() else { return };
    let newer = seal(&json!({"schema": 99}));
    for (what, garbage) in [("torn", "{\"schema\":1,\"name"), ("newer", newer.as_str())] {
        let (shim, sandbox, _) = bench.created("pod", &Spec::sandbox().in_pod("pod"));
        let (_, broken, _) = bench.created("c1", &Spec::tiny("hang").in_pod("pod"));
        let (_, member, pid) = bench.created("c2", &Spec::tiny("hang").in_pod("pod"));
        let (stranger, other, _) = bench.created("other", &Spec::tiny("hang"));
        fs::write(bench.run_directory("c1").join("record.json"), garbage).unwrap();
        shim.daemon.kill();
        bench.delete(&sandbox).deleted();
        for id in ["pod", "c1", "c2"] {
            assert_eq!(leaves(&bench.namespace, id), Vec::<&Path>::new(), "{what}: {id}");
        }
        let kept = if what == "torn" { "record.json.unreadable" } else { "record.json" };
        let kept = bench.run_directory("c1").join(kept);
        assert_eq!(fs::read_to_string(&kept).unwrap(), garbage, "{what}");
        assert_eq!(bench.delete(&member).deleted().pid, pid, "{what}");
        assert_eq!(stranger.client.status("other"), Ok(Status::CREATED), "{what}");
        bench.end(&stranger, other);
        fs::remove_dir_all(bench.folder().join(&bench.namespace)).ok();
        [sandbox, broken, member].into_iter().for_each(Bundle::remove);
        bench.check();
    }
    bench.finish();
}

// ---- what takes long ----

/// MiB that can be had without driving others out.
fn available_mib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// `URUNC_TEST_BIG_GUEST_MIB` is the guest's RAM; 2048 in CI, 16384 by hand.
#[test]
fn the_memory_of_a_big_guest_is_free_in_time_or_handed_over() {
    let Some(bench) = Bench::released() else { return };
    let mib: u64 = env::var("URUNC_TEST_BIG_GUEST_MIB").ok().and_then(|n| n.parse().ok()).unwrap_or(2048);
    if available_mib() < mib + mib / 8 + 1024 {
        skip(&format!("a guest with {mib} MiB needs more memory than is free"));
        return bench.finish();
    }
    let spec = Spec::tiny("fill hang").memory(mib << 20);
    for daemon in ["is dead", "is stopped", "serves"] {
        let bundle = bench.bundle("big", &spec).without_stdio();
        let shim = bench.start(&bundle);
        let pid = shim.client.create(&bundle).unwrap();
        shim.client.start("big").unwrap();
        let guest = Proc::of(pid.cast_signed());
        let deadline = Instant::now() + Duration::from_secs(60 + mib / 4);
        while guest.is_alive() && resident_mib(pid) < mib * 9 / 10 {
            assert!(Instant::now() < deadline, "it has filled {} MiB of {mib}", resident_mib(pid));
            thread::sleep(Duration::from_millis(20));
        }
        let resident = resident_mib(pid);
        match daemon {
            "is dead" => shim.daemon.kill(),
            "is stopped" => shim.daemon.stop(),
            _ => {}
        }
        let deleted = bench.delete(&bundle);
        eprintln!(
            "{resident} MiB, the daemon {daemon}: `delete` took {:?}, {:?}",
            deleted.took, deleted.code
        );
        assert!(deleted.took < Duration::from_millis(4900), "{:?}", deleted.took);
        assert_eq!((deleted.answer().pid, deleted.answer().exit_status), (pid, 137));
        match deleted.code {
            Some(0) => {
                assert!(!guest.is_alive(), "it said that it was done");
                assert_eq!(leaves(&bench.namespace, "big"), Vec::<&Path>::new());
            }
            _ => {
                assert!(guest.ends_within(Duration::from_secs(60)), "it was handed over to nobody");
                eventually("the rest is done", || is_buried(&bench, "big"));
            }
        }
        if let Ok(text) = fs::read(bench.run_directory("big").join("record.json")) {
            check_record(&text).unwrap();
        }
        if daemon == "serves" {
            shim.client.shutdown("big");
        }
        assert!(shim.daemon.ends_within(SOON));
        eventually("gc has ended", || bench.actions("gc").is_empty());
        bench.delete(&bundle).deleted();
        bundle.remove();
        bench.check();
    }
    bench.finish();
}

/// What a process has in memory.
fn resident_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

// ---- another transaction of the same id ----

/// No transaction's, and no daemon's.
const OTHER_TXID: &str = "0123456789ab";
const OTHER_OWNER: &str = "0123456789abcdef";

#[test]
fn gc_is_for_its_own_transaction_only() {
    let Some(bench) = Bench::released() else { return };
    let (bundle, _) = bench.orphaned("c1");
    let gc_of_another = || {
        let gc = start_gc(&bench, &bundle, OTHER_TXID);
        assert!(gc.is_none_or(|gc| gc.ends_within(SOON)), "it goes on");
    };
    let record = bench.record("c1").unwrap();
    gc_of_another();
    assert_eq!(bench.record("c1").as_ref(), Some(&record), "it is another one's");
    // Where the record cannot be understood its marker tells.
    let path = bench.run_directory("c1").join("record.json");
    fs::write(&path, "{").unwrap();
    gc_of_another();
    assert_eq!(fs::read_to_string(&path).ok().as_deref(), Some("{"), "it is another one's");
    bench.put_record("c1", &record);
    start_gc(&bench, &bundle, record["txid"].as_str().unwrap());
    eventually("it is undone", || bench.record("c1").is_some_and(|record| record["tombstone"] == true));
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

/// What it finishes for a daemon is that one's, and never that of one that lives.
#[test]
fn gc_of_a_daemon_is_for_what_a_dead_one_has_left() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle, pid) = bench.created("c1", &Spec::tiny("hang"));
    let record = bench.record("c1").unwrap();
    let owner = record["owner"].as_str().unwrap();
    let gc_of = |owner: &str| gc(&bench, &bundle, ["-instance", owner]).expect("it runs");
    let early = gc_of(owner);
    thread::sleep(Duration::from_millis(1500));
    assert!(early.is_alive() && shim.client.status("c1") == Ok(Status::CREATED), "it waits for its end");
    shim.daemon.stop();
    thread::sleep(Duration::from_millis(1500));
    assert!(early.is_alive() && shim.daemon.is_alive() && Proc::of(pid.cast_signed()).is_alive());
    early.kill();
    shim.daemon.kill();
    let path = bench.run_directory("c1").join("record.json");
    for garbled in [true, false] {
        if garbled {
            fs::write(&path, "{").unwrap();
        } else {
            bench.put_record("c1", &record);
        }
        let before = fs::read(&path).unwrap();
        assert!(gc_of(OTHER_OWNER).ends_within(SOON), "it goes on");
        assert_eq!(fs::read(&path).unwrap(), before, "it is another one's");
    }
    gc_of(owner);
    eventually("it is undone", || bench.record("c1").is_some_and(|record| record["tombstone"] == true));
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

/// As a pod's containerd does whose `delete` was killed: it removes the bundle, and asks for nothing more.
#[test]
fn the_tombstone_that_gc_leaves_goes_with_its_bundle() {
    let Some(bench) = Bench::released() else { return };
    let (bundle, _) = bench.orphaned("c1");
    let txid = bench.record("c1").unwrap()["txid"].as_str().unwrap().to_owned();
    start_gc(&bench, &bundle, &txid);
    eventually("it is undone", || bench.record("c1").is_some_and(|record| record["tombstone"] == true));
    eventually("it has tidied up behind that", || !bench.socket("c1").exists());
    bundle.remove();
    eventually("nothing is left of it", || !bench.run_directory("c1").exists());
    bench.finish();
}

/// `gc` whose `delete` has ended: it finds the end of its stdin.
fn start_gc(bench: &Bench, bundle: &Bundle, txid: &str) -> Option<Proc> {
    gc(bench, bundle, ["-txid", txid])
}

#[allow(clippy::zombie_processes, reason = "in a session of its own it is reaped as daemons are")]
fn gc(bench: &Bench, bundle: &Bundle, [flag, value]: [&str; 2]) -> Option<Proc> {
    let mut command = bench.command(flag, &bundle.id, &bundle.path);
    let gc = command.args([value, "-group", &bundle.id, "gc"]).stdin(Stdio::null()).spawn().unwrap();
    Proc::find(gc.id().cast_signed())
}

#[test]
fn a_daemon_that_is_asked_to_end_a_container_ends_no_later_one_of_that_id() {
    let Some(bench) = Bench::released() else { return };
    let (shim, first, pid) = bench.created("c1", &Spec::tiny("hang"));
    let (_, second, _) = bench.created("c2", &Spec::tiny("hang").in_pod("c1"));
    let end = |id: &str, txid: &str| {
        let (id, exec_id) = (id.to_owned(), txid.to_owned());
        let request = DeleteRequest { id, exec_id, ..DeleteRequest::default() };
        let asked =
            shim.client.send_to::<ConnectResponse>("urunc.shim.v1.Daemon", "End", &request, Some(SOON));
        asked.wait().unwrap();
    };
    end("c1", OTHER_TXID);
    // By the time that this one is over, whatever was begun before has killed.
    end("c2", bench.record("c2").unwrap()["txid"].as_str().unwrap());
    eventually("c2 is ended", || is_buried(&bench, "c2"));
    assert_eq!(shim.client.status("c1"), Ok(Status::CREATED));
    assert!(Proc::of(pid.cast_signed()).is_alive());
    end("c1", bench.record("c1").unwrap()["txid"].as_str().unwrap());
    eventually("c1 is ended", || is_buried(&bench, "c1"));
    for bundle in [second, first] {
        bench.delete(&bundle).deleted();
        shim.client.shutdown(&bundle.id);
        bundle.remove();
    }
    assert!(shim.daemon.ends_within(SOON));
    bench.finish();
}

#[test]
fn a_delete_leaves_what_took_the_place_of_its_container_while_it_waited() {
    let Some(bench) = Bench::released() else { return };
    let (bundle, pid) = bench.orphaned("c1");
    let before = bench.record("c1").unwrap();
    let hold = |path: &Path| {
        let file = fs::File::options().write(true).create(true).truncate(false).open(path).unwrap();
        flock(&file, FlockOperation::LockExclusive).unwrap();
        file
    };
    let path = bench.run_directory("c1").join("lock");
    let lock = hold(&path);
    let opened = Opened::watch(&path);
    let delete = bench.run_delete(&bundle);
    // It knows which container it is for.
    opened.wait();
    // A Create of the same id has the lock, and its daemon lives.
    let owner = hold(&bench.folder().join(".owners").join(OTHER_OWNER));
    bench.edit_record("c1", |record| {
        (record["txid"], record["owner"]) = (OTHER_TXID.into(), OTHER_OWNER.into());
        record["cgroup"] = serde_json::Value::Null;
    });
    let anew = bench.record("c1");
    drop(lock);
    let deleted = delete.wait();
    assert_eq!((deleted.deleted().pid, deleted.stderr.as_str()), (pid, ""));
    assert_eq!(bench.record("c1"), anew, "it is another one's");
    // What the first one has is still to be cleaned up here.
    drop(owner);
    bench.put_record("c1", &before);
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}
