use std::{
    fs,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::*;

mod countdown;

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
        dir.replace("r", &sample).unwrap();
        assert!(matches!(dir.read_record::<Sample>("r", 1), Read::Record(s) if s == sample));
    }
    assert_eq!(dir.names().unwrap(), ["r"]);
}

/// Whatever stands in the file, it is read as this, or not at all.
fn reads_only(dir: &Dir, content: &[u8], whole: &Sample, what: &str) {
    fs::write(dir.path().join("r"), content).unwrap();
    match dir.read_record::<Sample>("r", 1) {
        Read::Unreadable(e) => assert!(e.is_garbled(), "{what}: {e:?}"),
        Read::Record(sample) => panic!("{what}: {sample:?}, written was {whole:?}"),
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn a_record_that_is_torn_or_changed_anywhere_is_garbled_and_kept() {
    let (_folder, dir) = dir();
    let sample = Sample { schema: 1, text: "whole 0123456789 \u{e9}".to_owned() };
    dir.replace("r", &sample).unwrap();
    let whole = fs::read(dir.path().join("r")).unwrap();
    for at in 0..whole.len() {
        reads_only(&dir, &whole[..at], &sample, &format!("cut at {at}"));
        let zeroed: Vec<u8> = whole.iter().enumerate().map(|(n, b)| if n < at { *b } else { 0 }).collect();
        reads_only(&dir, &zeroed, &sample, &format!("zeros from {at} on"));
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            reads_only(&dir, &flipped, &sample, &format!("bit {bit} of byte {at} flipped"));
        }
        let mut doubled = whole.clone();
        doubled.insert(at, whole[at]);
        reads_only(&dir, &doubled, &sample, &format!("byte {at} twice"));
    }
    reads_only(&dir, &[&whole[..], b"\n"].concat(), &sample, "a byte more");
    reads_only(&dir, &[&whole[..], &whole[..]].concat(), &sample, "twice");
    dir.set_aside("r").unwrap();
    assert_eq!(dir.names().unwrap(), ["r.unreadable"]);
}

#[test]
fn what_is_no_regular_file_is_garbled_and_can_be_set_aside() {
    let (_folder, dir) = dir();
    let path = dir.path().join("r");
    for kind in ["FIFO", "socket", "folder", "link"] {
        match kind {
            "FIFO" => {
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
            }
            "socket" => drop(std::os::unix::net::UnixListener::bind(&path).unwrap()),
            "folder" => fs::create_dir(&path).unwrap(),
            _ => std::os::unix::fs::symlink("/etc/hostname", &path).unwrap(),
        }
        match dir.read_record::<Sample>("r", 1) {
            Read::Unreadable(e) => assert!(e.is_garbled(), "{kind}: {e:?}"),
            other => panic!("{kind}: {other:?}"),
        }
        dir.set_aside("r").unwrap();
        let aside = dir.path().join("r.unreadable");
        fs::remove_file(&aside).or_else(|_| fs::remove_dir(&aside)).unwrap();
    }
}

#[test]
fn a_folder_in_a_files_place_is_set_aside() {
    let (_folder, dir) = dir();
    for name in ["part", "lock"] {
        fs::create_dir_all(dir.path().join(name).join("of somebody")).unwrap();
    }
    assert!(!dir.remove("part").unwrap());
    let lock = Lock::acquire(&dir, "lock", soon()).unwrap().unwrap();
    let mut names = dir.names().unwrap();
    names.sort_unstable();
    assert_eq!(names, ["lock", "lock.unreadable", "part.unreadable"]);
    lock.unlink(&dir).unwrap();
}

#[test]
fn the_sum_is_what_the_documented_command_says() {
    let (_folder, dir) = dir();
    dir.replace("r", &Sample { schema: 1, text: "x".to_owned() }).unwrap();
    let path = dir.path().join("r");
    let told = std::process::Command::new("sh")
        .args(["-c", "tail -c +78 \"$1\" | sha256sum", "sh"])
        .arg(&path)
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(told.split(' ').next(), record["sha256"].as_str());
    assert_eq!(record["text"], "x");
}

#[test]
fn only_an_object_with_members_is_a_record() {
    let (_folder, dir) = dir();
    assert!(matches!(dir.replace("r", &7), Err(Error::Encode { .. })));
    assert!(matches!(dir.replace("r", &serde_json::json!({})), Err(Error::Encode { .. })));
    assert!(dir.names().unwrap().is_empty());
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
    dir.replace("r", &serde_json::json!({"schema": 7, "text": ["another", "shape"]})).unwrap();
    assert!(matches!(dir.read_record::<Sample>("r", 1), Read::Newer(7)));
    // But only a whole one: a garbled number is no schema.
    let whole = fs::read_to_string(dir.path().join("r")).unwrap();
    fs::write(dir.path().join("r"), whole.replace("\"schema\":7", "\"schema\":9")).unwrap();
    assert!(matches!(dir.read_record::<Sample>("r", 1), Read::Unreadable(_)));
}

#[test]
fn a_removed_directory_is_never_made_again() {
    let (_folder, dir) = dir();
    fs::remove_dir(dir.path()).unwrap();
    assert!(!dir.is_linked());
    let sample = Sample { schema: 1, text: String::new() };
    assert!(dir.replace("r", &sample).unwrap_err().is_absent());
    assert!(Lock::acquire(&dir, "lock", soon()).unwrap_err().is_absent());
    assert!(!dir.path().exists());
}

#[test]
fn who_forgets_a_lock_is_not_taken_for_its_holder() {
    let (_folder, dir) = dir();
    let path = dir.path().join("lock");
    let lock = Lock::acquire(&dir, "lock", soon()).unwrap().unwrap();
    Lock::forget(&dir, "lock").unwrap();
    assert!(path.exists(), "somebody holds it");
    drop(lock);
    std::thread::scope(|scope| {
        let forgets = scope.spawn(|| {
            for _ in 0..20_000 {
                fs::write(&path, "").unwrap();
                Lock::forget(&dir, "lock").unwrap();
                assert!(!path.exists());
            }
        });
        while !forgets.is_finished() {
            assert!(!Lock::is_held(&dir, "lock").unwrap());
        }
    });
    Lock::forget(&dir, "lock").unwrap();
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
