//! What a number of cycles share: a node with its containerd, and the strangers beside it.

use std::{fs, path::PathBuf, process::Command};

use leakcheck::{Entry, Kind};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::{
    direct::{Canaries, hierarchies},
    harness::{Handler, Image, Node, Setup, Version},
};

use super::{foreign::Foreign, suspects::Suspects, usual::Usual};

/// The stage.
#[derive(Debug)]
pub struct Stage {
    node: Node,
    handler: Handler,
    suspects: Suspects,
    strangers: Option<Strangers>,
    foreign: Vec<Foreign>,
    usual: Usual,
}

/// Who is beside the containers and must not be touched: a process, a process in a cgroup below the same parent,
/// mounts, a queue and a filter.
#[derive(Debug)]
struct Strangers {
    processes: Canaries,
    mount: PathBuf,
    word: String,
}

impl Stage {
    /// Sets one up. `None`: it cannot run here, which was said.
    pub fn begin(version: Version, handler: Handler) -> Option<Self> {
        let images: &[Image] = match handler {
            Handler::Urunc => &[Image::Tiny, Image::Debian, Image::Busybox],
            Handler::Runc => &[Image::Busybox],
        };
        let mut node = Node::begin(version, &Setup::of(images))?;
        let strangers = Strangers::new(&node);
        node.rebase();
        let suspects = Suspects::on(&node, handler);
        Some(Self {
            node,
            handler,
            suspects,
            strangers: Some(strangers),
            foreign: Vec::new(),
            usual: Usual::default(),
        })
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Whose containers.
    pub fn handler(&self) -> Handler {
        self.handler
    }

    /// Who is who.
    pub fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    /// What takes the place of this guest.
    pub fn image(&self, guest: Image) -> Image {
        if self.handler == Handler::Runc { Image::Busybox } else { guest }
    }

    /// `ctr run`, in a cgroup below the node's.
    pub fn ctr_run(&self, flags: &[&str], image: Image, id: &str, words: &[&str]) -> Command {
        let cgroup = format!("/{}/{id}", self.node.namespace());
        let flags = [flags, &["--cgroup", &cgroup]].concat();
        self.node.containerd().run_command_by(self.handler, &flags, image.name(), id, words)
    }

    /// How long things last here.
    pub fn usual(&mut self) -> &mut Usual {
        &mut self.usual
    }

    /// Strangers settle in the pods that are there; in how many.
    pub fn settle_strangers(&mut self) -> usize {
        self.foreign = Foreign::plant(self.node.containerd());
        self.foreign.len()
    }

    /// Whether those who did are unharmed, before their pods are taken down.
    pub fn settled_strangers(&mut self) -> Result<(), String> {
        std::mem::take(&mut self.foreign).iter().try_for_each(Foreign::unharmed)
    }

    /// The strangers are as they were; else what happened to them.
    pub fn strangers(&mut self) -> Result<(), String> {
        self.strangers.as_mut().map_or(Ok(()), Strangers::are_unharmed)
    }

    /// The end, with nothing left: panics else.
    pub fn finish(mut self) {
        self.strangers = None;
        self.node.finish();
    }

    /// The end by force: what is left is taken down, this node's and nobody else's.
    pub fn discard(mut self, left: &[Entry]) {
        self.strangers = None;
        self.node.discard();
        // Everything but what is in folders that all of a host share.
        let shared = ["/run/containerd/s/", "/run/containerd/runc/", "/var/lib/cni/results/"];
        for entry in left.iter().filter(|entry| matches!(entry.kind, Kind::File | Kind::UnixSocket)) {
            if shared.iter().any(|folder| entry.name.starts_with(folder)) {
                fs::remove_file(&entry.name).or_else(|_| fs::remove_dir_all(&entry.name)).ok();
            }
        }
    }
}

impl Strangers {
    fn new(node: &Node) -> Self {
        let word = node.namespace();
        let path = node.containerd().scratch().join("stranger");
        fs::create_dir(&path).unwrap();
        mount("stranger", &path, "tmpfs", MountFlags::empty(), None).unwrap();
        fs::write(path.join("word"), &word).unwrap();
        assert!(!hierarchies().is_empty());
        Self { processes: Canaries::new(&format!("{word}/stranger")), mount: path, word }
    }

    fn are_unharmed(&mut self) -> Result<(), String> {
        self.processes.unharmed()?;
        match fs::read_to_string(self.mount.join("word")) {
            Ok(word) if word == self.word => Ok(()),
            other => Err(format!("the stranger's mount is not what it was: {other:?}")),
        }
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        unmount(&self.mount, UnmountFlags::empty()).ok();
    }
}
