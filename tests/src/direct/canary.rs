//! What nobody may touch.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Weak},
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use super::{Proc, eventually, pod_network::Untouched, record::hierarchies};

/// An unrelated process, and one in the cgroup above the containers' own, which must live to the end (beside the
/// containers', where v2 with controllers allows none above); in that cgroup one of a stranger beside the containers'; a stranger's mount; in each pod's network a stranger's qdiscs and filter.
#[derive(Debug)]
pub struct Canaries {
    unrelated: Child,
    above: Child,
    folders: Vec<PathBuf>,
    /// Where the second process is.
    seats: Vec<PathBuf>,
    /// With their inodes: one that was removed and made anew is another one.
    beside: Vec<(PathBuf, u64)>,
    mount: ForeignMount,
    networks: Vec<Weak<Untouched>>,
}

impl Canaries {
    /// Puts them up; the second one in the cgroup `/NAMESPACE` of every hierarchy.
    pub fn new(namespace: &str) -> Self {
        let sleep = || {
            let mut command = Command::new("sleep");
            command.arg("3600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            // Nothing of the test's own is in them but their parent.
            command.process_group(0).current_dir("/").spawn().expect("sleep can be executed")
        };
        let (unrelated, above) = (sleep(), sleep());
        let (mut folders, mut seats, mut beside) = (Vec::new(), Vec::new(), Vec::new());
        for hierarchy in hierarchies() {
            let folder = hierarchy.join(namespace);
            // A hierarchy may not let us in (a cpuset without cpus): it is enough to be in the others.
            if fs::create_dir(&folder).is_ok() {
                let foreign = folder.join("foreign");
                fs::create_dir(&foreign).unwrap();
                let controllers = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
                let seat = if controllers.trim().is_empty() { &folder } else { &foreign };
                let procs = seat.join("cgroup.procs");
                let joined =
                    File::options().write(true).open(procs).and_then(|mut f| write!(f, "{}", above.id()));
                if joined.is_ok() {
                    seats.push(seat.clone());
                    let inode = fs::metadata(&foreign).unwrap().ino();
                    beside.push((foreign, inode));
                    folders.push(folder);
                } else {
                    fs::remove_dir(&foreign).ok();
                    fs::remove_dir(&folder).ok();
                }
            }
        }
        assert!(!folders.is_empty(), "the canary found no cgroup to sit in");
        let mount = ForeignMount::new();
        for canary in [&unrelated, &above] {
            let canary = Proc::of(canary.id().cast_signed());
            eventually("the canary sleeps", || canary.comm() == "sleep" && canary.state() == Some('S'));
        }
        Self { unrelated, above, folders, seats, beside, mount, networks: Vec::new() }
    }

    /// From now on, what a stranger has in a pod's network is a canary, too.
    pub(super) fn watch(&mut self, network: &Arc<Untouched>) {
        self.networks.push(Arc::downgrade(network));
    }

    /// A process of the canary's kind, as an unrelated one whose number a record may name.
    pub fn pid(&self) -> i32 {
        self.unrelated.id().cast_signed()
    }

    /// The processes live, and nobody has stopped them; the rest is as it was. Of a network that its test has given up
    /// nothing is left to be looked at.
    #[track_caller]
    pub fn check(&mut self) {
        if let Err(why) = self.unharmed() {
            panic!("{why}");
        }
    }

    /// The same; an error says what happened to whom.
    pub fn unharmed(&mut self) -> Result<(), String> {
        for (name, child) in [("unrelated", &mut self.unrelated), ("above", &mut self.above)] {
            if child.try_wait().unwrap().is_some() {
                return Err(format!("the {name} canary was killed"));
            }
            let state = Proc::of(child.id().cast_signed()).state();
            if state != Some('S') {
                return Err(format!("the {name} canary was touched: its state is {state:?}"));
            }
        }
        for folder in &self.seats {
            let procs = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            if !procs.lines().any(|pid| pid == self.above.id().to_string()) {
                return Err(format!("the canary was moved out of {}", folder.display()));
            }
        }
        for (folder, inode) in &self.beside {
            let found = fs::metadata(folder).map(|stat| stat.ino()).ok();
            if found != Some(*inode) {
                return Err(format!("the stranger's cgroup {} was touched", folder.display()));
            }
        }
        self.mount.unharmed()?;
        self.networks.iter().filter_map(Weak::upgrade).try_for_each(|network| network.unharmed())
    }
}

impl Drop for Canaries {
    fn drop(&mut self) {
        for child in [&mut self.unrelated, &mut self.above] {
            child.kill().ok();
            child.wait().ok();
        }
        for folder in self.beside.iter().map(|(folder, _)| folder).chain(&self.folders) {
            fs::remove_dir(folder).ok();
        }
    }
}

/// A file system of a stranger, with a file in it.
#[derive(Debug)]
struct ForeignMount {
    folder: TempDir,
    /// Its line in the mount table begins with its number: one that was mounted anew has another one.
    line: String,
}

impl ForeignMount {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("foreign-").tempdir_in("/run").unwrap();
        mount("foreign", folder.path(), "tmpfs", MountFlags::empty(), Some(c"size=64k")).unwrap();
        fs::write(folder.path().join("file"), "a stranger's").unwrap();
        let mut mount = Self { folder, line: String::new() };
        mount.line = mount.find().unwrap();
        mount
    }

    fn find(&self) -> Option<String> {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let point = self.folder.path().to_str().unwrap();
        table.lines().find(|line| line.split(' ').nth(4) == Some(point)).map(str::to_owned)
    }

    fn unharmed(&self) -> Result<(), String> {
        let found = self.find();
        if found.as_ref() != Some(&self.line) {
            return Err(format!("the stranger's mount was touched: {found:?}"));
        }
        let text = fs::read_to_string(self.folder.path().join("file"));
        match text.as_deref() {
            Ok("a stranger's") => Ok(()),
            other => Err(format!("the stranger's file was touched: {other:?}")),
        }
    }
}

impl Drop for ForeignMount {
    fn drop(&mut self) {
        unmount(self.folder.path(), UnmountFlags::empty()).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::direct::{PodNetwork, env};

    /// Canaries that are well until this is done to them.
    fn notice(name: &str, words: &str, harm: impl FnOnce(&mut Canaries, &PodNetwork)) {
        if let Some(why) = env::obstacle() {
            return env::skip(why);
        }
        let mut canaries = Canaries::new(&format!("canary-{name}-{}", std::process::id()));
        let network = PodNetwork::new();
        canaries.watch(network.foreign());
        canaries.check();
        harm(&mut canaries, &network);
        let failure = catch_unwind(AssertUnwindSafe(|| canaries.check())).unwrap_err();
        let message = failure.downcast_ref::<String>().unwrap();
        assert!(message.contains(words), "{message}");
    }

    #[test]
    fn a_process_that_is_stopped() {
        notice("process", "canary was touched", |canaries, _| Proc::of(canaries.pid()).stop());
    }

    #[test]
    fn a_cgroup_that_is_removed_also_when_it_is_made_anew() {
        notice("cgroup", "the stranger's cgroup", |canaries, _| {
            let (folder, _) = canaries.beside.last().unwrap();
            fs::remove_dir(folder).unwrap();
            fs::create_dir(folder).unwrap();
        });
    }

    #[test]
    fn a_mount_that_is_undone() {
        notice("mount", "the stranger's mount was touched", |canaries, _| {
            unmount(canaries.mount.folder.path(), UnmountFlags::empty()).unwrap();
        });
    }

    #[test]
    fn a_file_in_it_that_is_removed() {
        notice("file", "the stranger's file was touched", |canaries, _| {
            fs::remove_file(canaries.mount.folder.path().join("file")).unwrap();
        });
    }

    #[test]
    fn a_filter_that_is_removed() {
        notice("filter", "the stranger's qdiscs or filter were touched", |_, network| {
            network.run("tc filter del dev outside parent ffff: prio 7");
        });
    }

    #[test]
    fn a_qdisc_that_is_removed() {
        notice("qdisc", "the stranger's qdiscs or filter were touched", |_, network| {
            network.run("tc qdisc del dev pod0 root");
        });
    }
}
