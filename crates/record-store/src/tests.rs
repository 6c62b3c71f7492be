use std::{
    fs,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Sample {
    schema: u64,
    text: String,
}

fn dir() -> (tempfile::TempDir, Dir) {
    let folder = tempfile::tempdir().unwrap();
    let dir = Dir::make(folder.path().join("a/b")).unwrap();
    (folder, dir)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(30)
}

#[test]
fn a_record_comes_back_and_is_replaced_whole() {
    let (_folder, dir) = dir();
    assert!(matches!(dir.read_record::<Sample>("r", 1), Read::Absent));
    for text in ["one", "two, longer", ""] {
        let sample = Sample { schema: 1, text: text.to_owned() };
        dir.replace_json("r", &sample).unwrap();
        assert!(matches!(dir.read_record::<Sample>("r", 1), Read::Record(s) if s == sample));
    }
    assert_eq!(dir.names().unwrap(), ["r"]);
}

#[test]
fn every_torn_or_garbled_record_is_unreadable_and_kept() {
    let (_folder, dir) = dir();
    let whole = serde_json::to_vec(&Sample { schema: 1, text: "whole".to_owned() }).unwrap();
    for cut in 0..whole.len() {
        fs::write(dir.path().join("r"), &whole[..cut]).unwrap();
        assert!(matches!(dir.read_record::<Sample>("r", 1), Read::Unreadable(_)), "cut at {cut}");
    }
    dir.set_aside("r").unwrap();
    assert_eq!(dir.names().unwrap(), ["r.unreadable"]);
}

#[test]
fn what_a_cut_off_write_left_can_be_removed() {
    let (_folder, dir) = dir();
    fs::write(dir.path().join(".r.new"), "{\"schema\"").unwrap();
    assert!(matches!(dir.read_record::<Sample>("r", 1), Read::Absent));
    assert!(dir.remove_leftover("r").unwrap());
    assert!(dir.names().unwrap().is_empty());
}

#[test]
fn a_newer_schema_is_told_apart() {
    let (_folder, dir) = dir();
    dir.replace("r", br#"{"schema": 7, "text": ["another", "shape"]}"#).unwrap();
    assert!(matches!(dir.read_record::<Sample>("r", 1), Read::Newer(7)));
}

#[test]
fn a_removed_directory_is_never_made_again() {
    let (_folder, dir) = dir();
    fs::remove_dir(dir.path()).unwrap();
    assert!(!dir.is_linked());
    assert!(dir.replace("r", b"x").unwrap_err().is_absent());
    assert!(Lock::acquire(&dir, "lock", soon()).unwrap_err().is_absent());
    assert!(!dir.path().exists());
}

#[test]
fn a_lock_keeps_others_out_until_it_is_dropped() {
    let (_folder, dir) = dir();
    assert!(!Lock::is_held(&dir, "lock").unwrap());
    let lock = Lock::acquire(&dir, "lock", soon()).unwrap().unwrap();
    assert!(Lock::is_held(&dir, "lock").unwrap());
    assert!(Lock::acquire(&dir, "lock", soon()).unwrap().is_none());
    assert!(Lock::try_acquire(&dir, "lock").unwrap().is_none());
    drop(lock);
    assert!(!Lock::is_held(&dir, "lock").unwrap());
    assert!(Lock::try_acquire(&dir, "lock").unwrap().is_some());
    assert!(Lock::try_acquire(&dir, "absent").unwrap().is_none());
    assert!(Lock::create(&dir, "lock").is_err());
}

#[test]
fn a_waiter_does_not_end_up_with_an_unlinked_file() {
    let (_folder, dir) = dir();
    // Sixteen threads take the lock, unlink it and count: two at once would be seen.
    let inside = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let lock = Lock::acquire(&dir, "lock", Instant::now() + Duration::from_secs(20))
                        .unwrap()
                        .unwrap();
                    assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    lock.unlink(&dir).unwrap();
                }
            });
        }
    });
}
