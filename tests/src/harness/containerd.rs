//! A containerd of the test's own: its folders, its configuration, its life.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::mount::{UnmountFlags, unmount};
use sha2::{Digest, Sha256};

use crate::direct::Proc;

use super::{Job, SOON, Watch, cri, env, job::end_in_order, kit::Kit, scratch::Scratch};

/// Where the shim makes its sockets.
const SOCKETS: &str = "/run/containerd/s";
/// What containerd 2 would share with others.
const NO_STRANGERS: &str = "[plugins.\"io.containerd.nri.v1.nri\"]\ndisable = true\n\
    [plugins.\"io.containerd.image-verifier.v1.bindir\"]\nbin_dir = \"/nonexistent\"\n";
/// So much of the log is printed when a test fails.
const TAIL: usize = 150;

/// The containerds that are tested against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Debian 12's.
    V1_6,
    /// The newest one.
    V2_3,
}

impl Version {
    /// As in `.cache/containerd-NUMBER`.
    pub fn number(self) -> &'static str {
        match self {
            Self::V1_6 => "1.6",
            Self::V2_3 => "2.3",
        }
    }
}

/// A containerd of the test's own.
#[derive(Debug)]
pub struct Containerd {
    pub(super) version: Version,
    pub(super) scratch: Scratch,
    pub(super) kit: Arc<Kit>,
    folder: PathBuf,
    namespace: String,
    configuration: String,
    variables: Vec<(String, PathBuf)>,
    process: Mutex<Option<Child>>,
    ids: Mutex<BTreeSet<String>>,
    bundles: Option<Watch>,
    pods: bool,
}

impl Containerd {
    /// Starts one in the folder `name` of the scratch folder, and waits until it answers.
    #[track_caller]
    pub(super) fn start(version: Version, scratch: &Scratch, kit: &Arc<Kit>, name: &str) -> Self {
        let mut containerd = Self::new(version, scratch, kit, name);
        containerd.namespace = scratch.namespace();
        containerd.configuration = containerd.common();
        containerd.begin(&kit.shim());
        containerd
    }

    /// Starts one for pods, with the shim that has fault points or without them.
    #[track_caller]
    pub(super) fn start_for_pods(version: Version, scratch: &Scratch, kit: &Arc<Kit>, faults: bool) -> Self {
        let mut containerd = Self::new(version, scratch, kit, "c0");
        // Kubernetes' interface has its own namespace, the same for everybody.
        containerd.namespace = "k8s.io".to_owned();
        if faults {
            containerd.variables.push(("URUNC_FAULTS".to_owned(), scratch.path().join("faults")));
        }
        containerd.pods = true;
        containerd.watch_bundles();
        containerd.configuration = containerd.common() + &cri::configuration(version, scratch);
        containerd.begin(&if faults { kit.shim_with_faults() } else { kit.shim() });
        containerd
    }

    /// Starts one for a client that chooses the ids itself, as nerdctl and Docker do.
    #[track_caller]
    pub(super) fn start_for_clients(version: Version, scratch: &Scratch, kit: &Arc<Kit>) -> Self {
        let mut containerd = Self::new(version, scratch, kit, "c0");
        containerd.namespace = scratch.namespace();
        containerd.watch_bundles();
        containerd.configuration = containerd.common();
        containerd.begin(&kit.shim());
        containerd
    }

    /// Notes every id from now on: containerd tells none of what failed, but each of them has a bundle for a moment.
    #[track_caller]
    fn watch_bundles(&mut self) {
        let bundles = self.bundle("");
        fs::create_dir_all(&bundles).unwrap();
        self.bundles = Some(Watch::over(&[&bundles]));
    }

    fn new(version: Version, scratch: &Scratch, kit: &Arc<Kit>, name: &str) -> Self {
        let folder = scratch.path().join(name);
        fs::create_dir_all(folder.join("tmp")).unwrap();
        Self {
            version,
            scratch: scratch.clone(),
            kit: kit.clone(),
            folder,
            namespace: String::new(),
            configuration: String::new(),
            variables: Vec::new(),
            process: Mutex::default(),
            ids: Mutex::default(),
            bundles: None,
            pods: false,
        }
    }

    #[track_caller]
    fn begin(&self, shim: &Path) {
        let bin = self.scratch.path().join("bin");
        if fs::create_dir(&bin).is_ok() {
            // A name of its own for the shim: `/proc/PID/exe` tells whose it is, even of a process without environment.
            fs::hard_link(shim, bin.join("containerd-shim-urunc-v2")).unwrap();
        }
        fs::write(self.folder.join("config.toml"), &self.configuration).unwrap();
        self.launch();
    }

    /// Its socket.
    pub fn address(&self) -> PathBuf {
        self.folder.join("c.sock")
    }

    /// Where containerd and its clients mount an image for a moment, to look into its /etc/passwd. One that is killed
    /// in that moment leaves the mount: theirs, not the shim's, which has no business there.
    pub(super) fn temporary(&self) -> PathBuf {
        self.folder.join("tmp")
    }

    /// Whether a mount, as the leak check names it, is such a one.
    pub(super) fn is_temporary_mount(&self, name: &str) -> bool {
        let inside = Path::new(name).strip_prefix(self.temporary());
        inside.is_ok_and(|inside| inside.to_string_lossy().starts_with("containerd-mount"))
    }

    /// The namespace of its containers.
    pub fn namespace(&self) -> String {
        self.namespace.clone()
    }

    /// The bundle of a container.
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.folder.join("state/io.containerd.runtime.v2.task").join(self.namespace()).join(id)
    }

    /// The folder of this containerd in `URUNC_ROOT`.
    pub fn records(&self) -> PathBuf {
        self.scratch.root().join(&digest(&self.address().to_string_lossy())[..12])
    }

    /// The test's own folder.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// The environment of an action of the shim, and its program, as this containerd executes it.
    pub fn shim(&self) -> Command {
        let mut command = Command::new(self.scratch.path().join("bin/containerd-shim-urunc-v2"));
        self.environment(&mut command);
        command
    }

    /// The process of containerd.
    #[track_caller]
    pub fn process(&self) -> Proc {
        Proc::of(self.lock().as_ref().expect("containerd runs").id().cast_signed())
    }

    /// Whether it was started and not killed since.
    pub fn runs(&self) -> bool {
        self.lock().is_some()
    }

    /// SIGKILL.
    #[track_caller]
    pub fn kill9(&self) {
        let mut child = self.lock().take().expect("containerd runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts it again after [`Containerd::kill9`].
    #[track_caller]
    pub fn restart(&self) {
        assert!(self.lock().is_none(), "containerd runs");
        self.launch();
    }

    /// Ends it in order.
    #[track_caller]
    pub(super) fn stop(&self) {
        let Some(child) = self.lock().take() else { return };
        assert!(end_in_order(child), "containerd does not end on SIGTERM");
        for point in self.scratch.mounts() {
            if self.is_temporary_mount(&point.to_string_lossy()) {
                unmount(&point, UnmountFlags::empty()).unwrap();
            }
        }
    }

    /// What the leak check must know: the sockets' names are hashes of the ids.
    pub(super) fn sockets(&self) -> Vec<String> {
        let (address, namespace) = (self.address(), self.namespace());
        let name = |id| digest(&format!("{}/{namespace}/{id}", address.display()));
        self.ids().iter().map(|id| format!("{SOCKETS}/{}", name(id))).collect()
    }

    /// The ids of pods and their containers, and those that a client chose, which nobody else has: whatever has one in
    /// its name is ours.
    pub(super) fn unique_ids(&self) -> Vec<String> {
        if self.bundles.is_some() { self.ids() } else { Vec::new() }
    }

    /// Every id that a container had, also one that was never made in the end.
    fn ids(&self) -> Vec<String> {
        let made = self.bundles.iter().flat_map(Watch::made);
        let names = made.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        // What goes is renamed to `.ID`.
        ids.extend(names.filter(|name| !name.starts_with('.')));
        ids.iter().cloned().collect()
    }

    /// An id that a container had.
    pub(super) fn note(&self, id: &str) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
    }

    /// The end of its log, which has the shim's lines in it.
    pub(super) fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let boring =
            ["loading plugin", "skip loading", "event published", "event forwarded", "garbage collected"];
        let lines: Vec<_> = log.lines().filter(|line| !boring.iter().any(|b| line.contains(b))).collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn launch(&self) {
        let log = File::options().append(true).create(true).open(self.log()).unwrap();
        // If the test is killed, so is its containerd.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(env::programs(self.version).join("containerd"));
        command.arg("-c").arg(self.folder.join("config.toml"));
        self.environment(&mut command);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        *self.lock() = Some(command.spawn().unwrap());
        let deadline = Instant::now() + SOON;
        while Job::start(self.ctr(&["version"])).wait(SOON).status != Some(0) {
            let lives = self.process().is_alive() && Instant::now() < deadline;
            assert!(lives, "containerd does not answer:\n{}", self.log_tail());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Where its shims and programs are first, and what they take from the environment.
    pub(super) fn environment(&self, command: &mut Command) {
        let path = std::env::var("PATH").unwrap_or_default();
        let [ours, theirs] = [self.scratch.path().join("bin"), env::programs(self.version)];
        command
            .env("PATH", format!("{}:{}:{path}", ours.display(), theirs.display()))
            .env("TMPDIR", self.temporary())
            .env("URUNC_ROOT", self.scratch.root())
            .env("URUNC_LOG", "debug")
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
    }

    /// The part of the configuration that all have, in the form of its version.
    fn common(&self) -> String {
        let folder = self.folder.display();
        let (version, without) = match self.version {
            Version::V1_6 => (2, ""),
            Version::V2_3 => (3, NO_STRANGERS),
        };
        let imports = if self.pods { cri::imports(self.version) } else { String::new() };
        let disabled = if self.pods {
            ""
        } else {
            "disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.cri.v1.images\", \
             \"io.containerd.cri.v1.runtime\"]\n"
        };
        format!(
            "version = {version}\n{imports}{disabled}root = \"{folder}/root\"\nstate = \"{folder}/state\"\n\
             [debug]\nlevel = \"debug\"\n[grpc]\naddress = \"{folder}/c.sock\"\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{folder}/opt\"\n{without}"
        )
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if let Some(mut child) = self.lock().take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn digest(text: &str) -> String {
    Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect()
}
