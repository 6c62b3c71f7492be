//! The memory cgroup of a container, as the kernel shows it, on v1 and on v2.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The cgroup of a container for memory.
#[derive(Debug)]
pub struct Cgroup {
    folder: PathBuf,
    v1: bool,
}

impl Cgroup {
    /// The cgroup `/NAMESPACE/ID`, which must be there.
    #[track_caller]
    pub fn of(namespace: &str, id: &str) -> Self {
        let top = Path::new("/sys/fs/cgroup");
        let v1 = top.join("memory").join(namespace).join(id);
        let v2 = top.join(namespace).join(id);
        let both = [(v1, true), (v2, false)];
        let found = both.into_iter().find(|(folder, _)| folder.is_dir());
        let (folder, v1) = found.unwrap_or_else(|| panic!("there is no memory cgroup of {namespace}/{id}"));
        Self { folder, v1 }
    }

    /// The cgroup of the namespace.
    pub fn above(&self) -> &Path {
        self.folder.parent().unwrap()
    }

    /// Its limit in bytes.
    #[track_caller]
    pub fn limit(&self) -> u64 {
        self.number(if self.v1 { "memory.limit_in_bytes" } else { "memory.max" })
    }

    /// What it is reserved, in bytes.
    #[track_caller]
    pub fn reservation(&self) -> u64 {
        self.number(if self.v1 { "memory.soft_limit_in_bytes" } else { "memory.low" })
    }

    /// What is used of it, in bytes.
    #[track_caller]
    pub fn usage(&self) -> u64 {
        self.number(if self.v1 { "memory.usage_in_bytes" } else { "memory.current" })
    }

    /// How often the kernel killed in it or below.
    #[track_caller]
    pub fn oom_kills(&self) -> u64 {
        let file = if self.v1 { "memory.oom_control" } else { "memory.events" };
        // On v1 the one above does not count for those below.
        let below = fs::read_dir(&self.folder).unwrap().flatten().map(|e| e.path()).filter(|p| p.is_dir());
        let kills = |folder: PathBuf| -> u64 {
            let text = fs::read_to_string(folder.join(file)).unwrap();
            text.lines()
                .find_map(|line| line.strip_prefix("oom_kill "))
                .map_or(0, |n| n.trim().parse().unwrap())
        };
        std::iter::once(self.folder.clone()).chain(below).map(kills).sum()
    }

    #[track_caller]
    fn number(&self, file: &str) -> u64 {
        let path = self.folder.join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        text.trim().parse().unwrap_or_else(|e| panic!("{} is {text:?}: {e}", path.display()))
    }
}
