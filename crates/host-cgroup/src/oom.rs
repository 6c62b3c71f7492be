//! Word of the kernel that it has run out of memory in a cgroup, as it happens: on v1 an eventfd that is named in
//! `cgroup.event_control`, on v2 an inotify watch of `memory.events`.
//!
//! It owns one descriptor, which ends all of it. The word comes before the kill, and on v1 also to those below a cgroup
//! that has run out: whether somebody was killed says the count alone.

use std::{
    fs::File,
    io::Write,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use rustix::{
    event::{EventfdFlags, eventfd},
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::{Errno, read},
};

use crate::{Error, Kernel, Version, WholePlan, usage::oom_kills_in};

/// Readable when the kernel has something to say.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
    version: Version,
    dir: PathBuf,
}

impl OomWatch {
    /// Of the path where memory is accounted; `None`: nowhere, or it is gone.
    pub fn new(whole: &WholePlan) -> Result<Option<Self>, Error> {
        let Some(h) = whole.hierarchies.iter().find(|h| h.has("memory")) else { return Ok(None) };
        let dir = h.dir();
        match watch(h.version, &dir) {
            Ok(fd) => Ok(Some(Self { fd, version: h.version, dir })),
            Err((file, e)) if !dir.is_dir() => {
                drop((file, e));
                Ok(None)
            }
            Err((file, e)) => Err(Error::io("watching", file)(e)),
        }
    }

    /// Takes what was said.
    pub fn hear(&self) {
        let mut said = [0u8; 4096];
        while read(&self.fd, &mut said).is_ok_and(|n| n > 0) {}
    }

    /// How many processes of the cgroup the kernel has killed so far; `None`: the cgroup is gone.
    pub fn kills(&self) -> Result<Option<u64>, Error> {
        oom_kills_in(&Kernel, self.version, &self.dir)
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn watch(version: Version, dir: &std::path::Path) -> Result<OwnedFd, (PathBuf, Errno)> {
    let of = |name: &str| dir.join(name);
    let errno = |e: &std::io::Error| Errno::from_io_error(e).unwrap_or(Errno::IO);
    match version {
        Version::V1 => {
            let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
            let fd = fd.map_err(|e| (of("cgroup.event_control"), e))?;
            let file = of("memory.oom_control");
            let counter = File::open(&file).map_err(|e| (file, errno(&e)))?;
            let line = format!("{} {}", fd.as_raw_fd(), counter.as_raw_fd());
            let file = of("cgroup.event_control");
            let control = File::options().write(true).open(&file);
            control.and_then(|mut f| f.write_all(line.as_bytes())).map_err(|e| (file, errno(&e)))?;
            Ok(fd)
        }
        Version::V2 => {
            let file = of("memory.events");
            let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
            let fd = fd.map_err(|e| (file.clone(), e))?;
            inotify::add_watch(&fd, &file, WatchFlags::MODIFY).map_err(|e| (file, e))?;
            Ok(fd)
        }
    }
}
