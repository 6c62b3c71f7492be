//! The steps of the transaction: one resource per file, each with forward, undo and probe.
//!
//! Whoever unwinds a record - Create itself, Delete, the `delete` action, a sweep, gc - does it through [`unwind`],
//! from the record alone.

mod cgroup;
mod gate;
mod hooks;
mod launcher;
mod logger;
mod network;
mod oci;
mod rootfs;

use std::{
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use host_cgroup::Notes;
use host_mount::Tree;
use proc_id::Process;
use record_store::Lock;
use saga::{Context, Journal, Step, Unwound};

use crate::{
    Error,
    container::Container,
    derive,
    hooks::Hooks,
    last_words::LastWords,
    launcher::{Exec, Gate, Helper, Launcher, Spawn},
    oci::{Oci, OciOptions},
    plan::{NetworkPlan, OrdinaryPlan},
    record::{Record, RunDir},
    request::Request,
};

pub use hooks::derived as derived_hooks;
pub use logger::END_WAIT as LOGGER_WAIT;

/// The journal's section of Create.
pub const CREATE: &str = "create";
/// The journal's section of Start.
pub const START: &str = "start";

/// How long a look at what an undo left may take.
const PROBE_WAIT: Duration = Duration::from_secs(2);

/// What the steps work on.
pub struct Cx<'a> {
    /// The record.
    pub record: &'a mut Record,
    /// Where it is written.
    pub dir: &'a RunDir,
    /// Whether the record lock is held already.
    pub lock: Held<'a>,
    /// Notes on cgroup folders.
    pub notes: &'a Notes,
    /// What only forward work needs.
    pub work: Work<'a>,
    /// In the pod's network namespace, once an undo needs one.
    pub helper: Option<Helper>,
    /// The launcher outlives this unwind: it is one of Start's section alone.
    pub keeps_launcher: bool,
}

impl<'a> Cx<'a> {
    /// For forward work on a record.
    pub fn new(
        record: &'a mut Record,
        dir: &'a RunDir,
        lock: Held<'a>,
        notes: &'a Notes,
        work: Work<'a>,
    ) -> Self {
        Self { record, dir, lock, notes, work, helper: None, keeps_launcher: false }
    }

    /// For an unwind.
    pub fn unwinding(record: &'a mut Record, dir: &'a RunDir, lock: Held<'a>, notes: &'a Notes) -> Self {
        Self::new(record, dir, lock, notes, Work::Unwind)
    }

    /// For an unwind of Start's section, behind which the launcher waits at its gate as before.
    pub fn retracting(record: &'a mut Record, dir: &'a RunDir, notes: &'a Notes) -> Self {
        Self { keeps_launcher: true, ..Self::unwinding(record, dir, Held::No, notes) }
    }
}

/// Whether the record lock is held already.
pub enum Held<'a> {
    /// No: each write takes it.
    No,
    /// For the first write only: the run directory was made under it.
    Once(Lock),
    /// For the whole unwind of a record whose owner is gone.
    Throughout(&'a Lock),
    /// Nothing is written: what stands there is kept as it is, and cannot be read.
    Unwritten,
}

/// What only forward work needs.
pub enum Work<'a> {
    /// Nothing: this is an unwind.
    Unwind,
    /// Create.
    Create(Box<CreateWork<'a>>),
    /// The hooks of Create.
    Hooks(HooksWork<'a>),
    /// The network, of Create or of Start.
    Network(Box<NetworkWork<'a>>),
    /// Start.
    Start(Box<StartWork<'a>>),
    /// Create of an ordinary container.
    Ordinary(Box<OrdinaryWork<'a>>),
    /// Its Start.
    OciStart {
        /// The container.
        container: &'a Container,
        /// Until when it must be done.
        deadline: Instant,
    },
}

/// What the steps of an ordinary container's Create need and make.
pub struct OrdinaryWork<'a> {
    /// The request.
    pub request: &'a Request,
    /// The container, for its cancellation and its stdio.
    pub container: &'a Container,
    /// What is planned.
    pub plan: &'a OrdinaryPlan,
    /// runc's options.
    pub options: &'a OciOptions,
    /// Its root file system, until it is shown at its place.
    pub tree: Option<Tree>,
    /// Until when it must be done.
    pub deadline: Instant,
    /// Made by the step `oci`: the OCI runtime, and the first process.
    pub made: Option<(Arc<Oci>, Arc<Process>)>,
}

/// What Create's steps need and make.
pub struct CreateWork<'a> {
    /// The request.
    pub request: &'a Request,
    /// The container, for its cancellation.
    pub container: &'a Container,
    /// Where monitors are that the operator put elsewhere.
    pub folders: Vec<PathBuf>,
    /// Spawns the launcher.
    pub spawner: &'a dyn Spawn,
    /// Until when it must be done.
    pub deadline: Instant,
    /// Made by the cgroup step.
    pub cgroups: Vec<OwnedFd>,
    /// Made by the launcher step.
    pub launcher: Option<Launcher>,
}

/// What the hooks of Create need.
pub struct HooksWork<'a> {
    /// The container, for its cancellation.
    pub container: &'a Container,
    /// The hooks.
    pub hooks: &'a Hooks,
    /// Until when they must be done.
    pub deadline: Instant,
}

/// What the steps of the network need.
pub struct NetworkWork<'a> {
    /// The container, for its cancellation.
    pub container: &'a Container,
    /// The launcher, which acts in its namespace.
    pub gate: &'a mut Gate,
    /// What it says.
    pub words: &'a LastWords,
    /// What is planned.
    pub plan: &'a NetworkPlan,
    /// The namespace's path in the spec.
    pub path: Option<&'a PathBuf>,
    /// Until when it must be done.
    pub deadline: Instant,
}

/// What Start's steps need and make.
pub struct StartWork<'a> {
    /// The container, for its cancellation.
    pub container: &'a Container,
    /// The gate.
    pub gate: Option<Gate>,
    /// What goes through it.
    pub passage: Passage<'a>,
    /// Until when it must be done.
    pub deadline: Instant,
    /// The gate message is out: there is no way back to Created.
    pub sent: bool,
}

/// What goes through a gate.
pub enum Passage<'a> {
    /// The launcher becomes the monitor.
    Monitor {
        /// What it executes.
        exec: Option<Exec>,
        /// The monitor's stdin and stdout.
        stdio: [BorrowedFd<'a>; 2],
        /// The monitor's end of the control channel.
        control: &'a UnixStream,
        /// The program that must run in the end.
        program: &'a Path,
    },
    /// The sandbox's launcher holds its namespaces.
    Hold,
}

impl Context for Cx<'_> {
    type Error = Error;

    fn journal(&mut self) -> &mut Journal {
        &mut self.record.journal
    }

    fn persist(&mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.lock, Held::No) {
            Held::No => self.dir.write(self.record),
            Held::Once(_lock) => self.dir.write_locked(self.record),
            Held::Unwritten => {
                self.lock = Held::Unwritten;
                Ok(())
            }
            Held::Throughout(lock) => {
                self.lock = Held::Throughout(lock);
                self.dir.write_locked(self.record)
            }
        }
    }

    fn check(&self) -> Result<(), Error> {
        let (container, deadline) = match &self.work {
            Work::Create(work) => (Some(work.container), work.deadline),
            Work::Hooks(work) => (Some(work.container), work.deadline),
            Work::Network(work) => (Some(work.container), work.deadline),
            // A Kill ends the process, and with it a Start that is at work.
            Work::Start(work) => (None, work.deadline),
            Work::OciStart { deadline, .. } => (None, *deadline),
            Work::Ordinary(work) => (Some(work.container), work.deadline),
            Work::Unwind => return Ok(()),
        };
        if container.is_some_and(|container| container.live().cancelled) {
            return Err(Error::Cancelled { id: self.record.id.clone() });
        }
        in_time(&self.record.id, deadline)
    }

    fn injected(&self, fault: fault::Injected) -> Error {
        fault.into()
    }
}

/// A step that took longer than it may, and still came back, is the last one: its caller will not wait.
pub fn in_time(id: &str, deadline: Instant) -> Result<(), Error> {
    match Instant::now() < deadline {
        true => Ok(()),
        false => Err(Error::Deadline { id: id.to_owned(), verb: "get through its steps" }),
    }
}

/// The steps of Create, in order. The first one is only for a container that has a logger.
pub fn create_steps<'a>() -> [&'a dyn Step<Cx<'a>>; 3] {
    [&logger::LoggerStep, &cgroup::Cgroup, &launcher::LauncherStep]
}

/// The steps of an ordinary container's Create, in order, behind that of its logger.
pub fn ordinary_steps<'a>() -> [&'a dyn Step<Cx<'a>>; 3] {
    [&logger::LoggerStep, &rootfs::RootfsStep, &oci::OciStep]
}

/// The steps of its Start.
pub fn ordinary_start_steps<'a>() -> [&'a dyn Step<Cx<'a>>; 1] {
    [&oci::OciStartStep]
}

/// The step of the hooks, where there are any: behind those of Create.
pub fn hook_steps<'a>() -> [&'a dyn Step<Cx<'a>>; 1] {
    [&hooks::HooksStep]
}

/// The steps of the network, in order: at the end of Create, or before Start's own.
pub fn network_steps<'a>() -> [&'a dyn Step<Cx<'a>>; 2] {
    [&network::IngressStep, &network::RedirectStep]
}

/// The steps of Start, in order.
pub fn start_steps<'a>() -> [&'a dyn Step<Cx<'a>>; 1] {
    [&gate::GateStep]
}

/// Undoes what stands in the record: everything, or one section.
pub fn unwind(cx: &mut Cx<'_>, section: Option<&str>, deadline: Instant) -> Unwound<Error> {
    let create =
        create_steps().into_iter().chain(ordinary_steps()).chain(hook_steps()).chain(network_steps());
    let create = create.map(|step| (CREATE, step));
    let start = network_steps().into_iter().chain(start_steps()).chain(ordinary_start_steps());
    let start = start.map(|step| (START, step));
    let steps: Vec<(&str, &dyn Step<Cx<'_>>)> = create.chain(start).collect();
    let completed = derive::complete(cx.record, cx.dir);
    let mut report = saga::unwind(section, &steps, cx, deadline);
    if let Err(e) = completed {
        report.failed.push(("record".to_owned(), e));
    }
    cx.helper = None;
    tracing::debug!(
        namespace = cx.record.namespace,
        id = cx.record.id,
        txid = cx.record.txid,
        report = describe(&report),
        "unwound"
    );
    report
}

/// An unwind's report in one line.
pub fn describe(report: &Unwound<Error>) -> String {
    let mut parts = Vec::new();
    let names = |names: &[String]| names.join(", ");
    if !report.undone.is_empty() {
        let undone: Vec<String> = report.undone.iter().map(|(s, _)| s.clone()).collect();
        parts.push(format!("undone: {}", names(&undone)));
    }
    for (step, error) in &report.failed {
        parts.push(format!("{step} failed: {}", error.chain()));
    }
    if !report.blocked.is_empty() {
        parts.push(format!("blocked: {}", names(&report.blocked)));
    }
    if !report.present.is_empty() {
        parts.push(format!("still there: {}", names(&report.present)));
    }
    if parts.is_empty() { "nothing to undo".to_owned() } else { parts.join("; ") }
}
