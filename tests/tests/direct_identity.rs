//! Who a process is, when that is hard to tell: a number that was used again, a process in another cgroup, one that is
//! just exiting, one whose leader is dead.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use proc_id::{Process, ProcessId, boot_id};
use rustix::process::Signal;
use serde_json::json;
use urunc_tests::direct::{
    Bench, Odd, Proc, SOON, Spec, eventually, eventually_some, hierarchies, leaves, skip,
};

/// Written by whoever makes a process that takes long to exit. Nothing tells of such a one whose it is, so that a look for
/// leaks beside it must find it.
static EXITING: RwLock<()> = RwLock::new(());

/// A bench, as long as nobody is exiting.
fn released() -> Option<(RwLockReadGuard<'static, ()>, Bench)> {
    let nobody = EXITING.read().unwrap_or_else(PoisonError::into_inner);
    Bench::released().map(|bench| (nobody, bench))
}

/// A stranger that has this pid, as soon as nobody else has it. `None`: that cannot be made to happen here.
fn stranger(pid: i32) -> Option<Odd> {
    // The kernel tells start times in ticks of 10 ms: a number is not used again within one, but by this test.
    std::thread::sleep(std::time::Duration::from_millis(30));
    eventually_some("the pid is free", || match Odd::with_pid(pid) {
        Err(e) if e.raw_os_error() == Some(libc::EEXIST) => None,
        Err(e) => {
            skip(&format!("a pid cannot be chosen here ({e})"));
            Some(None)
        }
        Ok(odd) => Some(Some(odd)),
    })
}

/// Makes this process the one that the record names.
fn record_process(bench: &Bench, id: &str, pid: i32) {
    let process = Process::of_child(pid.cast_unsigned()).unwrap();
    bench.edit_record(id, |record| record["process"] = json!(process.id()));
}

#[test]
fn a_process_that_got_the_pid_of_a_dead_one_is_another_one() {
    let mut child = Command::new("sleep").arg("3600").stdin(Stdio::null()).spawn().unwrap();
    let held = Process::of_child(child.id()).unwrap();
    let id = held.id().clone();
    child.kill().unwrap();
    child.wait().unwrap();
    // A tick is the start time's unit.
    std::thread::sleep(Duration::from_millis(20));
    let Some(stranger) = stranger(id.pid) else { return };
    assert_eq!(stranger.pid(), id.pid);
    assert!(id.open().unwrap().is_none(), "it is somebody else");
    assert!(id.is_dead().unwrap());
    // Who was opened in time is held by it, and a signal reaches nobody.
    assert!(!held.signal(Signal::KILL).unwrap());
    assert!(held.is_dead().unwrap());
    let now = Process::of_child(id.pid.cast_unsigned()).unwrap().id().clone();
    assert_ne!(now.start_time, id.start_time);
    assert!(!stranger.is_dead());
}

#[test]
fn the_stranger_that_got_the_monitors_pid_is_never_signalled() {
    let Some((_nobody, bench)) = released() else { return };
    for (situation, verb) in
        [("created", "delete"), ("running", "delete"), ("created", "create"), ("running", "sweep")]
    {
        let (shim, bundle, pid) = bench.created("c1", &Spec::tiny("hang"));
        if situation == "running" {
            shim.client.start("c1").unwrap();
        }
        shim.daemon.kill();
        let stranger = stranger(pid.cast_signed());
        let recorded = bench.record("c1").unwrap()["process"]["pid"].clone();
        assert_eq!(recorded, pid, "{situation}");
        match verb {
            "delete" => {
                assert_eq!(bench.delete(&bundle).deleted().pid, pid);
                bundle.remove();
            }
            "create" => {
                bundle.remove();
                bench.run("c1", 3);
            }
            _ => {
                let (other, sweeper, _) = bench.created("sweeper", &Spec::tiny("hang"));
                eventually("the sweep", || bench.record("c1").is_some_and(|r| r["tombstone"] == true));
                bench.end(&other, sweeper);
                bench.delete(&bundle).deleted();
                bundle.remove();
            }
        }
        if let Some(stranger) = stranger {
            assert!(!stranger.is_dead(), "{situation}, {verb}: the stranger was killed");
            assert_eq!(stranger.proc().comm(), "sleep");
            assert_eq!(stranger.proc().state(), Some('S'), "{situation}, {verb}: it was touched");
        }
        bench.check();
    }
    bench.finish();
}

#[test]
fn the_stranger_that_got_a_daemons_pid_is_never_signalled() {
    let Some((_nobody, bench)) = released() else { return };
    let (shim, bundle, _) = bench.created("c1", &Spec::tiny("hang"));
    shim.daemon.kill();
    let stranger = stranger(shim.daemon.pid());
    // Somebody holds the dead daemon's owner lock, as if it lived: `delete` looks for a daemon that does not answer.
    let owner = bench.record("c1").unwrap()["owner"].as_str().unwrap().to_owned();
    let lock = fs::File::open(bench.folder().join(".owners").join(owner)).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert_ne!(bench.delete(&bundle).code, Some(0));
    drop(lock);
    if let Some(stranger) = stranger {
        assert!(!stranger.is_dead(), "the stranger was killed");
        assert_eq!(stranger.proc().state(), Some('S'), "it was touched");
    }
    eventually("gc has ended", || bench.actions("gc").is_empty());
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

/// A cgroup of an administrator's, below the bench's own, in every hierarchy that has one.
struct Elsewhere(Vec<PathBuf>);

impl Elsewhere {
    fn new(bench: &Bench) -> Self {
        Self::only(bench, |_| true)
    }

    /// In those hierarchies only in whose folders something is.
    fn only(bench: &Bench, is_wanted: impl Fn(&Path) -> bool) -> Self {
        let folders = hierarchies().into_iter().map(|h| h.join(&bench.namespace)).filter(|f| f.is_dir());
        let folders: Vec<_> = folders.filter(|f| is_wanted(f)).map(|f| f.join("elsewhere")).collect();
        assert!(!folders.is_empty());
        folders.iter().for_each(|folder| fs::create_dir(folder).unwrap());
        Self(folders)
    }

    fn take(&self, pid: i32) {
        for folder in &self.0 {
            fs::write(folder.join("cgroup.procs"), pid.to_string()).unwrap();
        }
        let there = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(there.contains("/elsewhere") && !there.contains("/urunc-"), "{there}");
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        for folder in &self.0 {
            // An ended process leaves its cgroup a moment after its end is seen.
            let deadline = std::time::Instant::now() + SOON;
            while fs::remove_dir(folder).is_err() && std::time::Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

#[test]
fn a_process_that_was_moved_to_another_cgroup_is_found_and_killed() {
    let Some((_nobody, bench)) = released() else { return };
    let elsewhere = Elsewhere::new(&bench);
    // The daemon lives: Kill, Delete; and the `delete` action.
    let (shim, bundle, pid) = bench.created("c1", &Spec::tiny("hang"));
    shim.client.start("c1").unwrap();
    let monitor = Proc::of(pid.cast_signed());
    elsewhere.take(monitor.pid());
    bench.end(&shim, bundle);
    assert!(!monitor.is_alive());
    let (shim, bundle, pid) = bench.created("c1", &Spec::tiny("hang"));
    let monitor = Proc::of(pid.cast_signed());
    elsewhere.take(monitor.pid());
    bench.delete(&bundle).deleted();
    assert!(!monitor.is_alive());
    shim.daemon.signal(Signal::TERM);
    assert!(shim.daemon.ends_within(SOON));
    bundle.remove();
    // The daemon is dead, and what outlived it is known by the record alone.
    let (shim, bundle, _) = bench.created("c1", &Spec::tiny("hang"));
    shim.daemon.kill();
    let mut survivor = sleeper();
    let process = Proc::of(survivor.id().cast_signed());
    elsewhere.take(process.pid());
    record_process(&bench, "c1", process.pid());
    bench.delete(&bundle).deleted();
    assert!(process.ends_within(Duration::ZERO), "`delete` is done when it is dead");
    survivor.wait().unwrap();
    bundle.remove();
    drop(elsewhere);
    bench.finish();
}

fn sleeper() -> Child {
    Command::new("sleep").arg("3600").stdin(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_process_that_is_exiting_and_in_no_cgroup_any_more_is_alive() {
    let _alone = EXITING.write().unwrap_or_else(PoisonError::into_inner);
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle, _) = bench.created("c1", &Spec::tiny("hang"));
    shim.daemon.kill();
    let (heavy, busy) = Odd::heavy(512 << 20);
    // In a cgroup, but not in our leaf, which would wait for it; and in none that shares out the processor.
    let elsewhere = Elsewhere::only(&bench, |folder| !folder.join("cpu.shares").exists());
    elsewhere.take(heavy.pid());
    record_process(&bench, "c1", heavy.pid());
    let id = ProcessId {
        boot_id: boot_id().unwrap(),
        ..Process::of_child(heavy.pid().cast_unsigned()).unwrap().id().clone()
    };
    let deleting = bench.run_delete(&bundle);
    // Killed, it leaves its version 1 cgroups long before it has let go of its memory.
    let in_cgroup = || {
        let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", heavy.pid())).unwrap();
        cgroups.lines().any(|line| !line.starts_with("0::") && line.contains("/elsewhere"))
    };
    eventually("it is exiting", || !in_cgroup());
    assert!(!heavy.is_dead(), "it has memory still");
    assert!(!id.is_dead().unwrap());
    let deleted = deleting.wait();
    if heavy.is_dead() {
        panic!("it died within {:?}, which is no test of anything: {deleted:?}", deleted.took);
    }
    assert_ne!(deleted.code, Some(0), "it said that all is gone while the process lives");
    assert_eq!(bench.record("c1").unwrap()["tombstone"], false);
    assert!(!id.is_dead().unwrap());
    // It is waited for in the background, and then all is well.
    drop(busy);
    eventually("it is dead", || heavy.is_dead());
    eventually("gc has done the rest", || bench.record("c1").is_none_or(|r| r["tombstone"] == true));
    eventually("gc has ended", || bench.actions("gc").is_empty());
    bench.delete(&bundle).deleted();
    bundle.remove();
    drop((heavy, elsewhere));
    bench.finish();
}

#[test]
fn a_process_whose_leader_is_a_zombie_is_alive_as_long_as_a_thread_is() {
    let headless = Odd::headless();
    let process = Process::of_child(headless.pid().cast_unsigned()).unwrap();
    let id = process.id().clone();
    assert!(!process.is_dead().unwrap());
    assert!(!id.is_dead().unwrap());
    assert!(id.open().unwrap().is_some());
    drop((process, headless));

    let Some((_nobody, bench)) = released() else { return };
    for in_leaf in [true, false] {
        let (shim, bundle, _) = bench.created("c1", &Spec::tiny("hang"));
        shim.daemon.kill();
        let headless = Odd::headless();
        if in_leaf {
            for leaf in leaves(&bench.namespace, "c1") {
                fs::write(leaf.join("cgroup.procs"), headless.pid().to_string()).unwrap();
            }
        }
        record_process(&bench, "c1", headless.pid());
        bench.delete(&bundle).deleted();
        assert!(headless.is_dead(), "in the leaf: {in_leaf}: `delete` is done when all of it is dead");
        bundle.remove();
        bench.check();
    }
    bench.finish();
}
