//! A path that somebody else makes: ours to end where it did not exist before, and nowhere else.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::fs;

use common::{Place, Proc, eventually, soon};
use host_cgroup::{Kernel, Presence, WholePlan, stats_of_whole};

/// Makes the path in every hierarchy, as an OCI runtime does, and puts a process there.
fn enter(plan: &WholePlan, proc: &Proc) {
    for h in &plan.hierarchies {
        let dir = h.dir();
        fs::create_dir_all(dir.join("below")).unwrap();
        // It counts where all above hand that down.
        if h.has("pids") && h.version == host_cgroup::Version::V2 {
            let above = dir.ancestors().skip(1).map(|above| above.join("cgroup.subtree_control"));
            let above: Vec<_> = above.take_while(|file| file.exists()).collect();
            for file in above.iter().rev() {
                fs::write(file, "+pids").unwrap();
            }
        }
        if h.has("cpuset") && h.version == host_cgroup::Version::V1 {
            continue;
        }
        fs::write(dir.join("cgroup.procs"), proc.0.id().to_string()).unwrap();
    }
}

#[test]
fn what_was_not_there_is_ended_and_removed_with_its_parents() {
    let Some(place) = Place::new() else { return };
    let plan = WholePlan::new(&Kernel, &place.hierarchies, &place.path("/pod/id")).unwrap();
    assert_eq!(plan.probe(&Kernel).unwrap(), Presence::Absent);
    let mut proc = Proc::sh("exec sleep 100");
    enter(&plan, &proc);
    assert_eq!(plan.own_procs(&Kernel).unwrap(), [proc.0.id()]);
    let seen = WholePlan::of_process(&Kernel, &place.hierarchies, proc.0.id()).unwrap();
    assert!(seen.hierarchies.iter().any(|h| h.has("memory") && h.path == place.path("/pod/id")));
    assert!(stats_of_whole(&Kernel, &seen).unwrap().pids.unwrap().current >= 1);
    // What the kernel shows of a process is no proof that anything is ours.
    seen.kill(&Kernel, soon()).unwrap();
    assert!(proc.is_alive());
    assert_eq!(plan.probe(&Kernel).unwrap(), Presence::Present);
    plan.kill(&Kernel, soon()).unwrap();
    eventually("its end", || !proc.is_alive());
    plan.remove(&Kernel, &place.notes, soon()).unwrap();
    assert_eq!(plan.probe(&Kernel).unwrap(), Presence::Absent);
    assert!(place.dirs().is_empty());
    plan.remove(&Kernel, &place.notes, soon()).unwrap();
}

#[test]
fn what_was_there_is_a_strangers() {
    let Some(place) = Place::new() else { return };
    let before = WholePlan::new(&Kernel, &place.hierarchies, &place.path("/pod/id")).unwrap();
    let mut proc = Proc::sh("exec sleep 100");
    enter(&before, &proc);
    let plan = WholePlan::new(&Kernel, &place.hierarchies, &place.path("/pod/id")).unwrap();
    plan.kill(&Kernel, soon()).unwrap();
    plan.remove(&Kernel, &place.notes, soon()).unwrap();
    assert!(proc.is_alive() && place.dirs().len() >= 3);
    assert!(plan.own_procs(&Kernel).unwrap().is_empty());
    assert_eq!(plan.procs(&Kernel).unwrap(), [proc.0.id()]);
    before.kill(&Kernel, soon()).unwrap();
    eventually("its end", || !proc.is_alive());
}

/// Another container's last parent goes between our look and the runtime's create, which makes it anew.
#[test]
fn a_parent_that_is_made_anew_goes_with_whoever_leaves_it_last() {
    let Some(place) = Place::new() else { return };
    let other = WholePlan::new(&Kernel, &place.hierarchies, &place.path("/pod/other")).unwrap();
    for h in &other.hierarchies {
        fs::create_dir_all(h.dir()).unwrap();
    }
    let plan = WholePlan::new(&Kernel, &place.hierarchies, &place.path("/pod/id")).unwrap();
    other.remove(&Kernel, &place.notes, soon()).unwrap();
    assert!(place.dirs().is_empty());
    for h in &plan.hierarchies {
        fs::create_dir_all(h.dir()).unwrap();
    }
    plan.remove(&Kernel, &place.notes, soon()).unwrap();
    assert!(place.dirs().is_empty(), "{:?}", place.dirs());

    // One that stood all the while is a stranger's.
    let parent = WholePlan::new(&Kernel, &place.hierarchies, &place.path("/pod")).unwrap();
    for h in &parent.hierarchies {
        fs::create_dir_all(h.dir()).unwrap();
    }
    let plan = WholePlan::new(&Kernel, &place.hierarchies, &place.path("/pod/id")).unwrap();
    for h in &plan.hierarchies {
        fs::create_dir_all(h.dir()).unwrap();
    }
    plan.remove(&Kernel, &place.notes, soon()).unwrap();
    assert_eq!(parent.probe(&Kernel).unwrap(), Presence::Present);
    parent.remove(&Kernel, &place.notes, soon()).unwrap();
}
