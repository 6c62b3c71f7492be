//! Finds the process that is to be killed: among those that are this node's, by program, arguments and cgroup.
//!
//! Whatever is signalled is held by a pidfd that was opened before it was looked at.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, Instant},
};

use rustix::process::getpid;

use crate::{
    direct::Proc,
    harness::{Handler, Node},
};

use super::choice::Victim;

/// How to tell who is who on one node.
#[derive(Debug)]
pub struct Suspects {
    handler: Handler,
    /// In the arguments of everything that this containerd executes.
    address: String,
    /// Where our shim's program is.
    folder: PathBuf,
    /// In the path of every container's cgroup.
    cgroup: String,
}

impl Suspects {
    /// Those of a node that runs containers by this handler.
    pub fn on(node: &Node, handler: Handler) -> Self {
        let containerd = node.containerd();
        Self {
            handler,
            address: containerd.address().to_string_lossy().into_owned(),
            folder: containerd.scratch().to_owned(),
            cgroup: format!("/{}/", node.namespace()),
        }
    }

    /// The newest process of this kind that lives now and was born since; of daemons the oldest, for a launcher is one
    /// before its exec. One of an earlier life may be there still, and leave late.
    pub fn find(&self, victim: Victim, since: Tick) -> Option<Proc> {
        let mut pids: Vec<i32> = fs::read_dir("/proc")
            .ok()?
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        // Once for each: one that ends meanwhile has another answer the second time.
        pids.sort_by_cached_key(|pid| start_time(*pid));
        if victim != Victim::Daemon {
            pids.reverse();
        }
        let own = getpid().as_raw_pid();
        pids.retain(|pid| *pid > 1 && *pid != own && start_time(*pid) >= Some(since.0));
        let processes = pids.into_iter().filter_map(Proc::find);
        processes.into_iter().find(|process| self.is(process, victim))
    }

    /// Whether a process is of this kind.
    pub fn is(&self, process: &Proc, victim: Victim) -> bool {
        let dir = PathBuf::from(format!("/proc/{}", process.pid()));
        let read = |name: &str| fs::read(dir.join(name)).unwrap_or_default();
        let line = read("cmdline");
        let words: Vec<_> = line.split(|b| *b == 0).map(String::from_utf8_lossy).collect();
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).filter(|word| !word.is_empty()).collect();
        let program = fs::read_link(dir.join("exe")).unwrap_or_default();
        let inside = || String::from_utf8_lossy(&read("cgroup")).contains(&self.cgroup);
        let is = match self.handler {
            Handler::Urunc => self.is_ours(victim, &words, &program, &inside),
            Handler::Runc => self.is_runcs(victim, &words, &program, &inside),
        };
        // Only of a process that still lives was all of this its own.
        is && process.is_alive()
    }

    /// Whether a process waits for the end of this `delete` of ours, to go on with its work.
    pub fn stands_by(&self, process: &Proc, delete: &Proc) -> bool {
        let pid = process.pid();
        self.is_gc(pid) && stat_field(pid, 1) == Some(delete.pid()) && process.is_alive()
    }

    /// Whether a process is a `gc` of ours.
    pub fn is_gc(&self, pid: i32) -> bool {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let line = fs::read(dir.join("cmdline")).unwrap_or_default();
        let program = fs::read_link(dir.join("exe")).unwrap_or_default();
        program.starts_with(&self.folder) && line.ends_with(b"\0gc\0")
    }

    fn is_ours(&self, victim: Victim, words: &[&str], program: &Path, inside: &dyn Fn() -> bool) -> bool {
        let of_shim = || program.starts_with(&self.folder);
        let ends = |action: &str| of_shim() && words.last() == Some(&action);
        match victim {
            Victim::Daemon => ends("daemon"),
            Victim::Start => ends("start"),
            Victim::Delete => ends("delete"),
            Victim::Launcher => of_shim() && words.get(1) == Some(&"launch"),
            Victim::Monitor => {
                (name_of(program).starts_with("qemu-system") || name_of(program) == "busybox") && inside()
            }
            Victim::Runtime => self.is_oci(words, inside),
            Victim::Client | Victim::Containerd => false,
        }
    }

    /// runc at work on a container of this node: its state, or its bundle, is in the scratch folder.
    fn is_oci(&self, words: &[&str], inside: &dyn Fn() -> bool) -> bool {
        let is_runc = words.first().is_some_and(|word| name_of(Path::new(word)) == "runc");
        let folder = || words.iter().any(|word| Path::new(word).starts_with(&self.folder));
        is_runc && (folder() || (words.get(1) == Some(&"init") && inside()))
    }

    fn is_runcs(&self, victim: Victim, words: &[&str], program: &Path, inside: &dyn Fn() -> bool) -> bool {
        let of_shim =
            || name_of(program) == "containerd-shim-runc-v2" && words.contains(&self.address.as_str());
        let ends = |action: &str| of_shim() && words.last() == Some(&action);
        match victim {
            Victim::Daemon => of_shim() && !["start", "delete"].contains(words.last().unwrap_or(&"")),
            Victim::Start => ends("start"),
            Victim::Delete => ends("delete"),
            Victim::Launcher => {
                let makes = || words.contains(&"create") || words.get(1) == Some(&"init");
                self.is_oci(words, inside) && makes() || words.first() == Some(&"/pause") && inside()
            }
            Victim::Monitor => name_of(program) == "busybox" && inside(),
            Victim::Runtime => self.is_oci(words, inside),
            Victim::Client | Victim::Containerd => false,
        }
    }
}

/// A moment, in the unit of a process's start time.
#[derive(Clone, Copy, Debug)]
pub struct Tick(u64);

impl Tick {
    /// Now. Both are hundredths of a second since boot for whoever is no kernel (proc(5)).
    pub fn now() -> Self {
        let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
        let first = uptime.split(' ').next().unwrap_or_default();
        Self(first.replace('.', "").parse().expect("seconds and hundredths since boot"))
    }
}

/// What was born since the last look, by the kernel's last number: reading all of `/proc` takes longer than a `start`
/// lives.
#[derive(Debug)]
pub struct Births {
    last: i32,
    young: Vec<(Proc, Instant)>,
}

impl Births {
    /// From now on.
    pub fn new() -> Self {
        Self { last: last_pid(), young: Vec::new() }
    }

    /// One of this kind that was born since then.
    pub fn next(&mut self, suspects: &Suspects, victim: Victim) -> Option<Proc> {
        self.find(|process| suspects.is(process, victim))
    }

    /// One of which this is true.
    pub fn find(&mut self, is: impl Fn(&Proc) -> bool) -> Option<Proc> {
        // A process looks like its parent until its exec.
        const YOUTH: Duration = Duration::from_millis(200);
        let last = last_pid();
        let born = if last >= self.last { self.last + 1..=last } else { 2..=last };
        let now = Instant::now();
        // A thread has a number too, but no pidfd.
        self.young.extend(born.filter_map(Proc::find).map(|process| (process, now)));
        self.last = last;
        self.young.retain(|(process, since)| since.elapsed() < YOUTH && process.is_alive());
        let found = self.young.iter().position(|(process, _)| is(process))?;
        Some(self.young.swap_remove(found).0)
    }
}

fn last_pid() -> i32 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().last().and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn start_time(pid: i32) -> Option<u64> {
    stat_field(pid, 19)
}

/// A field of `/proc/PID/stat`, counted from behind the command's name.
fn stat_field<T: FromStr>(pid: i32, nth: usize) -> Option<T> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(nth)?.parse().ok()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
