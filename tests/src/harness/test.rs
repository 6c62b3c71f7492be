//! One test: from a snapshot of the host to the proof that nothing was left behind.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use leakcheck::{Entry, Kind, Leaks, Scope, Snapshot};

use crate::direct::skip;

use super::{
    Containerd, Image, Version, cri, env,
    kit::Kit,
    scratch::{Scratch, start_time},
};

/// How long what is ending may take to be gone: containerd's `delete` takes 5 s at most.
const SETTLE: Duration = Duration::from_secs(10);

/// A test.
#[derive(Debug)]
pub struct Test {
    containerds: Vec<Containerd>,
    before: Snapshot,
    scratch: Scratch,
    /// Daemons of clients, as `PID@START`: they are the test's own.
    daemons: Mutex<Vec<String>>,
    /// Below it, mounts are no leak.
    theirs: Option<PathBuf>,
    finished: bool,
}

impl Test {
    /// A test with one containerd, in which these images are. `None`: it cannot run here, which was said.
    #[track_caller]
    pub fn begin(version: Version, images: &[Image]) -> Option<Self> {
        Self::begin_with(&[version], images)
    }

    /// A test with a containerd of each of these versions, side by side, which share the namespace and `URUNC_ROOT`.
    #[track_caller]
    pub fn begin_with(versions: &[Version], images: &[Image]) -> Option<Self> {
        if let Some(why) = versions.iter().find_map(|version| env::obstacle(*version)) {
            skip(&why);
            return None;
        }
        let kit = Kit::get();
        let mut test = Self::empty();
        for (i, version) in versions.iter().enumerate() {
            let containerd = Containerd::start(*version, &test.scratch, &kit, &format!("c{i}"));
            test.containerds.push(containerd);
            for image in images {
                test.containerds[i].import(*image);
            }
        }
        test.before = Snapshot::take(&test.scope());
        Some(test)
    }

    /// Made before anything starts, so that whatever fails is taken down.
    fn empty() -> Self {
        let before = Snapshot::take(&Scope::new().only_marked());
        Self {
            containerds: Vec::new(),
            before,
            scratch: Scratch::new(),
            daemons: Mutex::default(),
            theirs: None,
            finished: false,
        }
    }

    /// A test with a containerd for pods; `prepare` is called before it starts.
    #[track_caller]
    pub(super) fn begin_for_pods(
        version: Version,
        images: &[Image],
        faults: bool,
        prepare: impl FnOnce(&Scratch),
    ) -> Option<Self> {
        if let Some(why) = env::obstacle(version).or_else(env::no_crictl) {
            skip(&why);
            return None;
        }
        let kit = Kit::get();
        let mut test = Self::empty();
        prepare(&test.scratch);
        test.containerds.push(Containerd::start_for_pods(version, &test.scratch, &kit, faults));
        for image in images {
            test.containerd().import(*image);
        }
        test.before = Snapshot::take(&test.scope());
        Some(test)
    }

    /// A test with a containerd for a client that chooses the ids itself. `None`: it cannot run here, for `why` or
    /// another reason, which was said.
    #[track_caller]
    pub(super) fn begin_for_clients(version: Version, why: Option<String>) -> Option<Self> {
        if let Some(why) = env::obstacle(version).or(why) {
            skip(&why);
            return None;
        }
        let kit = Kit::get();
        let mut test = Self::empty();
        test.containerds.push(Containerd::start_for_clients(version, &test.scratch, &kit));
        Some(test)
    }

    /// This daemon of a client is the test's own, and no leak.
    pub(super) fn note_daemon(&self, pid: i32) {
        let name = start_time(pid).map(|start| format!("{pid}@{start}"));
        self.daemons.lock().unwrap_or_else(PoisonError::into_inner).extend(name);
    }

    /// Mounts below this folder are a client's daemon's, which keeps them.
    pub(super) fn ignore_mounts_below(&mut self, folder: PathBuf) {
        self.theirs = Some(folder);
    }

    /// A whole test with one containerd.
    #[track_caller]
    pub fn with(version: Version, images: &[Image], body: impl FnOnce(&Containerd)) {
        let Some(test) = Self::begin(version, images) else { return };
        body(test.containerd());
        test.finish();
    }

    /// The containerd, or the first one.
    pub fn containerd(&self) -> &Containerd {
        &self.containerds[0]
    }

    /// All containerds.
    pub fn containerds(&self) -> &[Containerd] {
        &self.containerds
    }

    /// The word that everything of this test is named after.
    pub(super) fn namespace(&self) -> String {
        self.scratch.namespace()
    }

    /// What is there now counts as what was there before: strangers that the test has put up.
    pub(super) fn rebase(&mut self) {
        self.before = Snapshot::take(&self.scope());
    }

    /// The end by force: whatever is left is taken down.
    pub(super) fn discard(mut self) {
        self.finished = true;
        for containerd in &self.containerds {
            if containerd.runs() {
                containerd.kill9();
            }
        }
        self.scratch.take_down();
    }

    /// What is there now and was not before.
    pub fn look(&self) -> Leaks {
        self.difference(&self.scope())
    }

    /// Nothing was left behind so far: no container may be there.
    #[track_caller]
    pub fn check(&self) {
        self.check_within(SETTLE);
    }

    #[track_caller]
    fn check_within(&self, timeout: Duration) {
        let leaks = self.settle(timeout);
        assert!(leaks.is_clean(), "something was left behind:\n{}", leaks.table());
    }

    /// The end of a test: nothing was left behind.
    #[track_caller]
    pub fn finish(self) {
        self.finish_within(SETTLE);
    }

    /// The same, where something may take longer by design.
    #[track_caller]
    pub fn finish_within(mut self, timeout: Duration) {
        self.check_within(timeout);
        for containerd in &self.containerds {
            containerd.stop();
        }
        cri::remove_network(&self.scratch);
        self.scratch.remove_pods();
        self.scratch.remove();
        self.finished = true;
    }

    fn scope(&self) -> Scope {
        // Not by name: tests beside this one leave orphans on purpose for a moment. All of ours is marked: the
        // namespace is in the path of every cgroup, the scratch folder in that of the shim's program.
        let mut scope = Scope::new()
            .only_marked()
            .marker(self.scratch.path().to_string_lossy())
            .marker(self.scratch.namespace())
            .root(self.scratch.root())
            // Which OCI runtime can serve: a note on a program.
            .except(self.scratch.root().join(".oci").to_string_lossy())
            .shared_folder(cri::RESULTS)
            .shared_folder("/run/containerd/runc");
        for daemon in self.daemons.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            scope = scope.except(daemon.clone());
        }
        for containerd in &self.containerds {
            for marker in containerd.sockets().into_iter().chain(containerd.unique_ids()) {
                scope = scope.marker(marker);
            }
            // One that was started again is another process.
            let pid = containerd.process().pid();
            if let Some(start) = start_time(pid) {
                scope = scope.except(format!("{pid}@{start}"));
            }
        }
        scope
    }

    /// What is there and was not before, nothing at best; waits for what is just ending.
    fn settle(&self, timeout: Duration) -> Leaks {
        let scope = self.scope();
        let deadline = Instant::now() + timeout;
        loop {
            let leaks = self.difference(&scope);
            if leaks.is_clean() || Instant::now() >= deadline {
                return leaks;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn difference(&self, scope: &Scope) -> Leaks {
        let mut leaks = self.before.diff(&Snapshot::take(scope));
        let is_theirs = |entry: &Entry| {
            entry.kind == Kind::Mount
                && (self.containerds.iter().any(|c| c.is_temporary_mount(&entry.name))
                    || self.theirs.as_ref().is_some_and(|folder| Path::new(&entry.name).starts_with(folder)))
        };
        leaks.leaked.retain(|entry| !self.is_standing(entry) && !is_theirs(entry));
        leaks
    }

    /// Whether it is one of the empty folders that the shim keeps: `ROOT`, `ROOT/.cgroups`, `ROOT/HASH`,
    /// `ROOT/HASH/.pods` and `ROOT/HASH/.owners`.
    fn is_standing(&self, entry: &Entry) -> bool {
        let root = self.scratch.root();
        let Ok(path) = Path::new(&entry.name).strip_prefix(&root) else { return false };
        let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
        let is_hash = |part: &str| part.len() == 12 && part.bytes().all(|b| b.is_ascii_hexdigit());
        let known = match parts.iter().map(AsRef::as_ref).collect::<Vec<&str>>()[..] {
            [] | [".cgroups"] => true,
            [hash] | [hash, ".pods" | ".owners"] => is_hash(hash),
            _ => false,
        };
        entry.kind == Kind::File && entry.detail == "folder" && known
    }

    /// Prints what helps to understand why a test failed.
    fn explain(&self) {
        // Not eprintln!, which panics if stderr is closed.
        let mut err = std::io::stderr().lock();
        for containerd in &self.containerds {
            let kept = std::env::temp_dir().join(format!("urunc-test-{}.log", self.scratch.namespace()));
            let kept = fs::copy(containerd.log(), &kept)
                .map_or_else(|e| e.to_string(), |_| kept.display().to_string());
            writeln!(
                err,
                "--- the end of containerd's log, all of it in {kept}\n{}\n---",
                containerd.log_tail()
            )
            .ok();
        }
    }
}

impl Drop for Test {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        self.explain();
        self.scratch.take_down();
        assert!(thread::panicking(), "the test did not call finish()");
    }
}
