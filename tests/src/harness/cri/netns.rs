//! What is in a network namespace: links, qdiscs, filters.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::direct::Proc;

use super::super::{Containerd, Done, Job, SOON};

/// What is in a network namespace, a line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene {
    /// Links with their settings.
    pub links: BTreeSet<String>,
    /// Queueing disciplines.
    pub qdiscs: BTreeSet<String>,
    /// Filters, with the link that they are at.
    pub filters: BTreeSet<String>,
}

impl Scene {
    /// The one that a process is in.
    #[track_caller]
    pub fn of(process: &Proc) -> Self {
        Self::at(&path(process))
    }

    /// The one that is mounted here.
    #[track_caller]
    pub fn at(netns: &Path) -> Self {
        Self::look(Some(netns), |_| true)
    }

    /// The host's, but for bridges and their ports: others make and remove them meanwhile.
    #[track_caller]
    pub fn host() -> Self {
        let is = |link: &str, what: &str| Path::new("/sys/class/net").join(link).join(what).exists();
        Self::look(None, |link| !is(link, "bridge") && !is(link, "brport") && !link.starts_with("veth"))
    }

    /// What is in it and not in the other one.
    pub fn beyond(&self, other: &Self) -> Vec<String> {
        let pairs =
            [(&self.links, &other.links), (&self.qdiscs, &other.qdiscs), (&self.filters, &other.filters)];
        pairs.into_iter().flat_map(|(ours, theirs)| ours.difference(theirs).cloned()).collect()
    }

    #[track_caller]
    fn look(netns: Option<&Path>, counts: impl Fn(&str) -> bool) -> Self {
        let show = |words: &[&str]| {
            let text = run(netns, words).expect(0).text();
            text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>()
        };
        let mut scene = Self { links: BTreeSet::new(), qdiscs: BTreeSet::new(), filters: BTreeSet::new() };
        for line in show(&["ip", "-oneline", "link", "show"]) {
            // `INDEX: NAME[@PEER]: <FLAGS> ...`
            let name = line.split(": ").nth(1).unwrap_or_default();
            let name = name.split('@').next().unwrap_or_default().to_owned();
            if !counts(&name) {
                continue;
            }
            let qdiscs = run(netns, &["tc", "qdisc", "show", "dev", &name]);
            if qdiscs.stderr.contains("Cannot find device") {
                // It went between the two looks, with the process that held it.
                continue;
            }
            for line in qdiscs.expect(0).text().lines() {
                scene.qdiscs.insert(format!("{name}: {}", line.trim()));
            }
            // A link without an ingress qdisc has no filters there: that is an error for some versions of tc.
            let filters = run(netns, &["tc", "filter", "show", "dev", &name, "ingress"]).text();
            // Some versions of tc name the parent of some.
            let filters = filters.lines().map(|line| line.trim().replace("parent ffff: ", ""));
            scene.filters.extend(filters.map(|line| format!("{name}: {line}")));
            // The kernel sets the length of the queue with the first qdisc that a link gets, and leaves it.
            let line = line.replace("qlen 1000", "");
            scene.links.insert(line.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        scene
    }
}

impl Containerd {
    /// The network namespaces that it holds for pods.
    pub fn netns(&self) -> Vec<PathBuf> {
        self.scratch.mounts().into_iter().filter(|path| path.iter().any(|part| part == "netns")).collect()
    }

    /// Takes down what a containerd leaves that is killed between making a pod's network namespace and noting it: the
    /// mount, of which it knows nothing any more. No shim was ever asked for such a pod, so nobody and nothing of ours may
    /// be in there.
    #[track_caller]
    pub fn forget_half_made_netns(&self) {
        self.take_down_half_made_netns(SOON);
    }

    /// The same, after this time.
    #[track_caller]
    pub fn take_down_half_made_netns(&self, after: Duration) {
        let deadline = Instant::now() + after;
        // A pod whose client is gone may still be on its way down.
        while !self.netns().is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(100));
        }
        for path in self.netns() {
            let scene = Scene::at(&path);
            let is_ours = |line: &String| line.contains("tap") || line.contains("ingress");
            assert!(!scene.links.iter().chain(&scene.qdiscs).any(is_ours), "{scene:?}");
            let own = fs::metadata(&path).unwrap().ino();
            let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("ns/net"));
            let inside: Vec<_> =
                processes.filter(|ns| fs::metadata(ns).is_ok_and(|m| m.ino() == own)).collect();
            assert!(inside.is_empty(), "somebody is in {}: {inside:?}", path.display());
            let mut umount = Command::new("umount");
            umount.arg(&path);
            Job::start(umount).wait(SOON).expect(0);
            fs::remove_file(&path).unwrap();
        }
    }
}

/// Runs a command in the network namespace of a process.
#[track_caller]
pub fn within(process: &Proc, words: &[&str]) -> Done {
    run(Some(&path(process)), words)
}

fn path(process: &Proc) -> PathBuf {
    format!("/proc/{}/ns/net", process.pid()).into()
}

#[track_caller]
fn run(netns: Option<&Path>, words: &[&str]) -> Done {
    let mut command = match netns {
        Some(netns) => {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net={}", netns.display())).arg("--").args(words);
            command
        }
        None => {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]);
            command
        }
    };
    command.env("LC_ALL", "C");
    Job::start(command).wait(SOON)
}
