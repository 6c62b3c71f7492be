//! The folder of one test, and how everything that belongs to it is found and taken down.
//!
//! Its name says whose it is: pid and start time of the test's process, and a random word, which is also in the
//! containerd namespace and hence in the paths of the cgroups. So what a test leaves that was killed itself can be
//! taken down by the next one, by its name alone.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Once,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    mount::{UnmountFlags, unmount},
    process::{Signal, getpid},
};

use crate::direct::Proc;

use super::{cri, env::scratch_base};

const PREFIX: &str = "urunc-test-";
/// How long the processes of a test may take to die.
const DYING: Duration = Duration::from_secs(20);

/// A scratch folder.
#[derive(Clone, Debug)]
pub struct Scratch {
    path: PathBuf,
    word: String,
}

impl Scratch {
    /// Makes one.
    pub fn new() -> Self {
        static SWEEP: Once = Once::new();
        let base = scratch_base().canonicalize().unwrap();
        SWEEP.call_once(|| sweep(&base));
        let pid = getpid().as_raw_pid();
        let start = start_time(pid).unwrap();
        let mut random = [0u8; 4];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).unwrap();
        let word: String = random.iter().map(|b| format!("{b:02x}")).collect();
        let path = base.join(format!("{PREFIX}{pid}-{start}-{word}"));
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self { path, word }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The containerd namespace that goes with it; for pods, the cgroup that they are in.
    pub fn namespace(&self) -> String {
        format!("t-{}", self.word)
    }

    /// `URUNC_ROOT` of everything that is started here.
    pub fn root(&self) -> PathBuf {
        self.path.join("urunc")
    }

    /// Every process that belongs here: by its command line, environment, program or cgroup.
    pub fn processes(&self) -> Vec<Proc> {
        let marks = [self.path.to_string_lossy().into_owned(), format!("/{}/", self.namespace())];
        let own = getpid().as_raw_pid();
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| *pid > 1 && *pid != own)
            .filter_map(|pid| {
                // The pidfd comes first: if it still lives after it was looked at, it is what was looked at.
                let process = Proc::find(pid)?;
                let dir = PathBuf::from(format!("/proc/{pid}"));
                let mut text = Vec::new();
                for name in ["cmdline", "environ", "cgroup"] {
                    text.extend(fs::read(dir.join(name)).unwrap_or_default());
                }
                let mut text = String::from_utf8_lossy(&text).into_owned();
                text += &fs::read_link(dir.join("exe")).unwrap_or_default().to_string_lossy();
                (marks.iter().any(|mark| text.contains(mark)) && process.is_alive()).then_some(process)
            })
            .collect()
    }

    /// Takes down whatever there is: processes first, then what they held.
    pub fn take_down(&self) {
        let deadline = Instant::now() + DYING;
        loop {
            let processes = self.processes();
            if processes.is_empty() || Instant::now() >= deadline {
                break;
            }
            for process in &processes {
                process.signal(Signal::KILL);
            }
            for process in &processes {
                process.ends_within(deadline.saturating_duration_since(Instant::now()));
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.remove_sockets();
        self.remove_runcs();
        for point in self.mounts() {
            unmount(&point, UnmountFlags::DETACH).ok();
        }
        cri::remove_network(self);
        for cgroup in self.cgroups() {
            remove_cgroup(&cgroup);
        }
        fs::remove_dir_all(&self.path).ok();
    }

    /// Removes the cgroup that pods were in; nothing may be in it any more.
    pub fn remove_pods(&self) {
        for cgroup in self.cgroups() {
            fs::remove_dir(cgroup).ok();
        }
    }

    /// Removes the folder, in which nothing may live any more.
    #[track_caller]
    pub fn remove(&self) {
        let mounts = self.mounts();
        assert!(mounts.is_empty(), "mounts are left: {mounts:?}");
        fs::remove_dir_all(&self.path).unwrap();
    }

    /// The mount points below, the innermost first.
    pub fn mounts(&self) -> Vec<PathBuf> {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        let mut points: Vec<_> = points.filter(|point| point.starts_with(&self.path)).collect();
        points.reverse();
        points
    }

    /// The folders of its namespace in every cgroup hierarchy.
    fn cgroups(&self) -> Vec<PathBuf> {
        let top = Path::new("/sys/fs/cgroup");
        let below = fs::read_dir(top).into_iter().flatten().flatten().map(|e| e.path());
        let all = std::iter::once(top.to_owned()).chain(below);
        all.map(|folder| folder.join(self.namespace())).filter(|folder| folder.is_dir()).collect()
    }

    /// What runc's shim has in folders that all of a host share, by the bundles that are there: the socket and the state
    /// of runc. Ids are nobody else's.
    fn remove_runcs(&self) {
        let bundles = folders(&self.path)
            .flat_map(|containerd| folders(&containerd.join("state/io.containerd.runtime.v2.task")))
            .flat_map(|namespace| folders(&namespace));
        for bundle in bundles {
            let text = |file| fs::read_to_string(bundle.join(file)).unwrap_or_default();
            let newer: serde_json::Value = serde_json::from_str(&text("bootstrap.json")).unwrap_or_default();
            let older = text("address");
            let address = newer["address"].as_str().unwrap_or(&older);
            if let Some(socket) = address.strip_prefix("unix:///run/containerd/s/") {
                fs::remove_file(Path::new("/run/containerd/s").join(socket)).ok();
            }
            if let (Some(id), Some(namespace)) =
                (bundle.file_name(), bundle.parent().and_then(Path::file_name))
            {
                fs::remove_dir_all(Path::new("/run/containerd/runc").join(namespace).join(id)).ok();
            }
        }
    }

    /// The sockets of daemons that could not remove them, by their pod files.
    fn remove_sockets(&self) {
        for containerd in fs::read_dir(self.root()).into_iter().flatten().flatten() {
            for pod in fs::read_dir(containerd.path().join(".pods")).into_iter().flatten().flatten() {
                let text = fs::read(pod.path()).unwrap_or_default();
                let pod: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
                if let Some(socket) = pod["socket"].as_str() {
                    fs::remove_file(socket).ok();
                }
            }
        }
    }
}

/// The folders in a folder.
fn folders(path: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let all = fs::read_dir(path).into_iter().flatten().flatten();
    all.filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir())).map(|entry| entry.path())
}

fn remove_cgroup(folder: &Path) {
    for child in fs::read_dir(folder).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|t| t.is_dir()) {
            remove_cgroup(&child.path());
        }
    }
    fs::remove_dir(folder).ok();
}

/// Takes down what tests left that were killed.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let [pid, start, word] = rest.split('-').collect::<Vec<_>>()[..] else { continue };
        let (Ok(pid), Ok(start)) = (pid.parse(), start.parse()) else { continue };
        if start_time(pid) != Some(start) {
            Scratch { path: entry.path(), word: word.to_owned() }.take_down();
        }
    }
}

/// Field 22 of `/proc/PID/stat`; with the pid it tells who a process is.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}
