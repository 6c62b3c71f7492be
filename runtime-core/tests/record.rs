//! The record of a real container (`record.json`: a running guest with a network), damaged at every byte.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{fs, path::PathBuf};

use record_store::Read;
use runtime_core::record::{Record, RunDir};

/// Its run directory, written as the product does it; on a tmpfs where there is one.
fn written() -> (tempfile::TempDir, RunDir, Record, PathBuf) {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let record: Record = serde_json::from_str(include_str!("record.json")).unwrap();
    let path = folder.path().join(&record.namespace).join(&record.id);
    let (dir, lock) = RunDir::make(&path).unwrap();
    dir.write_locked(&record).unwrap();
    drop(lock);
    (folder, dir, record, path.join("record.json"))
}

#[test]
fn damaged_at_any_byte_it_is_garbled() {
    let (_folder, dir, record, path) = written();
    let whole = fs::read(&path).unwrap();
    assert!(matches!(dir.read(), Read::Record(read) if read == record));
    let garbled = |content: &[u8], what: &dyn Fn() -> String| {
        fs::write(&path, content).unwrap();
        match dir.read() {
            Read::Unreadable(e) => assert!(e.is_garbled(), "{}: {e:?}", what()),
            other => panic!("{}: {other:?}", what()),
        }
    };
    let mut damaged = whole.clone();
    for at in 0..whole.len() {
        garbled(&whole[..at], &|| format!("cut at {at}"));
        for bit in 0..8 {
            damaged[at] ^= 1 << bit;
            garbled(&damaged, &|| format!("bit {bit} of byte {at}"));
            damaged[at] = whole[at];
        }
    }
    // Not the damage of an earlier round: it is whole again.
    fs::write(&path, &damaged).unwrap();
    assert!(matches!(dir.read(), Read::Record(read) if read == record));
}

#[test]
fn whole_but_of_another_container_it_is_garbled() {
    let (folder, _, _, path) = written();
    let (other, _lock) = RunDir::make(&folder.path().join("k8s.io/c2")).unwrap();
    fs::copy(&path, other.dir().path().join("record.json")).unwrap();
    assert!(matches!(other.read(), Read::Unreadable(e) if e.is_garbled()));
}
