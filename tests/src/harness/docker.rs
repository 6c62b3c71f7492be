//! A real dockerd of the test's own, and what a person does with `docker`.
//!
//! It runs on the test's containerd, in the test's containerd namespace and cgroup, with its folders in the scratch
//! folder. It makes no bridge and no firewall rule of its own. What it leaves when it ends (a mount of its own network
//! namespace, an empty folder in `/run`) is removed.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::mount::{UnmountFlags, unmount};
use serde_json::Value;

use crate::direct::Proc;

use super::{Cli, Containerd, Image, Job, Network, SOON, Test, Version, env, job::end_in_order};

/// What dockerd makes there, whatever it is told, and keeps.
const SHARED: [&str; 2] = ["/run/docker/plugins", "/run/docker"];

/// Whose Docker it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Debian {
    /// 20.10. It fills the container's network in a hook. It knows no shim but runc's, so that is what ours is called
    /// there.
    Twelve,
    /// 26.1.
    Thirteen,
}

impl Debian {
    fn number(self) -> u32 {
        match self {
            Self::Twelve => 12,
            Self::Thirteen => 13,
        }
    }
}

/// A dockerd of the test's own.
#[derive(Debug)]
pub struct Docker {
    process: Mutex<Option<Child>>,
    test: Test,
    debian: Debian,
    folder: PathBuf,
    _made: Made,
}

/// Folders that were not there before. Dropped, they are removed if they are empty: another test's dockerd makes them
/// anew if it needs them.
#[derive(Debug)]
struct Made(Vec<&'static str>);

impl Drop for Made {
    fn drop(&mut self) {
        for folder in &self.0 {
            fs::remove_dir(folder).ok();
        }
    }
}

impl Cli for Docker {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env::docker(self.debian.number()).join("docker"));
        command.arg("-H").arg(format!("unix://{}", self.socket().display())).args(args);
        command.env("DOCKER_CONFIG", self.folder.join("client"));
        command
    }

    fn fixed(&self, flags: &[&str]) -> &'static [&'static str] {
        const FIXED: [&str; 4] = ["--network", "none", "--runtime", "io.containerd.urunc.v2"];
        let from = if flags.contains(&"--network") { 2 } else { 0 };
        let to = if self.debian == Debian::Twelve { 2 } else { 4 };
        &FIXED[from.min(to)..to]
    }
}

impl Docker {
    /// Starts containerd and dockerd, and loads these images. `None`: it cannot run here, which was said.
    #[track_caller]
    pub fn begin(debian: Debian, version: Version, images: &[Image]) -> Option<Self> {
        let mut test = Test::begin_for_clients(version, env::no_docker(debian.number()))?;
        let bin = test.containerd().scratch().join("bin");
        if debian == Debian::Twelve {
            fs::hard_link(bin.join("containerd-shim-urunc-v2"), bin.join("containerd-shim-runc-v2")).unwrap();
        }
        let folder = test.containerd().scratch().join("docker");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("daemon.json"), "{}").unwrap();
        let made = Made(SHARED.into_iter().filter(|path| !Path::new(path).exists()).collect());
        let archives: Vec<_> = images.iter().map(|image| test.containerd().kit.archive(*image)).collect();
        test.ignore_mounts_below(folder.join("exec/netns"));
        let mut docker = Self { process: Mutex::default(), test, debian, folder, _made: made };
        docker.launch();
        for archive in archives {
            docker.call(&["load", "-q", "-i", &archive.to_string_lossy()]).expect(0);
        }
        docker.test.rebase();
        Some(docker)
    }

    /// A whole test.
    #[track_caller]
    pub fn with(debian: Debian, version: Version, images: &[Image], body: impl FnOnce(&Self)) {
        let Some(docker) = Self::begin(debian, version, images) else { return };
        body(&docker);
        docker.finish();
    }

    /// Makes a bridge, and a network of Docker's that uses it and has its name.
    #[track_caller]
    pub fn bridge(&mut self) -> Network {
        let network = Network::make(&self.containerd().scratch, 1500);
        let gateway = network.v4.to_string();
        let [a, b, c, _] = network.v4.octets();
        let (subnet, option) =
            (format!("{a}.{b}.{c}.0/24"), format!("com.docker.network.bridge.name={}", network.name()));
        let create = ["network", "create", "-d", "bridge", "--subnet", &subnet, "--gateway", &gateway];
        self.call(&[&create[..], &["-o", &option, network.name()]].concat()).expect(0);
        self.test.rebase();
        network
    }

    /// The containerd below it.
    pub fn containerd(&self) -> &Containerd {
        self.test.containerd()
    }

    /// What has happened to a container until it was removed: `create`, `start`, `die` and others, as events tell it.
    #[track_caller]
    pub fn events(&self, id: &str) -> Vec<Value> {
        let filter = format!("container={id}");
        let args = ["events", "--since", "24h", "--format", "{{json .}}", "--filter", &filter];
        let job = Job::start(self.command(&args));
        job.wait_for("\"destroy\"", SOON);
        let printed = job.printed();
        printed.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// SIGKILL.
    #[track_caller]
    pub fn kill9(&self) {
        let mut child = self.take().expect("dockerd runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends it in order.
    #[track_caller]
    pub fn stop(&self) {
        let Some(child) = self.take() else { return };
        assert!(end_in_order(child), "dockerd does not end on SIGTERM:\n{}", self.log_tail());
    }

    /// Starts it again after [`Docker::kill9`] or [`Docker::stop`].
    #[track_caller]
    pub fn start(&self) {
        self.launch();
    }

    /// Nothing was left behind so far: no container may be there.
    #[track_caller]
    pub fn check(&self) {
        self.test.check();
    }

    /// The end of a test: nothing was left behind. dockerd ends before, as one that was started again has sockets that
    /// were not there in the beginning; it takes down nothing of a container by that.
    #[track_caller]
    pub fn finish(self) {
        self.stop();
        for point in self.containerd().scratch.mounts() {
            if point.starts_with(&self.folder) {
                unmount(&point, UnmountFlags::empty()).unwrap();
            }
        }
        self.test.finish();
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("d.sock")
    }

    fn take(&self) -> Option<Child> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    #[track_caller]
    fn launch(&self) {
        let inside = |name: &str| self.folder.join(name).display().to_string();
        let log = File::options().append(true).create(true).open(self.folder.join("log")).unwrap();
        let containerd = self.containerd();
        let namespace = containerd.namespace();
        // If the test is killed, so is its dockerd.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(env::docker(self.debian.number()).join("dockerd"))
            .args(["--config-file", &inside("daemon.json")])
            .args(["--containerd", &containerd.address().to_string_lossy()])
            .args(["--containerd-namespace", &namespace])
            .args(["--containerd-plugins-namespace", &format!("{namespace}-plugins")])
            .args(["--cgroup-parent", &format!("/{namespace}")])
            .args(["--host", &format!("unix://{}", self.socket().display())])
            .args(["--data-root", &inside("root"), "--exec-root", &inside("exec")])
            .args(["--pidfile", &inside("pid"), "--storage-driver", self.storage()])
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"])
            .args(["--ip-masq=false", "--userland-proxy=false", "--live-restore", "--log-level=debug"]);
        containerd.environment(&mut command);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let child = command.spawn().unwrap();
        let process = Proc::of(child.id().cast_signed());
        self.test.note_daemon(process.pid());
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        let deadline = Instant::now() + SOON;
        while self.call(&["version"]).status != Some(0) {
            let lives = process.is_alive() && Instant::now() < deadline;
            assert!(lives, "dockerd does not answer:\n{}", self.log_tail());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// An overlay on an overlay is refused.
    fn storage(&self) -> &'static str {
        if env::snapshotter(&self.folder) == "overlayfs" { "overlay2" } else { "vfs" }
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().filter(|line| !line.contains("Registering")).collect();
        lines[lines.len().saturating_sub(80)..].join("\n")
    }
}
