//! What a launcher and its monitor say on stderr: the last 4 KiB are kept, for the error of a Start that failed and
//! for the log. The pipe's read end is ours; it ends with the process.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Mutex, PoisonError},
};

use rustix::io::{Errno, read};

/// How much is kept, in bytes.
const KEPT: usize = 4096;

/// The end of what a process said.
#[derive(Debug)]
pub struct LastWords {
    pipe: OwnedFd,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    tail: VecDeque<u8>,
    total: u64,
}

impl LastWords {
    /// Takes the read end of a pipe, which must be non-blocking.
    pub fn new(pipe: OwnedFd) -> Self {
        Self { pipe, said: Mutex::default() }
    }

    /// Reads what is there. `false`: nothing will come any more.
    pub fn drain(&self) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buf = [0u8; 1024];
        loop {
            match read(&self.pipe, &mut buf) {
                Ok(0) => return false,
                Ok(n) => {
                    said.total += n as u64;
                    said.tail.extend(&buf[..n]);
                    let excess = said.tail.len().saturating_sub(KEPT);
                    said.tail.drain(..excess);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
    }

    /// How many bytes were said so far.
    pub fn total(&self) -> u64 {
        self.drain();
        self.said.lock().unwrap_or_else(PoisonError::into_inner).total
    }

    /// The end of what was said behind the first `before` bytes, as text.
    pub fn text_since(&self, before: u64) -> String {
        self.drain();
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let new = usize::try_from(said.total.saturating_sub(before)).unwrap_or(usize::MAX);
        let tail: Vec<u8> = said.tail.iter().copied().skip(said.tail.len().saturating_sub(new)).collect();
        String::from_utf8_lossy(&tail).trim().to_owned()
    }

    /// The end of what was said, as text.
    pub fn text(&self) -> String {
        self.text_since(0)
    }
}

impl AsFd for LastWords {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}
