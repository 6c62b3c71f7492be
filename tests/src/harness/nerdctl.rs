//! What a person does with `nerdctl`, on the test's containerd and with the folders in the scratch folder.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::direct::{cache, eventually_some};

use super::{BOOT, Containerd, Done, Image, Job, Network, SOON, Test, Version, env};

const FIFOS: &str = "/run/containerd/fifo";

/// nerdctl and its containerd.
#[derive(Debug)]
pub struct Nerdctl {
    test: Test,
    folder: PathBuf,
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

    /// The command `nerdctl ARGS`, in the test's namespace.
    pub fn nerdctl(&self, args: &[&str]) -> Command {
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

    /// Runs `nerdctl ARGS` to its end.
    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Done {
        Job::start(self.nerdctl(args)).wait(SOON)
    }

    /// The command `nerdctl run FLAGS IMAGE WORDS`; the words replace the image's Cmd, not its Entrypoint.
    pub fn run_command(&self, flags: &[&str], image: Image, words: &[&str]) -> Command {
        self.nerdctl(&[&["run"], fixed(flags), flags, &[image.name()], words].concat())
    }

    /// `nerdctl create --name NAME`; its id.
    #[track_caller]
    pub fn create(&self, name: &str, flags: &[&str], image: Image, words: &[&str]) -> String {
        let named = ["create", "--name", name];
        let args = [&named, fixed(flags), flags, &[image.name()], words].concat();
        self.call(&args).expect(0).text().trim().to_owned()
    }

    /// Starts `nerdctl run --rm FLAGS IMAGE WORDS` in the foreground.
    #[track_caller]
    pub fn spawn(&self, flags: &[&str], image: Image, words: &[&str]) -> Job {
        Job::start(self.run_command(&[&["--rm"], flags].concat(), image, words))
    }

    /// Runs a container from beginning to end, as [`Nerdctl::spawn`].
    #[track_caller]
    pub fn run(&self, flags: &[&str], image: Image, words: &[&str]) -> Done {
        self.spawn(flags, image, words).wait(BOOT)
    }

    /// `nerdctl run -d --name NAME`; its id.
    #[track_caller]
    pub fn run_detached(&self, name: &str, flags: &[&str], image: Image, words: &[&str]) -> String {
        let command = self.run_command(&[&["-d", "--name", name], flags].concat(), image, words);
        Job::start(command).wait(SOON).expect(0).text().trim().to_owned()
    }

    /// `nerdctl inspect` of a container.
    #[track_caller]
    pub fn inspect(&self, name: &str) -> Value {
        let text = self.call(&["inspect", "--type", "container", name]).expect(0).text();
        serde_json::from_str::<Value>(&text).unwrap()[0].take()
    }

    /// Waits until the state of a container is this one: `running`, `exited`, `paused`; its `State` from `inspect`.
    #[track_caller]
    pub fn wait_for_status(&self, name: &str, status: &str) -> Value {
        eventually_some(&format!("{name} is {status}"), || {
            let state = self.inspect(name)["State"].take();
            (state["Status"] == status).then_some(state)
        })
    }

    /// Waits until `nerdctl logs` has this text.
    #[track_caller]
    pub fn wait_for_logs(&self, name: &str, text: &str) -> String {
        let deadline = Instant::now() + BOOT;
        loop {
            let logs = self.call(&["logs", name]).expect(0).text();
            if logs.contains(text) {
                return logs;
            }
            assert!(Instant::now() < deadline, "no {text:?} in the logs of {name}: {logs:?}");
            thread::sleep(Duration::from_millis(50));
        }
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

/// The flags that all containers have.
fn fixed(flags: &[&str]) -> &'static [&'static str] {
    const FIXED: [&str; 6] = ["--net", "none", "--pull", "never", "--runtime", "io.containerd.urunc.v2"];
    if flags.contains(&"--net") { &FIXED[2..] } else { &FIXED }
}
