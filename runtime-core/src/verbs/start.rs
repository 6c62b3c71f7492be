//! Start: late facts -> network, if it was not there before -> gate -> exec proven -> the monitor answers -> commit
//! Running -> event -> go. A sandbox only passes its gate.
//!
//! A failure before the gate message unwinds Start's section only, and the container is Created as before. After it
//! the container is Stopped with exit 128.

use std::{
    fs::File,
    os::{fd::AsFd, unix::net::UnixStream},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustix::fs::{major, minor, stat};
use vmm_api::{Control, Ready, Reason};

use crate::{
    Error, Runtime,
    container::{Container, Work as ContainerWork},
    events::TaskEvent,
    launcher::{Device, Exec, MARKER, reap},
    layout,
    lifecycle::{Event, State},
    plan::{GuestPlan, GuestRootfs, Late, NetworkChoice, NetworkPlan, Plan, RootfsChoice, What},
    record::Exit,
    steps::{Cx, Held, NetworkWork, Passage, START, StartWork, Work, network_steps, start_steps, unwind},
    verbs::create::choose_rootfs,
};

/// How long the monitor may take to answer.
const START_WAIT: Duration = Duration::from_secs(20);
/// How long a monitor that closed its channel may take to be dead.
const DYING: Duration = Duration::from_secs(5);
/// The exit status of a container whose monitor never ran its guest.
const NEVER_RAN: u32 = 128;

/// How far a Start came that failed.
pub(super) enum Stage {
    /// The gate message was not sent: back to Created.
    Before(Error),
    /// It was: the container is Stopped.
    Behind(Error),
}

impl Runtime {
    /// Starts a created container; its pid.
    pub fn start(&self, id: &str) -> Result<u32, Error> {
        let container = self.get(id)?;
        let mut work = container.work();
        container.enter("start", Event::StartBegins)?;
        let deadline = Instant::now() + fault::deadline("deadline.start", START_WAIT);

        let plan = match self.planned(&work, &container) {
            Ok(plan) => plan,
            Err(e) => return Err(self.retract(&container, &mut work, e)),
        };
        let started = match &plan.what {
            What::Sandbox => self.start_sandbox(&container, &mut work, deadline),
            What::Guest(guest) => self.start_guest(&container, &mut work, guest, deadline),
            What::Ordinary(_) => self.start_ordinary(&container, &mut work, deadline),
        };
        match started {
            Ok(()) => Ok(container.snapshot().pid),
            Err(Stage::Before(e)) => Err(match settle(&container, &mut work) {
                Ok(()) => self.retract(&container, &mut work, e),
                Err(hung) => {
                    tracing::warn!(id, error = hung.chain(), "the launcher does not come back to its gate");
                    self.never_ran(&container, &mut work, e)
                }
            }),
            Err(Stage::Behind(e)) => Err(self.never_ran(&container, &mut work, e)),
        }
    }

    /// The plan that Create made.
    pub(super) fn planned(&self, work: &ContainerWork, container: &Container) -> Result<Plan, Error> {
        let gone = || Error::NotFound { id: container.id.clone() };
        let (dir, _) = work.file.as_ref().ok_or_else(gone)?;
        dir.dir().read_part(layout::PLAN)?.ok_or_else(gone)
    }

    fn start_sandbox(
        &self,
        container: &Container,
        work: &mut ContainerWork,
        deadline: Instant,
    ) -> Result<(), Stage> {
        self.pass_gate(container, work, Passage::Hold, deadline)?;
        self.commit(container, work).map_err(Stage::Behind)
    }

    fn start_guest(
        &self,
        container: &Container,
        work: &mut ContainerWork,
        plan: &GuestPlan,
        deadline: Instant,
    ) -> Result<(), Stage> {
        let late = self.late_facts(work, container, plan, deadline).map_err(Stage::Before)?;
        if plan.network == NetworkChoice::AtStart
            && let Some(network) = &late.network
        {
            self.join_network(container, work, plan, network, deadline).map_err(Stage::Before)?;
        }
        let txid = work.file.as_ref().map(|(_, record)| record.txid.clone()).unwrap_or_default();
        let exec = exec(plan, &late, &txid).map_err(Stage::Before)?;
        let (ours, theirs) =
            UnixStream::pair().map_err(|e| Stage::Before(Error::system("make a socket pair")(e)))?;
        let null = File::options().read(true).write(true).open("/dev/null");
        let null = null.map_err(|e| Stage::Before(Error::file("open", "/dev/null")(e)))?;
        let (stdin, stdout) = {
            let mut live = container.live();
            (live.stdio.stdin.take(), live.stdio.stdout.take())
        };
        let stdio = [&stdin, &stdout].map(|fd| fd.as_ref().map_or(null.as_fd(), AsFd::as_fd));
        let passage = Passage::Monitor { exec: Some(exec), stdio, control: &theirs, program: &plan.program };
        let passed = self.pass_gate(container, work, passage, deadline);
        // The monitor has its own copies; with ours open its end would not be seen.
        drop(theirs);
        match &passed {
            Err(Stage::Before(_)) => {
                let mut live = container.live();
                (live.stdio.stdin, live.stdio.stdout) = (stdin, stdout);
            }
            Ok(()) | Err(Stage::Behind(_)) => drop((stdin, stdout)),
        }
        passed?;
        self.let_go(container, work, plan, ours, deadline)
            .map_err(|e| Stage::Behind(died(container, plan, e)))
    }

    /// What could not be decided in Create, durable before Start's first step.
    fn late_facts(
        &self,
        work: &mut ContainerWork,
        container: &Container,
        plan: &GuestPlan,
        deadline: Instant,
    ) -> Result<Late, Error> {
        if let Some(late) = plan.early() {
            return Ok(late);
        }
        let gone = || Error::NotFound { id: container.id.clone() };
        let words = container.words().ok_or_else(gone)?;
        let ContainerWork { file: Some((dir, record)), gate: Some(gate), .. } = work else {
            return Err(gone());
        };
        let rootfs = match &plan.rootfs {
            RootfsChoice::Chosen(rootfs) => rootfs.clone(),
            RootfsChoice::AtStart(_) => {
                let image = gate.image(deadline, &words)?;
                let rootfs = choose_rootfs(image.as_fd(), &plan.keys)?;
                tracing::info!(
                    id = container.id,
                    txid = record.txid,
                    ?rootfs,
                    "the guest's root file system is chosen"
                );
                rootfs
            }
        };
        let network = match &plan.network {
            NetworkChoice::Known(network) => network.as_deref().cloned(),
            NetworkChoice::AtStart => {
                let seen = gate.look(deadline, &words)?;
                match self.choose_network(container, &record.txid, seen) {
                    NetworkChoice::Known(network) => network.map(|network| *network),
                    NetworkChoice::AtStart => {
                        let reason = "there is no interface with an address in its network namespace";
                        tracing::info!(
                            id = container.id,
                            txid = record.txid,
                            reason,
                            "the guest has no network"
                        );
                        None
                    }
                }
            }
        };
        let late = plan.late(rootfs, network, self.monitor(&plan.monitor)?)?;
        dir.write_part(layout::LATE, &late)?;
        container.live().power_button = late.launch.power_button;
        Ok(late)
    }

    /// The steps of a network that was not there in Create.
    fn join_network(
        &self,
        container: &Container,
        work: &mut ContainerWork,
        plan: &GuestPlan,
        network: &NetworkPlan,
        deadline: Instant,
    ) -> Result<(), Error> {
        let gone = || Error::NotFound { id: container.id.clone() };
        let words = container.words().ok_or_else(gone)?;
        let ContainerWork { file: Some((dir, record)), gate: Some(gate), .. } = work else {
            return Err(gone());
        };
        let network = NetworkWork {
            container,
            gate,
            words: &words,
            plan: network,
            path: plan.netns.as_ref(),
            deadline,
        };
        let mut cx = Cx::new(record, dir, Held::No, &self.notes, Work::Network(Box::new(network)));
        saga::run(START, &network_steps(), &mut cx)
    }

    fn pass_gate(
        &self,
        container: &Container,
        work: &mut ContainerWork,
        passage: Passage<'_>,
        deadline: Instant,
    ) -> Result<(), Stage> {
        let ContainerWork { file: Some((dir, record)), gate, .. } = work else {
            return Err(Stage::Before(Error::NotFound { id: container.id.clone() }));
        };
        let state = record.state;
        record.state = State::Starting;
        let start = StartWork { container, gate: gate.take(), passage, deadline, sent: false };
        let mut cx = Cx::new(record, dir, Held::No, &self.notes, Work::Start(Box::new(start)));
        let result = saga::run(START, &start_steps(), &mut cx);
        let Work::Start(start) = cx.work else { return Ok(()) };
        if start.sent {
            return result.map_err(Stage::Behind);
        }
        *gate = start.gate;
        record.state = state;
        result.map_err(Stage::Before)
    }

    /// The record says Running, and the event is out.
    pub(super) fn commit(&self, container: &Container, work: &mut ContainerWork) -> Result<(), Error> {
        let (dir, record) = work.file.as_mut().ok_or_else(|| Error::NotFound { id: container.id.clone() })?;
        record.state = State::Running;
        dir.write(record)?;
        container.enter("start", Event::StartCommitted)?;
        self.events.publish(TaskEvent::Start { id: container.id.clone(), pid: record.pid() });
        Ok(())
    }

    /// The monitor answers; the record says Running; the event is out; the guest runs.
    fn let_go(
        &self,
        container: &Container,
        work: &mut ContainerWork,
        plan: &GuestPlan,
        ours: UnixStream,
        deadline: Instant,
    ) -> Result<(), Error> {
        let gone = || Error::NotFound { id: container.id.clone() };
        let id = &container.id;
        let mut control = self.monitor(&plan.monitor)?.control(ours);
        let Ready { accel, version } = control.ready(deadline)?;
        fault::point("start.ready")?;
        let txid = work.file.as_ref().map(|(_, record)| record.txid.clone()).ok_or_else(gone)?;
        tracing::info!(id, txid, accel, version, "{} answers", plan.monitor);
        let words = container.words().ok_or_else(gone)?;
        let complaint = words.text();
        if !complaint.is_empty() {
            tracing::info!(id, txid, "{}: {complaint}", plan.monitor);
        }
        let control: Arc<Mutex<Box<dyn Control>>> = Arc::new(Mutex::new(control));
        {
            let mut live = container.live();
            live.said_before = words.total();
            live.control = Some(control.clone());
        }
        self.commit(container, work)?;
        let mut control = control.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Err(e) = control.go(Instant::now() + START_WAIT) {
            // It is Running, and told: whatever ends it now is an exit. A monitor that lives but cannot let its guest
            // go would be Running for ever, so it is ended.
            tracing::warn!(id, txid, error = %e, "the guest was not let go");
            if !matches!(e, vmm_api::ControlError::Closed)
                && let Some(process) = container.process()
            {
                process.signal(rustix::process::Signal::KILL)?;
            }
        }
        Ok(())
    }

    /// Nothing has happened yet: back to Created.
    fn retract(&self, container: &Container, work: &mut ContainerWork, cause: Error) -> Error {
        if let Some((dir, record)) = &mut work.file {
            record.state = State::Created;
            let mut cx = Cx::retracting(record, dir, &self.notes);
            unwind(&mut cx, Some(START), Instant::now() + DYING);
            record.journal.forget(START);
            if let Err(e) = dir.write(record) {
                tracing::warn!(id = record.id, error = e.chain(), "the record was not written");
            }
        }
        tracing::warn!(
            id = container.id,
            error = cause.chain(),
            "start failed; the container is created as before"
        );
        match container.enter("start", Event::StartRetracted) {
            Ok(_) => cause,
            Err(e) => e,
        }
    }

    /// The gate message was out: the process is ended, the container Stopped. The exit event follows the reply.
    fn never_ran(&self, container: &Container, work: &mut ContainerWork, cause: Error) -> Error {
        tracing::warn!(id = container.id, error = cause.chain(), "start failed");
        // An ordinary one's program may have run, and ended, whatever the OCI runtime said then.
        let ended = container.process().is_some_and(|process| process.is_dead().unwrap_or(false));
        if container.oci().is_some() && ended {
            let exit = self.exit_of_ordinary(container);
            self.stop(container, work, exit);
            return cause;
        }
        if let Some(process) = container.process() {
            let dead = process.signal(rustix::process::Signal::KILL).and_then(|_| process.wait(Some(DYING)));
            if !matches!(dead, Ok(true)) {
                tracing::error!(id = container.id, pid = process.pid(), "the monitor does not die");
            }
            reap(&process);
        }
        let killed = container.live().killed;
        let exit = killed.map_or_else(|| Exit::now(NEVER_RAN, Reason::NeverRan), Exit::by_signal);
        self.stop(container, work, exit);
        cause
    }
}

/// Waits until the launcher, which may have been given up in the middle of something, is at its gate again.
fn settle(container: &Container, work: &mut ContainerWork) -> Result<(), Error> {
    match (&mut work.gate, container.words()) {
        (Some(gate), Some(words)) => gate.settle(Instant::now() + DYING, &words),
        _ => Ok(()),
    }
}

fn exec(plan: &GuestPlan, late: &Late, txid: &str) -> Result<Exec, Error> {
    let mut devices = Vec::new();
    for name in &late.launch.devices {
        let path = format!("/dev/{name}");
        let node = stat(&path).map_err(|e| Error::file("look at", &path)(e.into()))?;
        devices.push(Device { name: name.clone(), major: major(node.st_rdev), minor: minor(node.st_rdev) });
    }
    let mut env = late.launch.env.clone();
    env.push(format!("{MARKER}={txid}"));
    Ok(Exec {
        program: late.launch.program.clone(),
        args: late.launch.args.clone(),
        env,
        devices,
        kernel: plan.kernel.clone(),
        initrd: match &late.rootfs {
            GuestRootfs::None => None,
            GuestRootfs::Initrd(path) => Some(path.clone()),
        },
        tap: late.network.is_some(),
    })
}

/// A monitor that closes its channel before it answers is dying: with its own last words that is the better error.
fn died(container: &Container, plan: &GuestPlan, error: Error) -> Error {
    let Error::Control(vmm_api::ControlError::Closed | vmm_api::ControlError::Io(_)) = error else {
        return error;
    };
    let (Some(process), Some(words)) = (container.process(), container.words()) else { return error };
    if !process.wait(Some(DYING)).unwrap_or(false) {
        return error;
    }
    let exit = match reap(&process) {
        Some(vmm_api::RawExit::Code(code)) => format!("exit code {code}"),
        Some(vmm_api::RawExit::Signal(signal)) => format!("signal {signal}"),
        None => "unknown".to_owned(),
    };
    Error::MonitorDied { monitor: plan.monitor.clone(), exit, words: words.text() }
}
