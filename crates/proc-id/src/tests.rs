use std::process::{Child, Command};

use super::*;

struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_child_is_recognised_until_it_is_reaped() {
    let mut child = Sleeper::new();
    let process = Process::of_child(child.0.id()).unwrap();
    let id = process.id().clone();
    assert!(!process.is_dead().unwrap());
    assert_eq!(id.open().unwrap().unwrap().id(), &id);
    assert!(process.signal(Signal::KILL).unwrap());
    assert!(process.wait(Some(Duration::from_secs(5))).unwrap());
    // A zombie whose threads are all gone is dead, although its number is still taken.
    assert!(id.is_dead().unwrap());
    child.0.wait().unwrap();
    assert!(id.open().unwrap().is_none());
    assert!(!process.signal(Signal::KILL).unwrap());
}

#[test]
fn a_number_that_is_a_threads_by_now_is_not_the_process() {
    let (tell, told) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        tell.send(rustix::thread::gettid().as_raw_pid()).unwrap();
        ended.recv().ok();
    });
    let id = ProcessId { pid: told.recv().unwrap(), ..ProcessId::own().unwrap() };
    assert!(id.open().unwrap().is_none());
    assert!(id.is_dead().unwrap());
    drop(end);
    thread.join().unwrap();
}

/// Which of them is said of a thread depends on the kernel.
#[test]
fn only_what_says_that_a_number_is_no_process_is_taken_for_that() {
    for e in [Errno::SRCH, Errno::INVAL, Errno::NOENT] {
        assert!(is_no_process(e), "{e}");
    }
    for e in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NODEV, Errno::PERM, Errno::NOSYS] {
        assert!(!is_no_process(e), "{e}: it may live");
    }
}

#[test]
fn another_start_time_or_boot_is_another_process() {
    let child = Sleeper::new();
    let id = Process::of_child(child.0.id()).unwrap().id().clone();
    let later = ProcessId { start_time: id.start_time + 1, ..id.clone() };
    assert!(later.open().unwrap().is_none());
    let elsewhere = ProcessId { boot_id: "another".to_owned(), ..id };
    assert!(elsewhere.open().unwrap().is_none());
}

#[test]
fn numbers_that_can_be_no_process_of_ours_are_refused() {
    let own = ProcessId::own().unwrap();
    for pid in [0, -1, 1, i32::MIN, own.pid] {
        let id = ProcessId { pid, ..own.clone() };
        assert!(matches!(id.open(), Err(Error::NotAProcess { .. })), "{pid}");
    }
    assert!(matches!(Process::of_child(0), Err(Error::NotAProcess { .. })));
    assert!(matches!(Process::of_child(1), Err(Error::NotAProcess { .. })));
    assert!(matches!(Process::of_child(u32::MAX), Err(Error::NotAProcess { .. })));
}

#[test]
fn a_name_with_parentheses_does_not_shift_the_fields() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(") S 1 (x");
    std::os::unix::fs::symlink("/bin/sleep", &path).unwrap();
    let child = Sleeper(Command::new(&path).arg("1000").spawn().unwrap());
    let id = Process::of_child(child.0.id()).unwrap().id().clone();
    assert_eq!(id.open().unwrap().unwrap().id(), &id);
}
