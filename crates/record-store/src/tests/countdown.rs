//! The n-th system call of a write fails, for every n until a write succeeds: the old record is read then or the new
//! one, never another, and the next write works.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
};

use super::*;
use crate::{
    seal::seal,
    write::{Calls, Kernel, replace},
};

/// How the n-th call fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fails {
    /// It does nothing.
    Before,
    /// It does what it should, and says that it failed.
    After,
    /// It is a write, does half of it, and the next call does nothing.
    Halfway,
}

/// The kernel, but the n-th call fails. Every other write is interrupted, and none takes more than `piece` bytes.
struct Countdown {
    nth: usize,
    fails: Fails,
    piece: usize,
    interrupted: bool,
    made: Vec<&'static str>,
}

impl Countdown {
    fn new(nth: usize, fails: Fails, piece: usize) -> Self {
        Self { nth, fails, piece, interrupted: false, made: vec![] }
    }

    fn call<T>(&mut self, name: &'static str, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.made.push(name);
        if self.made.len() != self.nth || self.fails == Fails::Halfway {
            return act();
        }
        if self.fails == Fails::After {
            act()?;
        }
        Err(io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()))
    }
}

impl Calls for Countdown {
    fn open(&mut self, dir: BorrowedFd<'_>, name: &str) -> io::Result<File> {
        self.call("open", || Kernel.open(dir, name))
    }

    fn write(&mut self, file: &File, bytes: &[u8]) -> io::Result<usize> {
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let mut piece = &bytes[..bytes.len().min(self.piece)];
        if self.fails == Fails::Halfway && self.made.len() + 1 == self.nth {
            piece = &piece[..piece.len() / 2];
            (self.fails, self.nth) = (Fails::Before, self.nth + 1);
        }
        self.call("write", || Kernel.write(file, piece))
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        self.call("sync", || Kernel.sync(file))
    }

    fn rename(&mut self, dir: BorrowedFd<'_>, from: &str, to: &str) -> io::Result<()> {
        self.call("rename", || Kernel.rename(dir, from, to))
    }

    fn sync_dir(&mut self, dir: BorrowedFd<'_>) -> io::Result<()> {
        self.call("sync_dir", || Kernel.sync_dir(dir))
    }
}

fn sample(text: &str) -> Sample {
    Sample { schema: 1, text: text.to_owned() }
}

fn read(dir: &Dir) -> Option<Sample> {
    match dir.read_record("r", 1) {
        Read::Absent => None,
        Read::Record(sample) => Some(sample),
        other => panic!("{other:?}"),
    }
}

/// Fails every call of a write over `old`, one by one; the names of those that failed.
fn count_down(old: Option<&Sample>, fails: Fails, piece: usize) -> Vec<&'static str> {
    let new = sample("a new one, and longer");
    let (_folder, dir) = dir();
    let mut failed = vec![];
    for nth in 1.. {
        let what = format!("over {old:?}, call {nth} {fails:?}, pieces of {piece}");
        match old {
            Some(old) => dir.replace("r", old).unwrap(),
            None => drop(dir.remove("r").unwrap()),
        }
        let mut calls = Countdown::new(nth, fails, piece);
        let written = replace(&mut calls, dir.as_fd(), "r", &seal(&new).unwrap(), true);
        let found = read(&dir);
        if let Err(e) = &written {
            assert_eq!(e.kind(), io::ErrorKind::StorageFull, "{what}");
            let last = *calls.made.last().unwrap();
            failed.push(last);
            // The new one only if nothing was missing any more but a last sync.
            let is_placed = last == "sync_dir" || last == "rename" && fails == Fails::After;
            assert_eq!(found.as_ref(), if is_placed { Some(&new) } else { old }, "{what}");
        } else {
            assert_eq!(found.as_ref(), Some(&new), "{what}");
        }
        // Whatever was left under the temporary name, the next write works, and leaves nothing else.
        let next = sample("next");
        dir.replace("r", &next).unwrap();
        assert_eq!(read(&dir), Some(next), "{what}");
        assert_eq!(dir.names().unwrap(), ["r"], "{what}");
        if calls.made.len() < nth {
            assert!(written.is_ok(), "{what}");
            break;
        }
    }
    failed.dedup();
    failed
}

#[test]
fn whichever_call_fails_the_old_record_is_read_or_the_new_one() {
    for old in [None, Some(&sample("old"))] {
        for piece in [16, usize::MAX] {
            let calls = ["open", "write", "sync", "rename", "sync_dir"];
            assert_eq!(count_down(old, Fails::Before, piece), calls);
            assert_eq!(count_down(old, Fails::After, piece), calls);
            // Behind a half write comes another one.
            assert_eq!(count_down(old, Fails::Halfway, piece), ["write"]);
        }
    }
}

#[test]
fn what_is_renamed_is_durable_and_then_the_name_is() {
    let (_folder, dir) = dir();
    let mut calls = Countdown::new(usize::MAX, Fails::Before, usize::MAX);
    replace(&mut calls, dir.as_fd(), "r", b"0123", true).unwrap();
    assert_eq!(calls.made, ["open", "write", "write", "sync", "rename", "sync_dir"]);
    let mut calls = Countdown::new(usize::MAX, Fails::Before, usize::MAX);
    replace(&mut calls, dir.as_fd(), "r", b"0123", false).unwrap();
    assert_eq!(calls.made, ["open", "write", "write", "rename"]);
}
