//! Create: request -> run directory -> (logger) -> cgroup -> launcher -> hooks -> plan -> network -> commit Created -> event.
//!
//! Of a pod's sandbox the same: its launcher has no image, and its plan nothing to decide.
//!
//! Whatever fails, and whoever cancels, everything that was made is undone before the caller gets the answer; what
//! cannot be undone stays in the record and is tried again.

use std::{
    collections::BTreeMap,
    os::fd::AsFd,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use host_cgroup::{
    Amount, Kernel, LeafIn, LeafPlan, Limits, MemoryLimit, memory_limit as memory_limit_of, parent_room,
    set_limits,
};
use proc_id::{Process, ProcessId};
use record_store::{Lock, Read};
use saga::Journal;
use time::OffsetDateTime;

use crate::{
    CreateInput, Error, Runtime,
    config::Config,
    container::Container,
    contract::{self, Keys},
    events::TaskEvent,
    image,
    last_words::LastWords,
    launcher::{Gate, Launcher},
    layout,
    lifecycle::{Event, State},
    oci::Oci,
    owner,
    plan::{Facts, GuestPlan, GuestRootfs, Memory, MemoryRule, NetworkChoice, Plan, RootfsChoice, What},
    record::{BundleId, Record, RunDir, SCHEMA},
    recover,
    request::{Request, Role},
    share::Share,
    stdio::Stdio,
    steps::{
        CREATE, CreateWork, Cx, Held, HooksWork, NetworkWork, Work, create_steps, describe, hook_steps,
        in_time, network_steps, unwind,
    },
};

/// How long Create may take. CRI's callers wait for 30 s or more.
const CREATE_WAIT: Duration = Duration::from_secs(20);
/// How long the undo of a failed Create may take before the caller is told that it is not done.
const ROLLBACK_WAIT: Duration = Duration::from_secs(8);
/// How long the remains of an earlier container of the same id may take to go.
const REMAINS_WAIT: Duration = Duration::from_secs(4);

/// What a Create has made.
pub(super) struct Made {
    /// The container's process.
    pub process: Arc<Process>,
    /// What a launcher and its monitor say.
    pub words: Option<Arc<LastWords>>,
    /// A launcher's gate.
    pub gate: Option<Gate>,
    /// The OCI runtime that it was given to.
    pub oci: Option<Arc<Oci>>,
    /// Its plan.
    pub plan: Plan,
}

impl Runtime {
    /// Registers a container, before its first side effect: from here on the daemon does not leave. Does not block.
    pub fn register(&self, input: &CreateInput) -> Result<Arc<Container>, Error> {
        if !layout::is_identifier(&input.id) {
            return Err(contract::invalid_name("id", &input.id));
        }
        let container = Arc::new(Container::new(&input.id, input.bundle.clone(), input.stdio.clone()));
        self.reserve(&container)?;
        Ok(container)
    }

    /// Creates a registered container.
    pub fn create(&self, container: &Arc<Container>, input: &CreateInput) -> Result<(), Error> {
        let result = self.create_reserved(container, input);
        if result.is_err() && container.snapshot().state != State::UnwindBlocked {
            self.forget(&container.id);
        }
        self.follow_oom_score();
        container.settle();
        if result.is_ok() && container.live().cancelled {
            // The commit was faster, but whoever asked for it is gone, or wants it deleted: nobody else would do it.
            return match self.delete(&container.id) {
                Ok(_) | Err(Error::NotFound { .. }) => Err(Error::Cancelled { id: container.id.clone() }),
                Err(e) => Err(e),
            };
        }
        result
    }

    fn create_reserved(&self, container: &Container, input: &CreateInput) -> Result<(), Error> {
        let mut work = container.work();
        let config = match &input.options {
            Some(options) => &self.config.with(options)?,
            None => &self.config,
        };
        let (request, ordinary) = self.classify(input)?;
        // What the annotations alone show is refused before anything is made.
        if let Some(name) = request.keys.get(contract::HYPERVISOR) {
            config.find_monitor(self.monitor(name)?)?;
        }
        self.check_sandbox(&request)?;
        container.live().name.clone_from(&request.name);
        // Whatever the monitor needs comes on top of this, or off it.
        Memory::decide(request.memory, 0, None, u64::MAX)?;
        let stdio = match &ordinary {
            Some(_) => Stdio::open_plain(&request.stdio)?,
            None => Stdio::open(&request.stdio)?,
        };
        let mut record = self.first_record(&request)?;
        container.live().txid = Some(record.txid.clone());
        let (dir, lock) = self.take_run_directory(&request)?;
        if let Err(e) = dir.dir().mark(&format!("{}{}", layout::TX, record.txid), &self.owner) {
            dir.remove(lock)?;
            return Err(e.into());
        }
        tracing::info!(
            namespace = record.namespace,
            id = record.id,
            txid = record.txid,
            group = record.group,
            "create"
        );

        container.live().stdio = stdio;
        let deadline = Instant::now() + fault::deadline("deadline.create", CREATE_WAIT);
        let made = match ordinary {
            Some(input) => {
                let file = (&mut record, &dir, lock);
                self.make_ordinary(container, &request, input, config, file, deadline)
            }
            None => self.make(container, &request, config, (&mut record, &dir, lock), deadline),
        };
        match made {
            Ok(made) => {
                let pid = record.pid();
                let guest = made.plan.guest();
                {
                    let mut live = container.live();
                    live.state = State::Created;
                    live.pid = pid;
                    live.process = Some(made.process);
                    live.words = made.words;
                    live.oci = made.oci;
                    live.power_button = guest.and_then(|g| g.launch.as_ref()).is_some_and(|l| l.power_button);
                    live.made_of = Some(record.bundle.clone());
                    live.is_sandbox = request.role == Role::Sandbox;
                    if live.is_sandbox {
                        live.keys = request.keys;
                    }
                    live.oom_score_adj = request.oom_score_adj;
                    live.grace = config.grace;
                    live.cgroup.clone_from(&record.cgroup);
                }
                work.gate = made.gate;
                work.monitor = guest.map(|g| g.monitor.clone()).unwrap_or_default();
                work.overhead_mib = self.monitor(&work.monitor).map_or(0, |m| config.overhead_mib(m));
                work.file = Some((dir, record));
                self.events.publish(TaskEvent::Create {
                    id: request.id,
                    bundle: request.bundle.to_string_lossy().into_owned(),
                    pid,
                    rootfs: request.rootfs,
                    stdio: request.stdio,
                });
                Ok(())
            }
            Err(cause) => {
                // A logger ends when nobody can write to it any more.
                container.live().stdio = Stdio::default();
                let rollback = self.roll_back(container, &mut record, &dir);
                match rollback {
                    Ok(report) => {
                        remove_directory(&dir);
                        tracing::warn!(
                            id = record.id,
                            txid = record.txid,
                            error = cause.chain(),
                            report,
                            "create failed"
                        );
                        Err(Error::CreateFailed { cause: Box::new(cause), rollback: report })
                    }
                    Err(report) => {
                        tracing::error!(
                            id = record.id,
                            txid = record.txid,
                            error = cause.chain(),
                            report,
                            "create failed and could not be undone; it is tried again"
                        );
                        work.file = Some((dir, record));
                        container.enter("create", Event::Block)?;
                        Err(Error::CreateFailed { cause: Box::new(cause), rollback: report })
                    }
                }
            }
        }
    }

    /// Runs the steps, makes the plan, commits.
    fn make(
        &self,
        container: &Container,
        request: &Request,
        config: &Config,
        (record, dir, lock): (&mut Record, &RunDir, Lock),
        deadline: Instant,
    ) -> Result<Made, Error> {
        let work = CreateWork {
            request,
            container,
            spawner: &*self.spawner,
            folders: config.monitor_folders(self.monitors.iter().map(|m| &**m)),
            deadline,
            cgroups: vec![],
            launcher: None,
        };
        let mut cx = Cx::new(record, dir, Held::Once(lock), &self.notes, Work::Create(Box::new(work)));
        let steps = create_steps();
        let first = usize::from(container.live().stdio.logger.is_none());
        saga::run(CREATE, &steps[first..], &mut cx)?;
        let launcher = match cx.work {
            Work::Create(mut work) => work.launcher.take(),
            _ => None,
        };
        let mut launcher = launcher.ok_or_else(|| Error::NotFound { id: request.id.clone() })?;
        if !request.hooks.is_empty() {
            let work = HooksWork { container, hooks: &request.hooks, deadline };
            let mut cx = Cx::new(record, dir, Held::No, &self.notes, Work::Hooks(work));
            saga::run(CREATE, &hook_steps(), &mut cx)?;
            // They may have put an interface there.
            if request.role == Role::Guest {
                launcher.network = launcher.gate.look(deadline, &launcher.words)?;
            }
        }
        // Still alive: then the namespaces that were joined meanwhile are its own.
        self.check_sandbox(request)?;

        fault::point("plan.before")?;
        let what = match request.role {
            Role::Sandbox | Role::Ordinary => What::Sandbox,
            // Every fd into the image is closed before the plan is durable: an open one keeps a block device busy.
            Role::Guest => {
                What::Guest(Box::new(self.plan(container, request, config, record, &mut launcher)?))
            }
        };
        let plan = Plan { txid: record.txid.clone(), cgroup: record.cgroup.clone(), what };
        fault::point("plan.made")?;
        dir.write_part(layout::PLAN, &plan)?;
        if let Some(guest) = plan.guest() {
            let overhead = self.monitor(&guest.monitor).map_or(0, |m| config.overhead_mib(m));
            limit_memory(request, guest, overhead, record)?;
        }
        if let Some(guest) = plan.guest()
            && let Some(network) = guest.known_network()
        {
            let work = NetworkWork {
                container,
                gate: &mut launcher.gate,
                words: &launcher.words,
                plan: network,
                path: guest.netns.as_ref(),
                deadline,
            };
            let work = Work::Network(Box::new(work));
            let mut cx = Cx::new(record, dir, Held::No, &self.notes, work);
            saga::run(CREATE, &network_steps(), &mut cx)?;
        }
        announce(request, record, &plan);
        commit(container, record, dir, deadline)?;
        let Launcher { process, words, gate, .. } = launcher;
        Ok(Made { process, words: Some(words), gate: Some(gate), oci: None, plan })
    }

    /// A member joins its sandbox's namespaces by `/proc/PID/ns`. Once the sandbox is dead, that number may be a
    /// stranger's.
    pub(super) fn check_sandbox(&self, request: &Request) -> Result<(), Error> {
        for sandbox in self.all().iter().filter(|c| c.is_sandbox()) {
            let folder = format!("/proc/{}/ns", sandbox.snapshot().pid);
            let paths = request.namespaces.iter().filter_map(|ns| ns.path.as_ref());
            let Some(path) = paths.into_iter().find(|path| path.starts_with(&folder)) else { continue };
            if sandbox.process().map_or(Ok(true), |process| process.is_dead())? {
                return Err(Error::Unmet {
                    field: "linux.namespaces".to_owned(),
                    value: path.to_string_lossy().into_owned(),
                    problem: format!("is of the pod's sandbox {}, which has ended", sandbox.id),
                    remedy: "make the pod anew".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Makes the run directory and clears it of what an earlier container of this id left.
    fn take_run_directory(&self, request: &Request) -> Result<(RunDir, Lock), Error> {
        let (dir, lock) = RunDir::make(&self.layout.container(&self.namespace, &request.id))?;
        match dir.read() {
            Read::Absent => {
                if recover::living_owner(&self.layout, &dir)?.is_some_and(|owner| owner != self.owner) {
                    return Err(Error::AlreadyExists { id: request.id.clone() });
                }
                recover::unwind_derived(&self.notes, &dir, Instant::now() + REMAINS_WAIT)?;
            }
            Read::Record(old) if old.tombstone || old.boot_id != self.boot_id => {}
            Read::Record(old) if old.owner != self.owner && owner::is_alive(&self.layout, &old.owner)? => {
                return Err(Error::AlreadyExists { id: request.id.clone() });
            }
            Read::Record(old) => {
                let deadline = Instant::now() + fault::deadline("deadline.remains", REMAINS_WAIT);
                recover::unwind_held(&self.notes, &dir, old, &lock, deadline)?;
            }
            Read::Unreadable(e) if !e.is_garbled() => return Err(e.into()),
            Read::Newer(_) | Read::Unreadable(_) if recover::is_owned(&self.layout, &dir)? => {
                return Err(Error::AlreadyExists { id: request.id.clone() });
            }
            Read::Newer(_) | Read::Unreadable(_) => {
                recover::unwind_derived(&self.notes, &dir, Instant::now() + REMAINS_WAIT)?;
                dir.dir().set_aside(layout::RECORD)?;
            }
        }
        dir.clear()?;
        Ok((dir, lock))
    }

    fn first_record(&self, request: &Request) -> Result<Record, Error> {
        let bundle = BundleId::of(&request.bundle)?.ok_or_else(|| {
            contract::invalid("bundle", &request.bundle.to_string_lossy(), "is not there", "make it")
        })?;
        Ok(Record {
            schema: SCHEMA,
            namespace: self.namespace.clone(),
            id: request.id.clone(),
            txid: layout::random_hex(layout::TXID_BYTES)?,
            boot_id: self.boot_id.clone(),
            owner: self.owner.clone(),
            daemon: Some(ProcessId::own()?),
            group: request.group.clone(),
            bundle_path: request.bundle.clone(),
            bundle,
            created: OffsetDateTime::now_utc(),
            state: State::Creating,
            journal: Journal::default(),
            cgroup: None,
            process: None,
            oci: None,
            rootfs: None,
            execs: BTreeMap::new(),
            logger: None,
            network: None,
            stdio: request.stdio.clone(),
            exit: None,
            last_words: None,
            poststop: None,
            usage: None,
            tombstone: false,
        })
    }

    /// Reads what the plan of a guest depends on, and makes it.
    fn plan(
        &self,
        container: &Container,
        request: &Request,
        config: &Config,
        record: &Record,
        launcher: &mut Launcher,
    ) -> Result<GuestPlan, Error> {
        let image = launcher.image.take().ok_or_else(|| Error::NotFound { id: request.id.clone() })?;
        let root = image.as_fd();
        let keys = image::keys(root, &request.keys)?;
        let monitor = self.monitor(keys.get(contract::HYPERVISOR).unwrap_or(contract::DEFAULT_HYPERVISOR))?;
        let program = config.find_monitor(monitor)?;
        let kernel = image::kernel(root, keys.required(contract::BINARY)?)?;
        let rootfs = choose_rootfs(root, &keys).map(Ok).or_else(deferred)?;
        let memory_room = match (&record.cgroup, request.memory) {
            (Some(leaf), Some(limit)) => {
                let room = parent_room(&Kernel, leaf)?.map(host_cgroup::ParentRoom::bytes);
                room.map(
                    |room| if self.is_denied(container, Share::Overhead) { room.min(limit) } else { room },
                )
            }
            _ => None,
        };
        let network = self.choose_network(container, &record.txid, launcher.network.clone());
        let facts = Facts {
            keys,
            kernel,
            rootfs,
            network,
            memory_room,
            host_memory: crate::runtime::host_memory(),
            host: self.host,
            program,
        };
        let plan = GuestPlan::new(request, facts, monitor, config)?;
        if plan.memory.rule == MemoryRule::LimitMinusOverhead {
            self.deny(container, Share::Overhead);
        }
        Ok(plan)
    }

    fn roll_back(&self, container: &Container, record: &mut Record, dir: &RunDir) -> Result<String, String> {
        record.state = State::Unwinding;
        container.live().state = State::Unwinding;
        let mut cx = Cx::unwinding(record, dir, Held::No, &self.notes);
        let wait = fault::deadline("deadline.rollback", ROLLBACK_WAIT);
        let report = unwind(&mut cx, None, Instant::now() + wait);
        let text = describe(&report);
        if report.is_clean() {
            return Ok(text);
        }
        record.state = State::UnwindBlocked;
        if let Err(e) = dir.write(record) {
            tracing::warn!(id = record.id, error = e.chain(), "the record was not written");
        }
        Err(text)
    }
}

/// The guest's root file system, by what the keys say and the image shows.
pub fn choose_rootfs(root: std::os::fd::BorrowedFd<'_>, keys: &Keys) -> Result<GuestRootfs, Error> {
    match keys.path(contract::INITRD)? {
        None => Ok(GuestRootfs::None),
        Some(path) => {
            image::initrd(root, path)?;
            Ok(GuestRootfs::Initrd(path.to_owned()))
        }
    }
}

/// Sets the limits of memory, now that the plan has them.
fn limit_memory(request: &Request, plan: &GuestPlan, overhead: u64, record: &Record) -> Result<(), Error> {
    let Some(leaf) = &record.cgroup else { return Ok(()) };
    // A path that is shared with another container of ours holds both: this one's share comes on top.
    let shared = is_shared(leaf);
    let others = if shared { memory_limit_of(&Kernel, leaf)? } else { Some(0) };
    let mut limits = match (plan.memory.cgroup_bytes, others) {
        (Some(bytes), Some(others)) => memory_limit(request, bytes.saturating_add(others)),
        _ => Limits::default(),
    };
    match request.memory_reservation {
        Some(_) if shared => tracing::warn!(
            id = record.id,
            "linux.resources.memory.reservation is not honoured: another container has the same cgroupsPath"
        ),
        reservation => {
            let bytes = reservation.map(|bytes| plan.memory.reservation(bytes, overhead));
            limits.memory_reservation = bytes.map(Amount::At);
        }
    }
    set_limits(&Kernel, leaf, &limits)?;
    Ok(())
}

/// Whether another transaction has its leaf below the same cgroupsPath.
pub(super) fn is_shared(plan: &LeafPlan) -> bool {
    let other = |h: &LeafIn| {
        let leaves = h.dir().read_dir().into_iter().flatten().flatten();
        leaves
            .filter_map(|e| e.file_name().into_string().ok())
            .any(|name| name.starts_with("urunc-") && name != h.leaf.as_str())
    };
    plan.hierarchies.iter().filter(|h| h.controllers.iter().any(|c| c == "memory")).any(other)
}

/// A choice that only cannot be made *now* is made again at Start; one that is wrong is an error.
fn deferred(error: Error) -> Result<Result<GuestRootfs, String>, Error> {
    match error {
        Error::ImageUnreadable { .. } => Ok(Err(error.chain())),
        other => Err(other),
    }
}

fn memory_limit(request: &Request, bytes: u64) -> Limits {
    // Swap stays what was asked for: the overhead is added to memory and to the sum alike.
    let more = bytes.saturating_sub(request.memory.unwrap_or(bytes));
    let with_swap = request.memory_and_swap.map(|sum| Amount::At(sum.saturating_add(more)));
    Limits { memory: Some(MemoryLimit { limit: Amount::At(bytes), with_swap }), ..Limits::default() }
}

/// The commit: from here on the container is there. Cancellation is looked at under the record lock.
pub(super) fn commit(
    container: &Container,
    record: &mut Record,
    dir: &RunDir,
    deadline: Instant,
) -> Result<(), Error> {
    fault::point("commit.before")?;
    let lock = dir.lock(Instant::now() + Duration::from_secs(5))?;
    if container.live().cancelled {
        return Err(Error::Cancelled { id: record.id.clone() });
    }
    in_time(&record.id, deadline)?;
    record.state = State::Created;
    dir.write_locked(record)?;
    drop(lock);
    fault::point("commit.after")?;
    Ok(())
}

fn announce(request: &Request, record: &Record, plan: &Plan) {
    let (id, txid) = (&record.id, &record.txid);
    if request.cgroups_by_systemd && Path::new("/run/systemd/system").exists() {
        let path = request.cgroups_path.as_ref().map(ToString::to_string);
        tracing::warn!(
            id,
            txid,
            path,
            "linux.cgroupsPath is in systemd's form: the cgroup is made without asking systemd"
        );
    }
    let Some(guest) = plan.guest() else { return };
    if let RootfsChoice::AtStart(reason) = &guest.rootfs {
        tracing::warn!(id, txid, reason, "the guest's root file system is chosen at Start");
    }
    if guest.network == NetworkChoice::AtStart {
        tracing::debug!(id, txid, "there is no interface yet: the guest's network is chosen at Start");
    }
    for reason in guest.launch.iter().flat_map(|l| &l.reasons) {
        tracing::info!(id, txid, "{reason}");
    }
    if !guest.not_honoured.is_empty() {
        tracing::warn!(
            id,
            txid,
            fields = guest.not_honoured.join(", "),
            "the spec asks for what the guest does not get"
        );
    }
    tracing::debug!(id, txid, memory = ?guest.memory, vcpus = guest.guest.vcpus, "planned");
}

fn remove_directory(dir: &RunDir) {
    let path = dir.to_string();
    let removed = dir.lock(Instant::now() + Duration::from_secs(1)).and_then(|lock| dir.remove(lock));
    if let Err(e) = removed {
        // Nothing is left of the transaction itself: a directory without a record means that nothing happened.
        tracing::warn!(path, error = e.chain(), "the run directory was not removed");
    }
}
