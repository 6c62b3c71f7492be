//! Parents that several transactions share, in the machine's own cgroups.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::fs;

use common::{Place, soon};
use host_cgroup::{Error, Kernel, Limits, Notes, create, remove};

#[test]
fn the_last_one_out_removes_the_shared_parent() {
    let Some(place) = Place::new() else { return };
    let first = place.plain("/ns/deep/first", "t1");
    place.create(&first);
    let second = place.plain("/ns/deep/second", "t2");
    place.create(&second);
    assert!(second.hierarchies.iter().all(|h| h.to_make.len() == 1));
    place.remove(&first);
    // Our name, /ns and /ns/deep, in each hierarchy.
    assert_eq!(place.notes_left(), 3 * first.hierarchies.len());
    place.remove(&first);
    assert_eq!(place.notes_left(), 3 * first.hierarchies.len());
    place.remove(&second);
    assert!(place.dirs().is_empty());
    assert_eq!(place.notes_left(), 0);
}

#[test]
fn a_strangers_new_directory_is_not_touched() {
    let Some(place) = Place::new() else { return };
    let first = place.plain("/first", "t1");
    place.create(&first);
    let second = place.plain("/second", "t2");
    place.create(&second);
    place.remove(&first);
    assert!(place.notes_left() > 0);
    // Somebody else clears all of it away and makes the same name anew.
    for dir in place.dirs().iter().rev() {
        fs::remove_dir(dir).unwrap();
    }
    for h in &second.hierarchies {
        fs::create_dir(h.mount.join(&place.name)).unwrap();
    }
    let strangers = place.dirs();
    place.remove(&second);
    assert_eq!(place.dirs(), strangers);
    assert_eq!(place.notes_left(), 0, "notes of directories that are gone are dropped");
}

#[test]
fn a_parent_that_vanishes_is_made_again_and_taken_back() {
    let Some(place) = Place::new() else { return };
    let first = place.plain("/ns/first", "t1");
    place.create(&first);
    let second = place.plain("/ns/second", "t2");
    // The first goes between the second's plan and its creation.
    place.remove(&first);
    assert!(place.dirs().is_empty());
    place.create(&second);
    place.remove(&second);
    assert!(place.dirs().is_empty());
    assert_eq!(place.notes_left(), 0);
}

#[test]
fn many_at_once_leave_nothing() {
    let Some(place) = Place::new() else { return };
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let place = &place;
            scope.spawn(move || {
                for round in 0..50 {
                    let plan = place.plain(&format!("/ns/id-{worker}"), &format!("{worker}-{round}"));
                    drop(create(&Kernel, &plan, &Limits::default(), &place.notes).unwrap());
                    place.remove(&plan);
                }
            });
        }
    });
    assert!(place.dirs().is_empty(), "{:?}", place.dirs());
    assert_eq!(place.notes_left(), 0);
}

#[test]
fn a_note_that_cannot_be_written_is_reported() {
    let Some(place) = Place::new() else { return };
    let plan = place.plain("/id", "t1");
    place.create(&plan);
    for h in &plan.hierarchies {
        fs::create_dir(h.dir().join("stranger")).unwrap();
    }
    let nowhere = Notes::new("/proc/no/such/folder");
    let outcome = remove(&Kernel, &plan, &nowhere, soon());
    // Two parents in each hierarchy.
    let expected = 2 * plan.hierarchies.len();
    assert!(
        matches!(outcome, Err(Error::Undo { ref failures }) if failures.len() == expected),
        "{outcome:?}"
    );
    assert!(plan.hierarchies.iter().all(|h| !h.leaf_dir().exists()));
}
