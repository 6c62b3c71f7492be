//! A node of a cluster without the cluster: containerd for pods, a network, a folder for logs.

use std::{fs, time::Duration};

use leakcheck::Leaks;

use crate::direct::{Faults, eventually};

use super::{
    super::{Containerd, Image, Test, Version},
    network::Network,
    parent::Parent,
};

/// What a node is to have.
#[derive(Clone, Debug)]
pub struct Setup {
    images: Vec<Image>,
    faults: bool,
    mtu: u32,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    test: Test,
    network: Network,
    faults: Option<Faults>,
}

impl Setup {
    /// These images.
    pub fn of(images: &[Image]) -> Self {
        Self { images: images.to_vec(), faults: false, mtu: 1500 }
    }

    /// The shim that has fault points.
    #[must_use]
    pub fn with_faults(mut self) -> Self {
        self.faults = true;
        self
    }

    /// Another size of packets.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }
}

impl Node {
    /// Starts one. `None`: it cannot run here, which was said.
    #[track_caller]
    pub fn begin(version: Version, setup: &Setup) -> Option<Self> {
        let images = [&[Image::Pause], &setup.images[..]].concat();
        let (mut network, mut faults) = (None, None);
        let test = Test::begin_for_pods(version, &images, setup.faults, |scratch| {
            Parent::make_node(&scratch.namespace());
            network = Some(Network::make(scratch, setup.mtu));
            if setup.faults {
                faults = Some(Faults::new(scratch.path().join("faults")));
            }
            let socket = scratch.path().join("c0/c.sock");
            let crictl = format!(
                "runtime-endpoint: unix://{0}\nimage-endpoint: unix://{0}\ntimeout: 60\n",
                socket.display()
            );
            fs::write(scratch.path().join("crictl.yaml"), crictl).unwrap();
        })?;
        let node = Self { test, network: network.expect("it was made"), faults };
        node.is_ready(&images);
        Some(node)
    }

    /// A whole test.
    #[track_caller]
    pub fn with(version: Version, setup: &Setup, body: impl FnOnce(&Self)) {
        let Some(node) = Self::begin(version, setup) else { return };
        body(&node);
        node.finish();
    }

    /// Its containerd.
    pub fn containerd(&self) -> &Containerd {
        self.test.containerd()
    }

    /// Its network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// What is to go wrong.
    #[track_caller]
    pub fn faults(&self) -> &Faults {
        self.faults.as_ref().expect("it was set up with faults")
    }

    /// The namespace of its pods in Kubernetes' sense, and the cgroup that they are in.
    pub fn namespace(&self) -> String {
        self.test.namespace()
    }

    /// SIGKILL to containerd, and a new one.
    #[track_caller]
    pub fn restart(&self) {
        self.containerd().kill9();
        self.containerd().restart();
        self.is_ready(&[]);
    }

    /// What is there now counts as what was there before: strangers that the test has put up.
    pub fn rebase(&mut self) {
        self.test.rebase();
    }

    /// The end by force: whatever is left is taken down.
    pub fn discard(self) {
        self.test.discard();
    }

    /// What is there now and was not before.
    pub fn look(&self) -> Leaks {
        self.test.look()
    }

    /// Nothing was left behind so far: no pod may be there.
    #[track_caller]
    pub fn check(&self) {
        self.test.check();
    }

    /// The same, with a word for the reader on what went before.
    #[track_caller]
    pub fn check_after(&self, what: &str) {
        // What a test prints is shown if it fails.
        println!("after {what}:");
        self.test.check();
    }

    /// The end of a test: nothing was left behind.
    #[track_caller]
    pub fn finish(self) {
        self.test.finish();
    }

    /// The same, where something may take longer by design.
    #[track_caller]
    pub fn finish_within(self, timeout: Duration) {
        self.test.finish_within(timeout);
    }

    /// Waits until containerd serves pods and knows these images: it hears of imports by events.
    #[track_caller]
    pub fn is_ready(&self, images: &[Image]) {
        eventually("containerd serves pods", || self.call(&["pods", "-q"]).status == Some(0));
        for image in images {
            let name = image.name();
            eventually(name, || self.call(&["inspecti", "-q", name]).status == Some(0));
        }
    }
}
