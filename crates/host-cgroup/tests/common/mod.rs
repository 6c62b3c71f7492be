//! What the tests share: a marked place in the machine's own cgroups that is always cleaned, processes that always
//! end, and a `Files` that fails on demand.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code, used by several test programs"
)]

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use host_cgroup::{CgroupsPath, DirId, Error, Files, Hierarchies, Kernel, LeafPlan, Limits, Notes, Version};
use rustix::io::Errno;

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// A directory name of its own in every hierarchy, below which everything is removed at the end, also by a panic.
pub struct Place {
    pub name: String,
    pub hierarchies: Hierarchies,
    pub notes: Notes,
    folder: tempfile::TempDir,
}

impl Place {
    /// `None`, with a word on stderr, where the machine's cgroups cannot be used.
    pub fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let hierarchies = Hierarchies::detect().unwrap();
        let usable = hierarchies.iter().any(|h| h.controllers.iter().any(|name| name == "memory"));
        if !rustix::process::geteuid().is_root() || !usable {
            eprintln!("skipped: needs root and a cgroup hierarchy with the memory controller");
            return None;
        }
        let name = format!("hcg-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes::new(folder.path().join("notes"));
        Some(Self { name, hierarchies, notes, folder })
    }

    /// Whether there are hierarchies of v1; else all controllers are in the v2 tree.
    pub fn has_v1(&self) -> bool {
        self.hierarchies.iter().any(|h| h.version == Version::V1)
    }

    pub fn path(&self, below: &str) -> CgroupsPath {
        CgroupsPath::parse(&format!("/{}{below}", self.name)).unwrap()
    }

    pub fn plan(&self, below: &str, txid: &str, limits: &Limits) -> Result<LeafPlan, Error> {
        LeafPlan::new(&Kernel, &self.hierarchies, &self.path(below), txid, limits)
    }

    pub fn plain(&self, below: &str, txid: &str) -> LeafPlan {
        self.plan(below, txid, &Limits::default()).unwrap()
    }

    pub fn create(&self, plan: &LeafPlan) -> Vec<OwnedFd> {
        host_cgroup::create(&Kernel, plan, &Limits::default(), &self.notes).unwrap()
    }

    pub fn remove(&self, plan: &LeafPlan) {
        host_cgroup::remove(&Kernel, plan, &self.notes, soon()).unwrap();
    }

    /// Every directory that is there under our name, deepest last.
    pub fn dirs(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for h in self.hierarchies.iter() {
            walk(&h.mount.join(&self.name), &mut found);
        }
        found
    }

    pub fn notes_left(&self) -> usize {
        fs::read_dir(self.folder.path().join("notes")).map_or(0, Iterator::count)
    }
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    if dir.is_dir() {
        found.push(dir.to_owned());
        for child in Kernel.subdirs(dir).unwrap_or_default() {
            walk(&child, found);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let until = soon();
        loop {
            let dirs = self.dirs();
            if dirs.is_empty() {
                return;
            }
            if Instant::now() > until {
                eprintln!("LEFT BEHIND: {dirs:?}");
                return;
            }
            for dir in dirs.iter().rev() {
                // All that is below our name was started by this test.
                let _ = fs::write(dir.join("cgroup.kill"), "1");
                let _ = fs::remove_dir(dir);
            }
            sleep(Duration::from_millis(2));
        }
    }
}

/// A child that is killed and reaped at the end.
pub struct Proc(pub Child);

impl Proc {
    pub fn sh(script: &str) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// Started, and put into the leaf before it does anything.
    pub fn inside(plan: &LeafPlan, script: &str) -> Self {
        let mut proc = {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &format!("read go; {script}")]).stdin(Stdio::piped());
            Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
        };
        for h in &plan.hierarchies {
            proc.move_to(&h.leaf_dir());
        }
        proc.0.stdin.take().unwrap().write_all(b"go\n").unwrap();
        proc
    }

    pub fn move_to(&self, dir: &Path) {
        fs::write(dir.join("cgroup.procs"), self.0.id().to_string()).unwrap();
    }

    pub fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until it is true; fails after 20 s.
pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let until = soon();
    while !is() {
        assert!(Instant::now() < until, "not in time: {what}");
        sleep(Duration::from_millis(2));
    }
}

/// Passes everything on, except what the rule answers itself. The rule gets the operation, the path, and the number of
/// operations before this one.
pub struct Failing<'a, R> {
    pub inner: &'a dyn Files,
    pub rule: R,
    pub calls: Cell<usize>,
}

impl<'a, R: Fn(&str, &Path, usize) -> Option<Errno>> Failing<'a, R> {
    pub fn new(inner: &'a dyn Files, rule: R) -> Self {
        Self { inner, rule, calls: Cell::new(0) }
    }

    fn ask(&self, op: &str, path: &Path) -> Result<&'a dyn Files, Errno> {
        let n = self.calls.get();
        self.calls.set(n + 1);
        (self.rule)(op, path, n).map_or(Ok(self.inner), Err)
    }
}

impl<R: Fn(&str, &Path, usize) -> Option<Errno>> Files for Failing<'_, R> {
    fn mkdir(&self, dir: &Path) -> Result<(), Errno> {
        self.ask("mkdir", dir)?.mkdir(dir)
    }
    fn rmdir(&self, dir: &Path) -> Result<(), Errno> {
        self.ask("rmdir", dir)?.rmdir(dir)
    }
    fn read(&self, file: &Path) -> Result<String, Errno> {
        self.ask("read", file)?.read(file)
    }
    fn write(&self, file: &Path, value: &str) -> Result<(), Errno> {
        self.ask("write", file)?.write(file, value)
    }
    fn open(&self, file: &Path) -> Result<OwnedFd, Errno> {
        self.ask("open", file)?.open(file)
    }
    fn subdirs(&self, dir: &Path) -> Result<Vec<PathBuf>, Errno> {
        self.ask("subdirs", dir)?.subdirs(dir)
    }
    fn identity(&self, dir: &Path) -> Result<DirId, Errno> {
        self.ask("identity", dir)?.identity(dir)
    }
}
