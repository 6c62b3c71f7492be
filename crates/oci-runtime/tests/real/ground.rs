//! What the tests share: a runtime with a root and a cgroup of its own, bundles of busybox, words for processes.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::symlink,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use oci_runtime::{Cancel, Create, Error, Exec, Runtime, Streams};
use proc_id::Process;
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Signal, WaitId, WaitIdOptions, getpid, set_child_subreaper, waitid},
};
use serde_json::{Value, json};

/// A test for each runtime: a module of its name with the tests `runc` and `crun`.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {$(
        mod $test {
            #[test]
            fn runc() {
                crate::ground::on("runc", super::$test);
            }
            #[test]
            fn crun() {
                crate::ground::on("crun", super::$test);
            }
        }
    )*};
}
pub(crate) use on_both;

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// Runs a test on a runtime, or says why it cannot.
pub fn on(name: &str, test: fn(&Ground)) {
    match Ground::new(name) {
        Ok(ground) => test(&ground),
        Err(why) => skip(&format!("oci-runtime: {why}")),
    }
}

/// Says that a test cannot run here, and counts it for the runner's last line.
pub fn skip(why: &str) {
    // Not println!: what a test says is swallowed unless it fails.
    writeln!(std::io::stderr(), "skipped: {why}").ok();
    if let Some(file) = env::var_os("URUNC_TEST_SKIPS")
        && let Ok(mut file) = OpenOptions::new().append(true).create(true).open(file)
    {
        file.write_all(format!("{why}\n").as_bytes()).ok();
    }
}

fn cache() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache");
    env::var_os("URUNC_TEST_CACHE").filter(|v| !v.is_empty()).map_or(own, PathBuf::from)
}

fn program(name: &str) -> Result<PathBuf, String> {
    let folder = if name == "runc" { "containerd-1.6/bin" } else { "crun/bin" };
    let cached = cache().join(folder).join(name);
    match oci_runtime::find(Some(Path::new(name))) {
        Ok(path) => Ok(path),
        Err(_) if cached.is_file() => Ok(cached.canonicalize().unwrap()),
        Err(_) => Err(format!("there is no {name} in PATH or the cache")),
    }
}

pub fn double(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/doubles").join(name)
}

pub struct Ground {
    pub name: String,
    pub runtime: Runtime,
    pub dir: tempfile::TempDir,
    cgroup: String,
}

impl Ground {
    fn new(name: &str) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static REAPER: Once = Once::new();
        if !rustix::process::geteuid().is_root() {
            return Err("containers need root".to_owned());
        }
        let mut program = program(name)?;
        let busybox = cache().join("guest/busybox");
        if !busybox.is_file() {
            return Err("there is no busybox in the cache".to_owned());
        }
        // Nobody here waits for whoever ends: each test waits for its own, by pidfd.
        REAPER.call_once(|| set_child_subreaper(Some(getpid())).unwrap());
        let dir = tempfile::tempdir().unwrap();
        if name == "crun" && Path::new("/sys/fs/cgroup/unified").exists() {
            symlink(&program, dir.path().join("crun.real")).unwrap();
            program = dir.path().join("crun");
            symlink(double("crun.sh"), &program).unwrap();
        }
        let bin = dir.path().join("rootfs/bin");
        for folder in ["root", "rootfs/bin", "rootfs/proc", "rootfs/dev", "rootfs/etc"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        // By another process: a file that we write is busy as long as a neighbour test's child, not yet what it will
        // be, has our descriptor.
        assert!(Command::new("cp").arg(&busybox).arg(bin.join("busybox")).status().unwrap().success());
        for name in ["sh", "sleep", "cat", "echo", "true", "false", "ls", "id", "stty", "tty"] {
            symlink("busybox", bin.join(name)).unwrap();
        }
        fs::write(dir.path().join("rootfs/etc/plain"), "no program").unwrap();
        let runtime = Runtime {
            program,
            root: dir.path().join("root"),
            systemd_cgroup: false,
            cancel: Cancel::default(),
        };
        let cgroup =
            format!("oci-runtime-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Ok(Self { name: name.to_owned(), runtime, dir, cgroup })
    }

    pub fn is_runc(&self) -> bool {
        self.name == "runc"
    }

    /// The spec of a container that runs these words in a pid namespace of its own.
    pub fn spec(&self, id: &str, words: &[&str]) -> Value {
        let mount = |kind: &str, at: &str| json!({"type": kind, "source": kind, "destination": at});
        let spaces = ["pid", "ipc", "uts", "mount", "network"];
        json!({
            "ociVersion": "1.0.2",
            "process": process(words),
            "root": {"path": self.dir.path().join("rootfs"), "readonly": true},
            "mounts": [mount("proc", "/proc"), mount("tmpfs", "/dev"), mount("devpts", "/dev/pts")],
            "linux": {
                "cgroupsPath": format!("/{}/{id}", self.cgroup),
                "namespaces": spaces.map(|space| json!({"type": space})),
            },
        })
    }

    pub fn bundle(&self, id: &str, spec: &Value) -> PathBuf {
        let bundle = self.dir.path().join(format!("bundle-{id}"));
        fs::create_dir_all(&bundle).unwrap();
        fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
        bundle
    }

    pub fn pid_file(&self, id: &str) -> PathBuf {
        self.dir.path().join(format!("{id}.pid"))
    }

    pub fn create(
        &self,
        id: &str,
        spec: &Value,
        streams: Streams,
        deadline: Instant,
    ) -> Result<Process, Error> {
        let (bundle, pid_file) = (self.bundle(id, spec), self.pid_file(id));
        let what = Create {
            id,
            bundle: &bundle,
            pid_file: &pid_file,
            console: None,
            streams,
            no_pivot: false,
            no_new_keyring: false,
        };
        let init = self.runtime.create(what, deadline);
        assert!(!pid_file.exists());
        init
    }

    /// Created and started.
    pub fn run(&self, id: &str, words: &[&str], streams: Streams) -> Process {
        let init = self.create(id, &self.spec(id, words), streams, soon()).unwrap();
        self.runtime.start(id, soon()).unwrap();
        init
    }

    pub fn exec(&self, id: &str, process: &Value, streams: Streams) -> Result<Process, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let pid_file = self.pid_file(&format!("{id}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let process = process.to_string();
        let what = Exec { id, process: process.as_bytes(), pid_file: &pid_file, console: None, streams };
        let started = self.runtime.exec(what, soon());
        assert!(!pid_file.exists());
        started
    }

    /// Kills init, reaps it and deletes the container.
    pub fn end(&self, id: &str, init: &Process) {
        init.signal(Signal::KILL).unwrap();
        assert_eq!(reap(init), Ended::Killed(9));
        self.runtime.delete(id, false, soon()).unwrap();
    }

    /// The folders of a container's cgroup, or of all with an empty id.
    pub fn cgroups(&self, id: &str) -> Vec<PathBuf> {
        let top = Path::new("/sys/fs/cgroup");
        let tops = fs::read_dir(top).unwrap().map(|entry| entry.unwrap().path()).chain([top.to_owned()]);
        tops.map(|top| top.join(&self.cgroup).join(id)).filter(|path| path.is_dir()).collect()
    }

    /// A file of the container's cgroup, in whatever hierarchy has it.
    pub fn cgroup_file(&self, id: &str, names: &[&str]) -> String {
        let files = self.cgroups(id).into_iter().flat_map(|dir| names.iter().map(move |n| dir.join(n)));
        let read = files.filter_map(|file| fs::read_to_string(file).ok()).next();
        read.expect("no such file in the cgroup").trim().to_owned()
    }

    /// Who is in the container's cgroup.
    pub fn members(&self, id: &str) -> Vec<i32> {
        let lists =
            self.cgroups(id).into_iter().filter_map(|dir| fs::read_to_string(dir.join("cgroup.procs")).ok());
        let mut pids: Vec<i32> =
            lists.flat_map(|list| list.lines().map(|l| l.parse().unwrap()).collect::<Vec<_>>()).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Ends and reaps who is in the container's cgroup, which is ours alone.
    pub fn empty(&self, id: &str) {
        for pid in self.members(id) {
            if let Ok(process) = Process::of_child(u32::try_from(pid).unwrap()) {
                process.signal(Signal::KILL).unwrap();
                reap(&process);
            }
        }
        eventually("the cgroup is empty", || self.members(id).is_empty());
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.runtime.root).into_iter().flatten().flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            let _ = self.runtime.delete(&id, true, soon());
        }
        let until = soon();
        while let dirs = self.cgroups("")
            && !dirs.is_empty()
        {
            for dir in dirs {
                for child in fs::read_dir(&dir).into_iter().flatten().flatten() {
                    let _ = fs::remove_dir(child.path());
                }
                let _ = fs::remove_dir(dir);
            }
            if Instant::now() > until {
                eprintln!("LEFT BEHIND: cgroups {}", self.cgroup);
                break;
            }
            sleep(Duration::from_millis(2));
        }
    }
}

/// A process as the specification has it.
pub fn process(words: &[&str]) -> Value {
    json!({"user": {"uid": 0, "gid": 0}, "args": words, "env": ["PATH=/bin"], "cwd": "/", "terminal": false})
}

#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    With(i32),
    Killed(i32),
}

/// Waits for a child's end and reaps it.
pub fn reap(process: &Process) -> Ended {
    assert!(process.wait(Some(Duration::from_secs(30))).unwrap(), "it does not end");
    let status = waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
    match status.exit_status() {
        Some(code) => Ended::With(code),
        None => Ended::Killed(status.terminating_signal().unwrap()),
    }
}

/// A pipe: what we read, and what is given away.
pub fn pipe() -> (File, OwnedFd) {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    (File::from(read), write)
}

/// Streams that only have stdout, and where it can be read.
pub fn with_stdout() -> (File, Streams) {
    let (read, write) = pipe();
    (read, Streams { stdout: Some(write), ..Streams::default() })
}

/// Reads to the end, which comes when nobody has the other end any more.
pub fn all_of(mut file: File) -> String {
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

/// Reads up to the end of a line.
pub fn line_of(file: &mut File) -> String {
    let mut line = vec![];
    let mut byte = [0];
    while file.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

/// Waits until it is true; fails after 30 s.
pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let until = soon();
    while !is() {
        assert!(Instant::now() < until, "not in time: {what}");
        sleep(Duration::from_millis(2));
    }
}
