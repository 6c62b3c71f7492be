//! Sees that somebody opens a file: so a test knows how far he has come.

use std::{os::fd::OwnedFd, path::Path};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify::{CreateFlags, WatchFlags, add_watch, init},
};

use super::SOON;

/// A file that is watched.
#[derive(Debug)]
pub struct Opened(OwnedFd);

impl Opened {
    /// From now on.
    #[track_caller]
    pub fn watch(path: &Path) -> Self {
        let fd = init(CreateFlags::CLOEXEC).unwrap();
        add_watch(&fd, path, WatchFlags::OPEN).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self(fd)
    }

    /// Waits until somebody has opened it.
    #[track_caller]
    pub fn wait(&self) {
        let limit = Timespec { tv_sec: SOON.as_secs().cast_signed(), tv_nsec: 0 };
        let seen = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&limit)).unwrap();
        assert!(seen > 0, "nobody opens it within {SOON:?}");
    }
}
