//! The cgroups that a kubelet makes: one for all pods of the node, one below it for each pod.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::direct::{SOON, hierarchies};

/// The cgroup of a pod, in every hierarchy.
#[derive(Clone, Debug)]
pub struct Parent {
    path: String,
}

impl Parent {
    /// Makes the cgroup `/NODE`.
    #[track_caller]
    pub fn make_node(node: &str) {
        for hierarchy in hierarchies() {
            make(&hierarchy.join(node));
        }
    }

    /// Makes the cgroup `/NODE/POD`.
    #[track_caller]
    pub fn make(node: &str, pod: &str) -> Self {
        for hierarchy in hierarchies() {
            make(&hierarchy.join(node).join(pod));
        }
        Self::of(node, pod)
    }

    /// The cgroup `/NODE/POD`, which may be there.
    pub fn of(node: &str, pod: &str) -> Self {
        Self { path: format!("/{node}/{pod}") }
    }

    /// `cgroup_parent` of the pod.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Sets the limit of its memory, as the kubelet does: what the members' limits and the pod's overhead sum up to.
    #[track_caller]
    pub fn limit(&self, bytes: u64) {
        let (v1, v2) = (self.below("/sys/fs/cgroup/memory"), self.below("/sys/fs/cgroup"));
        let file = if v1.is_dir() { v1.join("memory.limit_in_bytes") } else { v2.join("memory.max") };
        fs::write(&file, bytes.to_string()).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }

    /// How often the kernel killed in it or below.
    #[track_caller]
    pub fn oom_kills(&self) -> u64 {
        let (v1, v2) = (self.below("/sys/fs/cgroup/memory"), self.below("/sys/fs/cgroup"));
        let (top, file) = if v1.is_dir() { (v1, "memory.oom_control") } else { (v2, "memory.events") };
        let mut folders = vec![top];
        let mut kills = 0;
        while let Some(folder) = folders.pop() {
            let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
            kills += text
                .lines()
                .find_map(|line| line.strip_prefix("oom_kill "))
                .map_or(0, |n| n.trim().parse::<u64>().unwrap());
            let below = fs::read_dir(&folder).unwrap().flatten().map(|e| e.path());
            folders.extend(below.filter(|path| path.is_dir()));
        }
        kills
    }

    /// Removes it, as the kubelet does after a pod.
    pub fn remove(&self) {
        remove(|| hierarchies().iter().map(|hierarchy| self.below(hierarchy)).collect());
    }

    /// Removes it if nobody is in it.
    pub fn try_remove(&self) {
        for hierarchy in hierarchies() {
            fs::remove_dir(self.below(hierarchy)).ok();
        }
    }

    /// Removes those of all pods of a node.
    pub fn remove_all(node: &str) {
        remove(|| {
            let nodes =
                hierarchies().into_iter().filter_map(|hierarchy| fs::read_dir(hierarchy.join(node)).ok());
            nodes.flat_map(|pods| pods.flatten().map(|pod| pod.path())).filter(|pod| pod.is_dir()).collect()
        });
    }

    fn below(&self, hierarchy: impl AsRef<Path>) -> PathBuf {
        hierarchy.as_ref().join(self.path.trim_start_matches('/'))
    }
}

/// Removes folders, as soon as nobody is in them: a `delete` that nobody waits for may be at it. What is still there in
/// the end is a leak, and told as one.
fn remove(folders: impl Fn() -> Vec<PathBuf>) {
    let deadline = Instant::now() + SOON;
    while Instant::now() < deadline {
        let folders = folders();
        if folders.iter().filter(|folder| fs::remove_dir(folder).is_err() && folder.exists()).count() == 0 {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn make(folder: &Path) {
    match fs::create_dir(folder) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => return,
        other => other.unwrap_or_else(|e| panic!("{}: {e}", folder.display())),
    }
    // A new cpuset has neither, and takes no process then.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if let Ok(text) = fs::read_to_string(folder.parent().unwrap().join(file)) {
            fs::write(folder.join(file), text.trim()).ok();
        }
    }
}
