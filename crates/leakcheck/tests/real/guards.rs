//! Leaks that end with their guards, and the two questions every test asks.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use leakcheck::{Entry, Kind, Leaks, Scope, Snapshot, settle};

/// How long a clean host may take to look clean, on a busy machine.
const SETTLE: Duration = Duration::from_secs(10);

/// A test's own marker, scratch folder, scope, and the snapshot before.
pub struct Ground {
    pub marker: String,
    pub folder: PathBuf,
    pub scope: Scope,
    pub before: Snapshot,
}

impl Ground {
    pub fn new() -> Self {
        Self::with(|scope, _| scope)
    }

    pub fn with(more: impl FnOnce(Scope, &Path) -> Scope) -> Self {
        let marker = unique("leakcheck");
        let folder = std::env::temp_dir().join(&marker);
        fs::create_dir(&folder).unwrap();
        let scope = more(Scope::new().marker(&marker).only_marked(), &folder);
        Self { before: Snapshot::take(&scope), marker, folder, scope }
    }

    pub fn look(&self) -> Leaks {
        self.before.diff(&Snapshot::take(&self.scope))
    }

    /// Exactly one entry of this kind is new; other kinds may have some.
    pub fn one(&self, kind: Kind) -> Entry {
        let leaks = self.look();
        let found: Vec<&Entry> = leaks.of(kind).collect();
        assert_eq!(found.len(), 1, "{kind:?}\n{}", leaks.table());
        // A neighbour's process that is just ending cannot be told from ours; `is_clean` waits until it is gone.
        assert!(
            leaks.unreadable.iter().all(|missed| missed.reason.contains(" is ending: ")),
            "{}",
            leaks.table()
        );
        assert!(leaks.table().contains(&found[0].name));
        let json: serde_json::Value = serde_json::from_str(&leaks.to_json().unwrap()).unwrap();
        let (kind, name) =
            (serde_json::to_value(kind).unwrap(), serde_json::to_value(&found[0].name).unwrap());
        let named = |entry: &serde_json::Value| entry["kind"] == kind && entry["name"] == name;
        assert_eq!(
            json["leaked"].as_array().unwrap().iter().filter(|entry| named(entry)).count(),
            1,
            "{json}"
        );
        found[0].clone()
    }

    /// Nothing is left, at the latest after a while.
    pub fn is_clean(&self) -> Leaks {
        let leaks = settle(&self.before, &self.scope, SETTLE);
        assert!(leaks.is_clean(), "{}", leaks.table());
        leaks
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A string that nobody else uses.
pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("{prefix}-{}-{}-{now:x}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Six hexadecimal digits, for names that must be short.
pub fn short() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("{:04x}{:02x}", std::process::id() & 0xffff, COUNT.fetch_add(1, Ordering::Relaxed) & 0xff)
}

/// Says that something was not tested, and why.
pub fn skip(what: &str, why: &str) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    assert!(std::env::var_os("LEAKCHECK_NO_SKIP").is_none(), "{what}: {why}");
    println!("SKIPPED ({} so far): {what}: {why}", COUNT.fetch_add(1, Ordering::Relaxed) + 1);
}

/// A child in a process group of its own, killed with the whole group.
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command) -> Self {
        Self::start_with_stdin(command, Stdio::null()).0
    }

    pub fn start_with_stdin(command: &mut Command, stdin: Stdio) -> (Self, Option<ChildStdin>) {
        let mut child = command.stdin(stdin).process_group(0).spawn().unwrap();
        let stdin = child.stdin.take();
        (Self(child), stdin)
    }

    /// A sleeper without any marker.
    pub fn stranger() -> Self {
        Self::start(Command::new("sleep").arg("1000"))
    }

    /// Shell code with the marker in its environment. It should end in `exec sleep`.
    pub fn shell(marker: &str, code: &str) -> Self {
        Self::start(Command::new("sh").args(["-c", code]).env("LEAKCHECK_MARKER", marker))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits until the shell code came to its `exec sleep`.
    pub fn asleep(self) -> Self {
        let comm = format!("/proc/{}/comm", self.pid());
        wait_for("the child to sleep", || fs::read_to_string(&comm).is_ok_and(|comm| comm == "sleep\n"));
        self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = rustix::process::Pid::from_raw(self.pid() as i32) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + SETTLE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A command that has to be run to undo something.
pub struct Undo(Command);

impl Undo {
    /// Runs `make`; if it worked, `undo` is run at the end. Otherwise the words on stderr.
    pub fn after(make: &[&str], undo: &[&str]) -> Result<(String, Self), String> {
        let done = command(make).output().map_err(|error| error.to_string())?;
        if done.status.success() {
            Ok((String::from_utf8_lossy(&done.stdout).trim().to_owned(), Self(command(undo))))
        } else {
            Err(String::from_utf8_lossy(&done.stderr).trim().to_owned())
        }
    }

    pub fn new(undo: &[&str]) -> Self {
        Self(command(undo))
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let _ = self.0.status();
    }
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// Mounts onto a path in a scratch folder.
pub fn mounted(words: &[&str], at: &Path) -> Undo {
    let at = at.to_str().unwrap();
    Undo::after(&[&["mount"], words, &[at]].concat(), &["umount", "-l", at]).unwrap().1
}

/// An empty folder that goes with a plain rmdir: a cgroup, or something in a shared place.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn make(path: PathBuf) -> std::io::Result<Self> {
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A process that was killed leaves its cgroup a moment later.
        for _ in 0..200 {
            if fs::remove_dir(&self.0).is_ok() || !self.0.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
