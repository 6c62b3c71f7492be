//! The `/proc` folder of one process, held open: every read is of that process or fails, also when its pid has gone
//! to somebody else in the meantime.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Dir, Mode, OFlags, openat, readlinkat};
use rustix::io::retry_on_intr;
use serde::{Deserialize, Serialize};

/// Who a process is: pids are used again, a pid together with its start time is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub pid: i32,
    pub start: u64,
}

impl ProcessId {
    /// The process that has this pid now.
    pub fn of(pid: i32) -> Option<Self> {
        ProcDir::open(pid).ok()?.stat().ok()?.map(|stat| stat.id())
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.pid, self.start)
    }
}

/// The part of `/proc/PID/stat` that we need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    pub pid: i32,
    pub comm: String,
    pub state: char,
    pub ppid: i32,
    pub kernel_thread: bool,
    pub threads: u32,
    /// Clock ticks between the boot and the start of the process.
    pub start: u64,
}

impl Stat {
    pub fn id(&self) -> ProcessId {
        ProcessId { pid: self.pid, start: self.start }
    }

    /// Whether it only waits to be waited for. A first thread that ended before the others looks like that, too.
    pub fn is_zombie(&self) -> bool {
        self.state == 'Z' && self.threads <= 1
    }
}

#[derive(Debug)]
pub(crate) struct ProcDir(OwnedFd);

impl ProcDir {
    pub fn open(pid: i32) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(openat(CWD, format!("/proc/{pid}"), flags, Mode::empty())?))
    }

    /// The content of a file, whatever its bytes are.
    pub fn read(&self, name: &str) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.bytes(name)?).into_owned())
    }

    pub fn bytes(&self, name: &str) -> io::Result<Vec<u8>> {
        let file = openat(&self.0, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut content = Vec::new();
        let mut buffer = [0; 8192];
        loop {
            match retry_on_intr(|| rustix::io::read(&file, &mut buffer))? {
                0 => return Ok(content),
                n => content.extend_from_slice(&buffer[..n]),
            }
        }
    }

    pub fn link(&self, name: &str) -> io::Result<String> {
        Ok(readlinkat(&self.0, name, Vec::new())?.to_string_lossy().into_owned())
    }

    /// The names in a folder that are numbers: fds or threads.
    pub fn numbers(&self, name: &str) -> io::Result<Vec<i32>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut found = Vec::new();
        for entry in Dir::new(openat(&self.0, name, flags, Mode::empty())?)? {
            found.extend(entry?.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()));
        }
        Ok(found)
    }

    /// Number and target of each open fd whose target is wanted; one whose target cannot be read was closed since.
    pub fn fds(&self, wanted: impl Fn(&[u8]) -> bool) -> io::Result<Vec<(i32, String)>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(&self.0, "fd", flags, Mode::empty())?;
        let mut found = Vec::new();
        let mut buffer = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(number) = name.to_str().ok().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let Ok(target) = readlinkat(&folder, name, std::mem::take(&mut buffer)) else { continue };
            if wanted(target.to_bytes()) {
                found.push((number, target.to_string_lossy().into_owned()));
            }
            buffer = target.into_bytes();
        }
        Ok(found)
    }

    pub fn stat(&self) -> io::Result<Option<Stat>> {
        Ok(parse(&self.read("stat")?))
    }
}

/// The flag of a kernel thread in the ninth field (PF_KTHREAD of the kernel's sched.h).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// The name in parentheses may itself hold parentheses and spaces, so everything is counted from the last one.
fn parse(stat: &str) -> Option<Stat> {
    let (pid, rest) = stat.split_once(" (")?;
    let (comm, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let flags: u64 = fields.get(6)?.parse().ok()?;
    Some(Stat {
        pid: pid.parse().ok()?,
        comm: comm.to_owned(),
        state: fields.first()?.chars().next()?,
        ppid: fields.get(1)?.parse().ok()?,
        kernel_thread: flags & KERNEL_THREAD != 0,
        threads: fields.get(17)?.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_traps_is_read() {
        let line = "42 (a) S 1 (b) Z 7 42 42 0 -1 2097216 0 0 0 0 0 0 0 0 20 0 3 0 98765 0 0";
        let stat = parse(line).unwrap();
        assert_eq!((stat.pid, stat.ppid, stat.start, stat.threads), (42, 7, 98765, 3));
        assert_eq!((stat.comm.as_str(), stat.state), ("a) S 1 (b", 'Z'));
        assert!(stat.kernel_thread);
        assert_eq!(parse("42 (x"), None);
    }

    #[test]
    fn we_see_ourselves() {
        let dir = ProcDir::open(std::process::id() as i32).unwrap();
        let stat = dir.stat().unwrap().unwrap();
        assert_eq!(stat.pid, std::process::id() as i32);
        assert!(!stat.kernel_thread);
        assert!(dir.numbers("task").unwrap().contains(&stat.pid));
        assert!(dir.link("ns/net").unwrap().starts_with("net:["));
    }
}
