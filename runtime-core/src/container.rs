//! One container in the daemon's memory.
//!
//! Three mutexes. `op` is held by a mutating verb for as long as it works, which may be seconds, and keeps verbs apart.
//! `live` and `execs` are held for moments only, never while anything waits, nor one within the other: State, Pids, Connect
//! and Wait are answered from them, whatever else goes on. An exec's own `op` comes before its container's, for which it
//! only tries.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError},
    time::{Duration, Instant},
};

use host_cgroup::{LeafPlan, Stats, WholePlan};
use oci_runtime::Cancel;
use proc_id::Process;
use tokio::sync::watch;
use vmm_api::{Control, RawExit};

use crate::{
    Error,
    contract::Keys,
    exec::Exec,
    last_words::LastWords,
    launcher::Gate,
    lifecycle::{Event, State},
    network::InterfaceId,
    oci::Oci,
    record::{BundleId, Exit, Record, RunDir, StdioPaths},
    stdio::{Relay, Stdio},
};

/// How long an OCI runtime may take to see that its container has ended.
const SEEING: Duration = Duration::from_secs(1);
/// How long it is waited until a verb's end is looked for again.
const PAUSE: Duration = Duration::from_millis(2);

/// A container.
#[derive(Debug)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its stdio, as it was asked for.
    pub stdio: StdioPaths,
    /// Of an ordinary one: gives up what the OCI runtime is just doing for a verb, and will do for one.
    pub(crate) cancel: Cancel,
    op: Mutex<Work>,
    live: Mutex<Live>,
    execs: Mutex<Execs>,
    settled: Condvar,
    /// Of `execs`: nobody more is just being made.
    made: Condvar,
    exit: watch::Sender<Option<Exit>>,
    relay_ended: watch::Sender<bool>,
    deleted: watch::Sender<bool>,
}

/// The processes that were executed in an ordinary container later.
#[derive(Debug, Default)]
struct Execs {
    all: BTreeMap<String, Arc<Exec>>,
    /// How many the OCI runtime is just making.
    starting: usize,
    /// The container is being undone: nobody more is let in.
    closed: bool,
    /// One failed, and may have left a process that nobody knows.
    strays: bool,
    /// Those are looked for: whoever is let in has to wait, for he would be taken for one.
    looking: bool,
}

/// What a mutating verb works on; there from the moment the run directory is.
#[derive(Debug, Default)]
pub struct Work {
    /// The run directory and the record in it.
    pub file: Option<(RunDir, Record)>,
    /// The gate, until Start.
    pub gate: Option<Gate>,
    /// The monitor's name, once it is planned.
    pub monitor: String,
    /// What the monitor may use beside guest RAM, by the configuration of this container, in MiB.
    pub overhead_mib: u64,
}

/// What is true of it now.
pub struct Live {
    /// Its state.
    pub state: State,
    /// The transaction that makes it, once it has begun.
    pub txid: Option<String>,
    /// Somebody wants Create to be given up.
    pub cancelled: bool,
    /// The pid that containerd knows.
    pub pid: u32,
    /// The launcher, which becomes the monitor.
    pub process: Option<Arc<Process>>,
    /// The logger that takes its output, if there is one.
    pub logger: Option<Arc<Process>>,
    /// What it says.
    pub words: Option<Arc<LastWords>>,
    /// Of an ordinary container: the status of its first process, once somebody has read it.
    pub raw: Option<RawExit>,
    /// How it ended.
    pub exit: Option<Exit>,
    /// Whether containerd was told of the end.
    pub exit_told: bool,
    /// The signal by which it ends, if it ends by ours.
    pub killed: Option<i32>,
    /// The signal for which its power button was pressed: if it switches itself off, that is why.
    pub pressed: Option<i32>,
    /// The monitor's control channel.
    pub control: Option<Arc<Mutex<Box<dyn Control>>>>,
    /// Whether the guest hears a power button.
    pub power_button: bool,
    /// Its name in its pod.
    pub name: Option<String>,
    /// Which bundle it was made of.
    pub made_of: Option<BundleId>,
    /// Whether it is the pod's sandbox.
    pub is_sandbox: bool,
    /// Of the pod's sandbox: what the annotations of the pod give of the image contract.
    pub keys: Keys,
    /// `process.oomScoreAdj`.
    pub oom_score_adj: Option<i32>,
    /// How long its guest may take after its power button until it is killed; `None`: as long as it likes.
    pub grace: Option<Duration>,
    /// The pod's interface, once it is reserved for this container.
    pub interface: Option<InterfaceId>,
    /// How much had been said when the guest was let go.
    pub said_before: u64,
    /// Its open stdio.
    pub stdio: Stdio,
    /// Its cgroup leaf, once Create is committed.
    pub cgroup: Option<LeafPlan>,
    /// Of an ordinary container: the OCI runtime that it was given to.
    pub oci: Option<Arc<Oci>>,
    /// Where its first process is, once Create is committed.
    pub whole: Option<WholePlan>,
    /// Of so many of its processes containerd was told that the kernel has killed them for want of memory.
    pub oom_told: u64,
    /// What it had used when it ended.
    pub last_stats: Option<Box<Stats>>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live")
            .field("state", &self.state)
            .field("pid", &self.pid)
            .field("exit", &self.exit)
            .finish()
    }
}

/// What is answered to State.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its state.
    pub state: State,
    /// Its pid.
    pub pid: u32,
    /// How it ended.
    pub exit: Option<Exit>,
}

impl Container {
    pub(crate) fn new(id: &str, bundle: PathBuf, stdio: StdioPaths) -> Self {
        Self {
            id: id.to_owned(),
            bundle,
            stdio,
            cancel: Cancel::default(),
            op: Mutex::default(),
            live: Mutex::new(Live {
                state: State::Creating,
                txid: None,
                cancelled: false,
                pid: 0,
                process: None,
                logger: None,
                words: None,
                raw: None,
                exit: None,
                exit_told: false,
                killed: None,
                pressed: None,
                control: None,
                power_button: false,
                name: None,
                made_of: None,
                is_sandbox: false,
                keys: Keys::default(),
                oom_score_adj: None,
                grace: None,
                interface: None,
                said_before: 0,
                stdio: Stdio::default(),
                cgroup: None,
                oci: None,
                whole: None,
                oom_told: 0,
                last_stats: None,
            }),
            execs: Mutex::default(),
            settled: Condvar::new(),
            made: Condvar::new(),
            exit: watch::Sender::new(None),
            relay_ended: watch::Sender::new(true),
            deleted: watch::Sender::new(false),
        }
    }

    /// Begins a mutating verb; waits for the one that is at work.
    pub(crate) fn work(&self) -> MutexGuard<'_, Work> {
        self.op.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for whoever has seen it end. If it was killed, what the OCI runtime is still doing for the verb at work is
    /// given up soon; if it ended by itself, a Start may still run the hooks behind it.
    pub(crate) fn work_or_give_up(&self) -> MutexGuard<'_, Work> {
        if self.live().killed.is_none() {
            return self.work();
        }
        let until = Instant::now() + SEEING;
        while Instant::now() < until {
            if let Some(work) = self.try_work() {
                return work;
            }
            std::thread::sleep(PAUSE);
        }
        self.cancel.cancel();
        self.work()
    }

    /// The same without waiting; `None`: one is at work.
    pub(crate) fn try_work(&self) -> Option<MutexGuard<'_, Work>> {
        match self.op.try_lock() {
            Ok(work) => Some(work),
            Err(TryLockError::Poisoned(work)) => Some(work.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// What is true of it now. Held for moments only.
    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is answered to State.
    pub fn snapshot(&self) -> Snapshot {
        let live = self.live();
        Snapshot { state: live.state, pid: live.pid, exit: live.exit }
    }

    /// The process, once Create is committed.
    pub fn process(&self) -> Option<Arc<Process>> {
        self.live().process.clone()
    }

    /// The logger that takes its output, if there is one, once Create is committed.
    pub fn logger(&self) -> Option<Arc<Process>> {
        self.live().logger.clone()
    }

    /// The transaction that makes it, once it has begun.
    pub fn txid(&self) -> Option<String> {
        self.live().txid.clone()
    }

    /// Whether containerd has removed its bundle: then it knows nothing of it any more, and nobody will ask.
    pub fn is_forsaken(&self) -> bool {
        let made_of = self.live().made_of.clone();
        made_of.is_some_and(|own| BundleId::of(&self.bundle).is_ok_and(|now| now.as_ref() != Some(&own)))
    }

    /// Whether it is the pod's sandbox.
    pub(crate) fn is_sandbox(&self) -> bool {
        self.live().is_sandbox
    }

    /// The OCI runtime that it was given to, if it is an ordinary container.
    pub fn oci(&self) -> Option<Arc<Oci>> {
        self.live().oci.clone()
    }

    /// A process that was executed in it.
    pub fn exec(&self, id: &str) -> Result<Arc<Exec>, Error> {
        let unknown = || Error::NoExec { container: self.id.clone(), id: id.to_owned() };
        self.execs_now().all.get(id).cloned().ok_or_else(unknown)
    }

    /// All of them.
    pub fn execs(&self) -> Vec<Arc<Exec>> {
        self.execs_now().all.values().cloned().collect()
    }

    pub(crate) fn add_exec(&self, exec: Exec) -> Result<Arc<Exec>, Error> {
        let exec = Arc::new(exec);
        let mut execs = self.execs_now();
        if execs.closed {
            return Err(Error::Ended { id: self.id.clone() });
        }
        if execs.all.contains_key(&exec.id) {
            return Err(Error::ExecExists { container: self.id.clone(), id: exec.id.clone() });
        }
        execs.all.insert(exec.id.clone(), exec.clone());
        Ok(exec)
    }

    pub(crate) fn forget_exec(&self, id: &str) {
        self.execs_now().all.remove(id);
    }

    /// Lets one more be made, until what is returned is dropped. An error: the container is being undone.
    pub(crate) fn begin_exec(&self) -> Result<Starting<'_>, Error> {
        let mut execs = self.execs_now();
        while execs.looking {
            execs = self.made.wait(execs).unwrap_or_else(PoisonError::into_inner);
        }
        if execs.closed {
            return Err(Error::Ended { id: self.id.clone() });
        }
        execs.starting += 1;
        Ok(Starting(self))
    }

    /// Has strays looked for if there may be some, while nobody is being made: each process of this container that
    /// somebody knows is known to us then.
    pub(crate) fn look_for_strays(&self, look: impl FnOnce()) {
        {
            let mut execs = self.execs_now();
            if !execs.strays || execs.looking || execs.starting > 0 {
                return;
            }
            (execs.strays, execs.looking) = (false, true);
        }
        let _looking = Looking(self);
        look();
    }

    /// Lets nobody more be made, and waits for those that are just made; whoever takes longer than `patience` is given up.
    /// `false`: one still is.
    pub(crate) fn close_execs(&self, patience: Duration, deadline: Instant) -> bool {
        let mut execs = self.execs_now();
        execs.closed = true;
        let mut until = deadline.min(Instant::now() + patience);
        while execs.starting > 0 {
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                if until == deadline {
                    return false;
                }
                execs.all.values().for_each(|exec| exec.cancel.cancel());
                until = deadline;
                continue;
            };
            execs = self.made.wait_timeout(execs, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// It was not undone after all.
    pub(crate) fn open_execs(&self) {
        self.execs_now().closed = false;
    }

    fn execs_now(&self) -> MutexGuard<'_, Execs> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the process says on its stderr.
    pub fn words(&self) -> Option<Arc<LastWords>> {
        self.live().words.clone()
    }

    /// No more input will come. As often as wanted, and in any state: input may end before the guest runs.
    pub fn close_stdin(&self) {
        self.live().stdio.close_stdin();
    }

    /// What passes through the daemon, for whoever copies it from now on.
    pub fn relay(&self) -> Option<Relay> {
        let relay = self.live().stdio.relay.take();
        self.relay_ended.send_replace(relay.is_none());
        relay
    }

    /// All that will be copied has been.
    pub fn relay_ended(&self) {
        self.relay_ended.send_replace(true);
    }

    /// Becomes `true` when nothing is to be copied any more.
    pub fn relay_end(&self) -> watch::Receiver<bool> {
        self.relay_ended.subscribe()
    }

    /// Its Delete has come, or another undo: what it has said is copied for a while yet.
    pub(crate) fn was_deleted(&self) {
        self.deleted.send_replace(true);
    }

    /// Becomes `true` when its Delete comes.
    pub fn deletion(&self) -> watch::Receiver<bool> {
        self.deleted.subscribe()
    }

    /// Sets the size of its terminal, in characters. Without one, or when it is gone, nothing.
    pub fn resize(&self, width: u16, height: u16) -> Result<(), Error> {
        self.live().stdio.resize(width, height)
    }

    /// The monitor's control channel, once its guest runs.
    pub fn control(&self) -> Option<Arc<Mutex<Box<dyn Control>>>> {
        self.live().control.clone()
    }

    /// Becomes `Some` when the process has ended and its record says so.
    pub fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.subscribe()
    }

    /// Goes to the state after `event`.
    pub(crate) fn enter(&self, verb: &'static str, event: Event) -> Result<State, Error> {
        let mut live = self.live();
        let state = live.state.after(event).ok_or_else(|| Error::WrongState {
            id: self.id.clone(),
            verb,
            state: live.state,
        })?;
        live.state = state;
        drop(live);
        self.settled.notify_all();
        Ok(state)
    }

    /// Notes the end, in memory and for those who wait. The first one counts.
    pub(crate) fn ended(&self, exit: Exit) {
        let mut live = self.live();
        live.exit.get_or_insert(exit);
        live.control = None;
        live.stdio.ended();
        drop(live);
        self.exit.send_if_modified(|slot| slot.is_none() && slot.replace(exit).is_none());
        self.settled.notify_all();
    }

    /// Wakes those who wait for the state to change.
    pub(crate) fn settle(&self) {
        self.settled.notify_all();
    }

    /// Waits until `done`, at most until the deadline. `false`: it is not.
    pub(crate) fn wait_until(&self, deadline: Instant, done: impl Fn(&Live) -> bool) -> bool {
        let mut live = self.live();
        while !done(&live) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            live = self.settled.wait_timeout(live, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// A process is just being made.
pub(crate) struct Starting<'a>(&'a Container);

impl Starting<'_> {
    /// That has failed, and who was made is known to nobody.
    pub(crate) fn may_have_strayed(&self) {
        self.0.execs_now().strays = true;
    }
}

/// Strays are looked for.
struct Looking<'a>(&'a Container);

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.0.execs_now().looking = false;
        self.0.made.notify_all();
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.0.execs_now().starting -= 1;
        self.0.made.notify_all();
    }
}
