//! Making and removing leaves in the machine's own cgroups.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Failing, Place, Proc, eventually, soon};
use host_cgroup::{
    Amount, Error, Files, Kernel, LeafPlan, Limits, MemoryLimit, Presence, Version, create, probe, remove,
};
use rustix::io::{Errno, FdFlags, fcntl_getfd};

fn some_limits() -> Limits {
    let memory = Some(MemoryLimit { limit: Amount::At(64 << 20), with_swap: None });
    Limits { memory, pids: Some(Amount::At(50)), cpuset_cpus: Some("0".to_owned()), ..Limits::default() }
}

#[test]
fn create_and_remove_leave_nothing() {
    let Some(place) = Place::new() else { return };
    let plan = place.plain("/a/id", "t1");
    assert!(plan.hierarchies.iter().any(|h| h.version == Version::V2), "the v2 tree is always used");
    assert!(plan.hierarchies.iter().all(|h| h.to_make.len() == 3));
    assert_eq!(probe(&Kernel, &plan).unwrap(), Presence::Absent);
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<LeafPlan>(&text).unwrap(), plan);

    let fds = place.create(&plan);
    assert_eq!(fds.len(), plan.hierarchies.len());
    for fd in &fds {
        assert!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC));
    }
    assert!(
        plan.hierarchies.iter().all(|h| h.leaf_dir().ends_with("a/id/urunc-t1") && h.leaf_dir().is_dir())
    );
    assert_eq!(probe(&Kernel, &plan).unwrap(), Presence::Present);
    place.remove(&plan);
    assert_eq!(probe(&Kernel, &plan).unwrap(), Presence::Absent);
    place.remove(&plan);
    assert!(place.dirs().is_empty());
    assert_eq!(place.notes_left(), 0);
}

#[test]
fn parents_of_others_stay() {
    let Some(place) = Place::new() else { return };
    for h in place.hierarchies.iter() {
        fs::create_dir(h.mount.join(&place.name)).unwrap();
    }
    let before = place.dirs();
    let plan = place.plain("/a/id", "t1");
    assert!(plan.hierarchies.iter().all(|h| h.to_make.len() == 2));
    place.create(&plan);
    place.remove(&plan);
    assert_eq!(place.dirs(), before);
}

#[test]
fn a_process_can_put_itself_in() {
    let Some(place) = Place::new() else { return };
    let plan = place.plain("/id", "t1");
    // Into a v2 leaf a process is cloned; that is for who can clone3.
    let doors = place.create(&plan).into_iter().zip(&plan.hierarchies);
    for (fd, h) in doors.filter(|(_, h)| h.version == Version::V1) {
        let mut command = Command::new("/bin/sh");
        let child =
            command.args(["-c", "echo 0; read wait"]).stdin(Stdio::piped()).stdout(fd).spawn().unwrap();
        let child = Proc(child);
        let inside =
            || Kernel.read(&h.leaf_dir().join("cgroup.procs")).unwrap().trim() == child.0.id().to_string();
        eventually("in the leaf", inside);
    }
    place.remove(&plan);
}

#[test]
fn any_prefix_of_create_is_undone() {
    let Some(place) = Place::new() else { return };
    let limits = some_limits();
    let mut steps = 0;
    for fail_at in 0.. {
        let plan = place.plan("/a/id", "t1", &limits).unwrap();
        let files = Failing::new(&Kernel, |_: &str, _: &_, n| (n == fail_at).then_some(Errno::NOSPC));
        let outcome = create(&files, &plan, &limits, &place.notes);
        let failed = outcome.is_err();
        let outcome_text = format!("{:?}", outcome.map(drop));
        place.remove(&plan);
        assert!(place.dirs().is_empty(), "after a failure of step {fail_at}");
        if !failed && files.calls.get() <= fail_at {
            break;
        }
        steps = fail_at + 1;
        assert!(steps < 500, "it never succeeds: {outcome_text}");
    }
    let least = if place.has_v1() { 30 } else { 10 };
    assert!(steps > least, "{steps}");
    assert_eq!(place.notes_left(), 0);
}

#[test]
fn the_leaf_is_exclusive() {
    let Some(place) = Place::new() else { return };
    let plan = place.plain("/a/id", "t1");
    let last = plan.hierarchies.last().unwrap().leaf_dir();
    fs::create_dir_all(&last).unwrap();
    match create(&Kernel, &plan, &Limits::default(), &place.notes) {
        Err(Error::LeafExists { dir }) => assert_eq!(dir, last),
        other => panic!("{other:?}"),
    }
    // What the call had made in the other hierarchies is gone, the stranger's leaf and its parents are not.
    assert_eq!(place.dirs().last(), Some(&last));
    assert_eq!(place.dirs().len(), 4);
    assert_eq!(place.notes_left(), 0);
}

#[test]
fn a_busy_leaf_is_waited_for_and_reported() {
    let Some(place) = Place::new() else { return };
    let plan = place.plain("/id", "t1");
    place.create(&plan);
    let proc = Proc::inside(&plan, "exec sleep 100");
    let began = Instant::now();
    match remove(&Kernel, &plan, &place.notes, began + Duration::from_millis(60)) {
        Err(Error::Undo { failures }) => {
            assert_eq!(failures.len(), plan.hierarchies.len());
            for failure in failures {
                assert!(
                    matches!(&failure, Error::Busy { procs, .. } if *procs == [proc.0.id()]),
                    "{failure}"
                );
            }
        }
        other => panic!("{other:?}"),
    }
    assert!(began.elapsed() >= Duration::from_millis(60));
    // The end of the process in the middle of the wait is noticed.
    let ending = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        drop(proc);
    });
    place.remove(&plan);
    ending.join().unwrap();
    assert!(place.dirs().is_empty());
}

#[test]
fn cgroups_made_inside_the_leaf_go_with_it() {
    let Some(place) = Place::new() else { return };
    let plan = place.plain("/id", "t1");
    place.create(&plan);
    for h in &plan.hierarchies {
        fs::create_dir_all(h.leaf_dir().join("x/y")).unwrap();
    }
    place.remove(&plan);
    assert!(place.dirs().is_empty());
}

#[test]
fn one_failure_does_not_stop_the_rest() {
    let Some(place) = Place::new() else { return };
    let plan = place.plain("/id", "t1");
    place.create(&plan);
    let stuck = plan.hierarchies[0].leaf_dir();
    let files = Failing::new(&Kernel, |op: &str, path: &std::path::Path, _| {
        (op == "rmdir" && path == stuck).then_some(Errno::PERM)
    });
    match remove(&files, &plan, &place.notes, soon()) {
        Err(Error::Undo { failures }) => {
            assert!(matches!(&failures[..], [Error::Io { path, source: Errno::PERM, .. }] if *path == stuck));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(place.dirs().last(), Some(&stuck));
    assert_eq!(place.dirs().len(), 3);
    place.remove(&plan);
    assert!(place.dirs().is_empty());
}

#[test]
#[ignore = "a measurement: cargo test -p host-cgroup --release -- --ignored --nocapture timing"]
fn timing() {
    let Some(place) = Place::new() else { return };
    let median = |mut times: Vec<Duration>| {
        times.sort();
        format!("median {:?}, worst {:?}", times[times.len() / 2], times[times.len() - 1])
    };
    let mut limits = some_limits();
    limits.cpuset_cpus = None;
    let mut detects = vec![];
    for _ in 0..200 {
        let t0 = Instant::now();
        host_cgroup::Hierarchies::detect().unwrap();
        detects.push(t0.elapsed());
    }
    let (mut plans, mut creates, mut kills, mut removes) = (vec![], vec![], vec![], vec![]);
    for _ in 0..200 {
        let t0 = Instant::now();
        let plan = place.plan("/id", "t1", &limits).unwrap();
        let t1 = Instant::now();
        let fds = create(&Kernel, &plan, &limits, &place.notes).unwrap();
        let t2 = Instant::now();
        host_cgroup::kill(&Kernel, &plan, soon()).unwrap();
        let t3 = Instant::now();
        place.remove(&plan);
        removes.push(t3.elapsed());
        drop(fds);
        plans.push(t1 - t0);
        creates.push(t2 - t1);
        kills.push(t3 - t2);
    }
    println!("detect {}\nplan   {}\ncreate {}", median(detects), median(plans), median(creates));
    println!("kill (empty leaf) {}\nremove {}", median(kills), median(removes));
}
