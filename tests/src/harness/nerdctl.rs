//! What a person does with `nerdctl`, on the test's containerd and with the folders in the scratch folder.

use std::{fs, path::PathBuf, process::Command};

use crate::direct::cache;

use super::{Cli, Containerd, Image, Network, Test, Version, env};

const FIFOS: &str = "/run/containerd/fifo";

/// nerdctl and its containerd.
#[derive(Debug)]
pub struct Nerdctl {
    test: Test,
    folder: PathBuf,
}

impl Cli for Nerdctl {
    fn command(&self, args: &[&str]) -> Command {
        let containerd = self.containerd();
        let mut command = Command::new(env::nerdctl());
        command
            .arg("--address")
            .arg(containerd.address())
            .args(["--namespace", &containerd.namespace()])
            .args(["--snapshotter", env::snapshotter(&self.folder)])
            .args(["--cgroup-manager", "cgroupfs"])
            .arg("--data-root")
            .arg(self.folder.join("data"))
            .arg("--cni-path")
            .arg(cache().join("containerd-1.6/cni"))
            .arg("--cni-netconfpath")
            .arg(containerd.scratch().join("net.d"))
            .args(args);
        // Not the machine's own configuration.
        command.env("NERDCTL_TOML", self.folder.join("nerdctl.toml"));
        command.env("DOCKER_CONFIG", self.folder.join("client"));
        command.env("TMPDIR", containerd.temporary());
        command
    }

    fn fixed(&self, flags: &[&str]) -> &'static [&'static str] {
        const FIXED: [&str; 6] = ["--net", "none", "--pull", "never", "--runtime", "io.containerd.urunc.v2"];
        if flags.contains(&"--net") { &FIXED[2..] } else { &FIXED }
    }
}

impl Nerdctl {
    /// Starts a containerd with these images. `None`: it cannot run here, which was said.
    #[track_caller]
    pub fn begin(version: Version, images: &[Image]) -> Option<Self> {
        let mut test = Test::begin_for_clients(version, env::no_nerdctl())?;
        for image in images {
            test.containerd().import(*image);
        }
        let folder = test.containerd().scratch().join("nerdctl");
        fs::create_dir(&folder).unwrap();
        test.rebase();
        Some(Self { test, folder })
    }

    /// A whole test.
    #[track_caller]
    pub fn with(version: Version, images: &[Image], body: impl FnOnce(&Self)) {
        let Some(nerdctl) = Self::begin(version, images) else { return };
        body(&nerdctl);
        nerdctl.finish();
    }

    /// Makes a bridge, and a network for CNI that uses it and has its name.
    #[track_caller]
    pub fn bridge(&mut self) -> Network {
        let network = Network::make(&self.containerd().scratch, 1500);
        self.test.rebase();
        network
    }

    /// The containerd below it.
    pub fn containerd(&self) -> &Containerd {
        self.test.containerd()
    }

    /// Nothing was left behind so far: no container may be there.
    #[track_caller]
    pub fn check(&self) {
        self.remove_fifos();
        self.test.check();
    }

    /// The end of a test: nothing was left behind.
    #[track_caller]
    pub fn finish(self) {
        self.remove_fifos();
        self.test.finish();
    }

    /// nerdctl leaves the FIFOs of each foreground container, whatever its runtime is, in a folder that all of a host
    /// share.
    fn remove_fifos(&self) {
        let ids = self.containerd().unique_ids();
        for folder in fs::read_dir(FIFOS).into_iter().flatten().flatten() {
            let mut names = fs::read_dir(folder.path()).into_iter().flatten().flatten();
            let ours =
                names.any(|name| ids.iter().any(|id| name.file_name().to_string_lossy().starts_with(id)));
            if ours {
                fs::remove_dir_all(folder.path()).ok();
            }
        }
    }
}
