//! Ordinary containers: those that carry none of our data are given to the host's OCI runtime, whole and unchanged.
//!
//! What its processes are, the OCI runtime decides by the bundle. What we own of such a container: the mount of its root
//! file system, the OCI runtime's state - in the container's own run directory, so that nobody shares it and it goes
//! with that -, its processes, which we know by identity and find by the cgroup that did not exist before, and its
//! stdio. Nothing of it dies with the daemon by itself, so whatever ends it needs the record alone: steps/rootfs.rs and
//! steps/oci.rs.

mod check;
mod features;
mod options;
pub mod orphans;
mod pid_namespace;
mod sharing;

use std::{
    fs::DirBuilder,
    io,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use host_cgroup::{Hierarchies, Kernel, WholePlan};
use oci_runtime::{Cancel, Console, Streams};
use proc_id::Process;
use serde::{Deserialize, Serialize};

pub use check::check;
pub use features::features;
pub use options::OciOptions;
pub(crate) use pid_namespace::PidNamespace;
pub use sharing::others_are_in;

use crate::{Error, config::Config, layout, record::RunDir, request::Request, stdio::Stdio};

/// How long it may take to send a terminal that it has made by then.
const CONSOLE_WAIT: Duration = Duration::from_secs(2);
/// The name of a file that it writes a pid to, in the run directory, for the time of a call.
const PID_FILE: &str = "pid";
/// The name of the socket for a terminal, in the run directory.
const CONSOLE: &str = "console";

/// What has to be known of the OCI runtime to undo what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OciRecord {
    /// Its program.
    pub program: PathBuf,
    /// Where its state is.
    pub root: PathBuf,
    /// Whether systemd makes its cgroups.
    pub systemd_cgroup: bool,
    /// The path of the spec, and which of it did not exist before: that is ours to end.
    pub cgroup: WholePlan,
    /// Whether it has a pid namespace of its own.
    #[serde(default)]
    pub own_pids: bool,
}

/// The OCI runtime, for one container.
#[derive(Debug)]
pub struct Oci {
    runtime: oci_runtime::Runtime,
    id: String,
    folder: PathBuf,
    cgroup: WholePlan,
    own_pids: bool,
    options: Created,
}

/// What only its Create needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Created {
    no_pivot: bool,
    no_new_keyring: bool,
    io: (u32, u32),
}

/// The program: that of the options, of the configuration, or one that is found.
fn program(options: &OciOptions, config: &Config) -> Result<PathBuf, Error> {
    let named = options.program()?.or_else(|| config.oci_runtime());
    Ok(oci_runtime::find(named.as_deref())?)
}

impl OciRecord {
    /// Decides for a container whose run directory is `dir`. It looks at the host and changes nothing.
    pub fn plan(
        request: &Request,
        options: &OciOptions,
        config: &Config,
        namespace: &str,
        dir: &RunDir,
    ) -> Result<Self, Error> {
        let program = program(options, config)?;
        let root = match options.root()? {
            // Whoever shares it may have a container of this id: that is looked for before anything of it is called ours.
            Some(root) if root.join(namespace).join(&request.id).exists() => {
                return Err(Error::AlreadyExists { id: request.id.clone() });
            }
            Some(root) => root.join(namespace),
            None => dir.dir().path().join(layout::OCI),
        };
        let has_systemd = Path::new("/run/systemd/system").exists();
        if options.systemd_cgroup && !has_systemd {
            return Err(Error::Unmet {
                field: format!("{}: SystemdCgroup", options::PLACE),
                value: "true".to_owned(),
                problem: "asks for systemd, which does not run here".to_owned(),
                remedy: "leave it out".to_owned(),
            });
        }
        // A path in systemd's form is what a kubelet with systemd's driver gives to every runtime. Without systemd it is
        // one relative to where the OCI runtime happens to be, and which that is we do not know.
        let systemd_cgroup = options.systemd_cgroup || (request.cgroups_by_systemd && has_systemd);
        let cgroup = match &request.cgroups_path {
            Some(path) if systemd_cgroup || !request.cgroups_by_systemd => {
                WholePlan::new(&Kernel, &Hierarchies::detect()?, path)?
            }
            _ => WholePlan::default(),
        };
        Ok(Self { program, root, systemd_cgroup, cgroup, own_pids: request.own_pids })
    }

    /// For the undo of what is in a run directory whose record and plan cannot be read.
    pub fn derived(dir: &RunDir) -> Option<Self> {
        let root = dir.dir().path().join(layout::OCI);
        if !root.is_dir() {
            return None;
        }
        let named = Config::load().ok().and_then(|config| config.oci_runtime());
        let program = oci_runtime::find(named.as_deref()).unwrap_or_else(|_| "runc".into());
        Some(Self { program, root, systemd_cgroup: false, cgroup: WholePlan::default(), own_pids: false })
    }

    /// Whether it can be of a container of this namespace whose run directory is `dir`: its names become paths, and
    /// whoever is in its cgroup is killed.
    pub fn is_of(&self, namespace: &str, dir: &Path) -> bool {
        let is_named = |h: &host_cgroup::WholeIn| {
            let mut above = h.to_make.iter().chain(h.stood.iter().map(|(path, _)| path));
            above.all(|path| h.path.relative().starts_with(path.relative()))
        };
        let is_own = self.root == dir.join(layout::OCI);
        self.program.is_absolute()
            && (is_own || self.root.is_absolute() && self.root.ends_with(namespace))
            && self.cgroup.hierarchies.iter().all(is_named)
    }

    /// The folder of this container's state.
    pub fn state(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    /// The runtime that it speaks of.
    pub fn runtime(&self) -> oci_runtime::Runtime {
        oci_runtime::Runtime {
            program: self.program.clone(),
            root: self.root.clone(),
            systemd_cgroup: self.systemd_cgroup,
            cancel: Cancel::default(),
        }
    }
}

impl Oci {
    /// For the container `id`; `folder` is its run directory. What it calls is given up by `cancel`.
    pub fn new(record: &OciRecord, id: &str, folder: &Path, options: &OciOptions, cancel: Cancel) -> Self {
        Self {
            runtime: oci_runtime::Runtime { cancel, ..record.runtime() },
            id: id.to_owned(),
            folder: folder.to_owned(),
            cgroup: record.cgroup.clone(),
            own_pids: record.own_pids,
            options: Created {
                no_pivot: options.no_pivot_root,
                no_new_keyring: options.no_new_keyring,
                io: (options.io_uid, options.io_gid),
            },
        }
    }

    /// The path of the spec, and which of it did not exist before.
    pub(crate) fn cgroup(&self) -> &WholePlan {
        &self.cgroup
    }

    /// Whether somebody else is in its cgroup. With a pid namespace of its own that is to be asked when its first process is
    /// dead.
    pub(crate) fn others_are_in(&self) -> bool {
        others_are_in(&self.folder, &self.cgroup, self.own_pids)
    }

    /// Whether it has a pid namespace of its own.
    pub(crate) fn has_own_pids(&self) -> bool {
        self.own_pids
    }

    /// The folder for what a call needs by name.
    fn calls(&self) -> Result<PathBuf, Error> {
        let folder = self.folder.join(layout::CALLS);
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(Error::file("make", folder)(e)),
            _ => Ok(folder),
        }
    }

    /// Creates the container: its first process, which may be dead already. `stdio` is handed to it; a terminal comes
    /// from it.
    pub(crate) fn create(
        &self,
        bundle: &Path,
        terminal: bool,
        stdio: &mut Stdio,
        deadline: Instant,
    ) -> Result<Process, Error> {
        let (console, streams) = self.ends(terminal, stdio, CONSOLE, true)?;
        let what = oci_runtime::Create {
            id: &self.id,
            bundle,
            pid_file: &self.calls()?.join(PID_FILE),
            console: console.as_ref(),
            streams,
            no_pivot: self.options.no_pivot,
            no_new_keyring: self.options.no_new_keyring,
        };
        let process = self.runtime.create(what, deadline)?;
        adopt(console, stdio, deadline)?;
        Ok(process)
    }

    /// Executes a process in it, which may be dead already. `number` tells it from others that are made at the same
    /// time; `cancel` gives it up.
    pub(crate) fn exec(
        &self,
        process: &[u8],
        terminal: bool,
        number: &str,
        stdio: &mut Stdio,
        cancel: Cancel,
        deadline: Instant,
    ) -> Result<Process, Error> {
        let (console, streams) = self.ends(terminal, stdio, &format!("{CONSOLE}-{number}"), false)?;
        let what = oci_runtime::Exec {
            id: &self.id,
            process,
            pid_file: &self.calls()?.join(format!("{PID_FILE}-{number}")),
            console: console.as_ref(),
            streams,
        };
        let runtime = oci_runtime::Runtime { cancel, ..self.runtime.clone() };
        let process = runtime.exec(what, deadline)?;
        match adopt(console, stdio, deadline) {
            Ok(()) => Ok(process),
            Err(e) => {
                process.signal(rustix::process::Signal::KILL)?;
                process.wait(Some(CONSOLE_WAIT))?;
                crate::launcher::reap(&process);
                Err(e)
            }
        }
    }

    /// Lets the first process become its program.
    pub(crate) fn start(&self, deadline: Instant) -> Result<(), Error> {
        Ok(self.runtime.start(&self.id, deadline)?)
    }

    /// How it is, as the OCI runtime sees it.
    pub(crate) fn state(&self, deadline: Instant) -> Result<oci_runtime::Status, Error> {
        Ok(self.runtime.state(&self.id, deadline)?.status)
    }

    /// Freezes its processes.
    pub(crate) fn pause(&self, deadline: Instant) -> Result<(), Error> {
        Ok(self.runtime.pause(&self.id, deadline)?)
    }

    /// Lets them go on.
    pub(crate) fn resume(&self, deadline: Instant) -> Result<(), Error> {
        Ok(self.runtime.resume(&self.id, deadline)?)
    }

    /// Changes its limits: `linux.resources` as JSON.
    pub(crate) fn update(&self, resources: &[u8], deadline: Instant) -> Result<(), Error> {
        Ok(self.runtime.update(&self.id, resources, deadline)?)
    }

    /// What a process is given: a socket for its terminal, or its three streams.
    fn ends(
        &self,
        terminal: bool,
        stdio: &mut Stdio,
        name: &str,
        is_first: bool,
    ) -> Result<(Option<Console>, Streams), Error> {
        if terminal {
            return Ok((Some(Console::listen(&self.calls()?, name)?), Streams::default()));
        }
        match self.options.io {
            // A container's end is that of all who could write there; an exec may leave somebody behind.
            (0, 0) if is_first => stdio.put_pipes_before_files()?,
            (0, 0) => stdio.put_pipes_behind()?,
            owner => stdio.put_pipes_of(owner)?,
        }
        let [stdin, stdout, stderr] = stdio.take_ends()?;
        Ok((None, Streams { stdin, stdout, stderr }))
    }
}

/// Takes over the terminal that has come through a console socket.
fn adopt(console: Option<Console>, stdio: &mut Stdio, deadline: Instant) -> Result<(), Error> {
    let Some(console) = console else { return Ok(()) };
    let master: OwnedFd = console.receive(deadline.min(Instant::now() + CONSOLE_WAIT))?;
    stdio.adopt_terminal(master)
}
