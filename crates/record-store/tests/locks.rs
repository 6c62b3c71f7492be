//! Locks between processes: this program, executed once more for each of them.
//!
//! `make stress-locks` lets the last test run for a minute; otherwise it takes some seconds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use record_store::{Dir, Lock, Read};
use serde::{Deserialize, Serialize};

/// What a child is to do; the folder it does it in.
const ROLE: &str = "URUNC_TEST_LOCKS";
const FOLDER: &str = "URUNC_TEST_LOCKS_FOLDER";
/// How long the stress test lasts, in seconds.
const STRESS: &str = "URUNC_TEST_STRESS";

/// More than any wait for a lock takes while nobody is stuck.
const LONG: Duration = Duration::from_secs(30);
const IDS: u64 = 8;
const PROCESSES: usize = 64;

#[derive(Debug, Serialize, Deserialize)]
struct Counter {
    schema: u64,
    count: u64,
}

/// A child; it ends with the test.
struct Other {
    child: Child,
    says: BufReader<ChildStdout>,
}

impl Other {
    fn new(role: &str, folder: &Path) -> Self {
        let mut child = Command::new("/proc/self/exe")
            .args(["--ignored", "--exact", "child", "--nocapture", "--quiet"])
            .env(ROLE, role)
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let says = BufReader::new(child.stdout.take().unwrap());
        Self { child, says }
    }

    /// Waits until it says this word; what it says behind it.
    #[track_caller]
    fn says(&mut self, word: &str) -> String {
        let mut line = String::new();
        while self.says.read_line(&mut line).unwrap() > 0 {
            if let Some(rest) = line.trim().strip_prefix(word) {
                return rest.trim().to_owned();
            }
            line.clear();
        }
        panic!("it ended without {word:?}: {:?}", self.child.wait());
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
#[ignore = "a part of other tests"]
fn child() {
    let (Ok(role), Some(folder)) = (env::var(ROLE), env::var_os(FOLDER)) else { return };
    let folder = PathBuf::from(folder);
    match role.split_once(' ').unwrap_or((&role, "")) {
        ("hold", _) => {
            let dir = Dir::make(&folder).unwrap();
            let _lock = Lock::acquire(&dir, "lock", Instant::now() + LONG).unwrap().unwrap();
            println!("\nholds");
            std::thread::sleep(Duration::from_secs(1000));
        }
        ("wait", _) => {
            let dir = Dir::make(&folder).unwrap();
            println!("\nwaits");
            let lock = Lock::acquire(&dir, "lock", Instant::now() + LONG).unwrap().expect("it is given up");
            println!("\nhas {}", inode(lock.path()));
            std::thread::sleep(Duration::from_secs(1000));
        }
        ("count", seconds) => println!("\ncounted {}", count(&folder, seconds.parse().unwrap())),
        other => panic!("{other:?}"),
    }
}

fn inode(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap())
}

/// On a tmpfs, as the real thing, where there is one.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

#[test]
fn the_lock_of_a_holder_that_is_killed_is_free() {
    let folder = folder();
    let mut holder = Other::new("hold", folder.path());
    holder.says("holds");
    let dir = Dir::open(folder.path()).unwrap();
    assert!(Lock::is_held(&dir, "lock").unwrap());
    let mut waiter = Other::new("wait", folder.path());
    waiter.says("waits");
    holder.child.kill().unwrap();
    // The same file: nobody has to clear anything away.
    assert_eq!(waiter.says("has"), inode(&folder.path().join("lock")).to_string());
    assert!(Lock::try_acquire(&dir, "lock").unwrap().is_none());
}

#[test]
fn a_waiter_does_not_end_up_with_a_lock_file_that_was_unlinked() {
    let folder = folder();
    let dir = Dir::open(folder.path()).unwrap();
    let lock = Lock::acquire(&dir, "lock", Instant::now() + LONG).unwrap().unwrap();
    // As long as this is open, the inode is not used again.
    let old = fs::File::open(lock.path()).unwrap();
    let mut waiter = Other::new("wait", folder.path());
    waiter.says("waits");
    lock.unlink(&dir).unwrap();
    let has = waiter.says("has");
    assert_ne!(has, std::os::unix::fs::MetadataExt::ino(&old.metadata().unwrap()).to_string());
    assert_eq!(has, inode(&folder.path().join("lock")).to_string());
    assert!(Lock::try_acquire(&dir, "lock").unwrap().is_none(), "it keeps others out");
}

#[test]
fn sixty_four_processes_lose_no_update_of_eight_records() {
    let seconds = env::var(STRESS).ok().map_or(3, |s| s.parse().expect("a number of seconds"));
    let folder = folder();
    let role = format!("count {seconds}");
    let began = Instant::now();
    let mut others: Vec<_> = (0..PROCESSES).map(|_| Other::new(&role, folder.path())).collect();
    let counts: Vec<u64> = others.iter_mut().map(|other| other.says("counted").parse().unwrap()).collect();
    let recorded = (0..IDS).map(|id| match read(&Dir::open(folder.path().join(id.to_string())).unwrap()) {
        Some(Counter { count, .. }) => count,
        None => 0,
    });
    let sum: u64 = counts.iter().sum();
    assert_eq!(recorded.sum::<u64>(), sum, "updates were lost");
    assert!(counts.iter().all(|count| *count > 0), "somebody never had a turn: {counts:?}");
    eprintln!("{PROCESSES} processes: {sum} updates of {IDS} records in {:.1?}", began.elapsed());
}

/// Increments counters of any id under their locks; how often.
fn count(folder: &Path, seconds: u64) -> u64 {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut random = u64::from(std::process::id()).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut below = |bound: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % bound
    };
    let mut seen = [0; IDS as usize];
    let mut counted = 0;
    while Instant::now() < end || counted == 0 {
        let id = below(IDS);
        let dir = Dir::make(folder.join(id.to_string())).unwrap();
        let lock = Lock::acquire(&dir, "lock", Instant::now() + LONG).unwrap();
        let lock = lock.unwrap_or_else(|| panic!("no lock of {id} within {LONG:?}"));
        let count = read(&dir).map_or(0, |counter| counter.count) + 1;
        dir.replace("record", &Counter { schema: 1, count }).unwrap();
        counted += 1;
        // Some take their lock file with them.
        if below(8) == 0 {
            lock.unlink(&dir).unwrap()
        } else {
            drop(lock)
        }

        // And whoever reads without the lock sees a whole record, and never an older one than before.
        let id = below(IDS);
        if let Ok(dir) = Dir::open(folder.join(id.to_string())) {
            let count = read(&dir).map_or(0, |counter| counter.count);
            let before = std::mem::replace(&mut seen[usize::try_from(id).unwrap()], count);
            assert!(count >= before, "record {id} went back from {before} to {count}");
        }
    }
    counted
}

/// The record; it is whole, or not there yet.
fn read(dir: &Dir) -> Option<Counter> {
    match dir.read_record("record", 1) {
        Read::Record(counter) => Some(counter),
        Read::Absent => None,
        other => panic!("{other:?}"),
    }
}
