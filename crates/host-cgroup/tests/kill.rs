//! Killing in the machine's own cgroups: all of ours, none of anybody else's.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Place, Proc, eventually, soon};
use host_cgroup::{CgroupsPath, Error, Hierarchies, Kernel, LeafPlan, Limits, Version, kill, procs};

/// Twenty shells that fork all the time.
const FORKING: &str = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do (while :; do sleep 0.01; done) & done; wait";

fn kills_a_forking_tree(only: Option<Version>) {
    let Some(place) = Place::new() else { return };
    if only == Some(Version::V1) && !place.has_v1() {
        eprintln!("skipped: there is no cgroup v1");
        return;
    }
    let mut plan = place.plain("/id", "t1");
    let all = plan.clone();
    plan.hierarchies.retain(|h| only.is_none_or(|v| v == h.version));
    place.create(&all);
    let mut proc = Proc::inside(&plan, FORKING);
    eventually("it forks", || procs(&Kernel, &plan).unwrap().len() > 30);
    kill(&Kernel, &plan, soon()).unwrap();
    assert!(procs(&Kernel, &plan).unwrap().is_empty());
    eventually("its end", || !proc.is_alive());
    kill(&Kernel, &plan, soon()).unwrap();
    place.remove(&all);
    kill(&Kernel, &plan, soon()).unwrap();
    assert!(place.dirs().is_empty());
}

#[test]
fn a_forking_tree_in_all_hierarchies() {
    kills_a_forking_tree(None);
}

#[test]
fn a_forking_tree_without_cgroup_kill() {
    kills_a_forking_tree(Some(Version::V1));
}

#[test]
fn a_forking_tree_by_cgroup_kill_alone() {
    kills_a_forking_tree(Some(Version::V2));
}

#[test]
fn processes_below_the_leaf_are_ours() {
    let Some(place) = Place::new() else { return };
    let plan = place.plain("/id", "t1");
    place.create(&plan);
    let mut proc = Proc::sh("exec sleep 100");
    let version = if place.has_v1() { Version::V1 } else { Version::V2 };
    for h in plan.hierarchies.iter().filter(|h| h.version == version) {
        let below = h.leaf_dir().join("below");
        fs::create_dir(&below).unwrap();
        proc.move_to(&below);
    }
    assert_eq!(procs(&Kernel, &plan).unwrap(), [proc.0.id()]);
    kill(&Kernel, &plan, soon()).unwrap();
    eventually("its end", || !proc.is_alive());
    place.remove(&plan);
}

#[test]
fn whoever_left_the_leaf_is_spared() {
    let Some(place) = Place::new() else { return };
    let plan = place.plain("/id", "t1");
    place.create(&plan);
    let mut inside = Proc::inside(&plan, "exec sleep 100");
    let mut moved = Proc::inside(&plan, "exec sleep 100");
    for h in &plan.hierarchies {
        moved.move_to(&h.mount);
    }
    kill(&Kernel, &plan, soon()).unwrap();
    eventually("its end", || !inside.is_alive());
    assert!(moved.is_alive());
    place.remove(&plan);
}

#[test]
fn strangers_in_the_callers_path_are_spared() {
    let Some(place) = Place::new() else { return };
    let plan = place.plain("/id", "t1");
    place.create(&plan);
    let mut stranger = Proc::sh("exec sleep 100");
    let mut neighbour = Proc::sh("exec sleep 100");
    for h in &plan.hierarchies {
        // Above a leaf with controllers, v2 has no processes.
        if h.version == Version::V1 || h.controllers.is_empty() {
            stranger.move_to(&h.dir());
        }
        fs::create_dir(h.dir().join("urunc-other")).unwrap();
        neighbour.move_to(&h.dir().join("urunc-other"));
    }
    assert!(procs(&Kernel, &plan).unwrap().is_empty());
    kill(&Kernel, &plan, soon()).unwrap();
    // The leaf goes, the busy parents stay, and that is no error.
    place.remove(&plan);
    assert!(stranger.is_alive() && neighbour.is_alive());
    assert!(place.notes_left() > 0);
}

/// The caller is moved into the leaf: in a process of its own, because that would confine all the tests.
#[test]
fn the_caller_never_kills_itself() {
    let Some(place) = Place::new() else { return };
    let plan = place.plain("/id", "t1");
    place.create(&plan);
    let plan_text = serde_json::to_string(&plan).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "inside_the_leaf", "--nocapture"])
        .env("HCG_PLAN", plan_text)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    place.remove(&plan);
}

#[test]
#[ignore = "run by the_caller_never_kills_itself"]
fn inside_the_leaf() {
    let plan: LeafPlan = serde_json::from_str(&std::env::var("HCG_PLAN").unwrap()).unwrap();
    for h in &plan.hierarchies {
        fs::write(h.leaf_dir().join("cgroup.procs"), "0").unwrap();
    }
    // A child of ours in the leaf dies, we do not.
    let mut child = Proc::sh("exec sleep 100");
    match kill(&Kernel, &plan, Instant::now() + Duration::from_millis(100)) {
        Err(Error::StillAlive { procs }) => assert!(procs.contains(&std::process::id())),
        other => panic!("{other:?}"),
    }
    eventually("its end", || !child.is_alive());
    // And from here on every path above us is refused.
    let hierarchies = Hierarchies::detect().unwrap();
    let leaf = CgroupsPath::parse(&format!("{}/urunc-t1", plan.hierarchies[0].path)).unwrap();
    for path in leaf.prefixes() {
        let outcome = LeafPlan::new(&Kernel, &hierarchies, &path, "t2", &Limits::default());
        assert!(matches!(outcome, Err(Error::OwnCgroup { .. })), "{path}: {outcome:?}");
    }
    let below = CgroupsPath::parse(&format!("{leaf}/x")).unwrap();
    assert!(LeafPlan::new(&Kernel, &hierarchies, &below, "t2", &Limits::default()).is_ok());
}
