//! A process that is executed in an ordinary container, in the daemon's memory.
//!
//! As of a container there are two mutexes: `op` for as long as a verb works, `live` for moments. Its identity is in the
//! container's record from the moment that it is known, so that whoever ends the container ends it, too.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci_runtime::Cancel;
use proc_id::Process;
use tokio::sync::watch;
use vmm_api::Reason;

use crate::{
    Error,
    record::{Exit, StdioPaths},
    stdio::{Relay, Stdio},
};

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecState {
    /// It was asked for, and nothing was made.
    Added,
    /// It runs.
    Running,
    /// It has ended, or could not be started.
    Stopped,
}

/// A process of a container, beside its first one.
#[derive(Debug)]
pub struct Exec {
    /// Its id, unique in its container.
    pub id: String,
    /// Its stdio, as it was asked for.
    pub stdio: StdioPaths,
    /// What it is: the OCI specification's `process` as JSON.
    pub(crate) spec: Vec<u8>,
    /// Gives it up while the OCI runtime makes it.
    pub(crate) cancel: Cancel,
    op: Mutex<()>,
    live: Mutex<Live>,
    exit: watch::Sender<Option<Exit>>,
    relay_ended: watch::Sender<bool>,
    deleted: watch::Sender<bool>,
}

#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) state: ExecState,
    pub(crate) pid: u32,
    pub(crate) process: Option<Arc<Process>>,
    pub(crate) stdio: Stdio,
    pub(crate) exit: Option<Exit>,
    pub(crate) exit_told: bool,
    /// Its input was closed before it was started.
    pub(crate) closed: bool,
}

impl Exec {
    pub(crate) fn new(id: &str, stdio: StdioPaths, spec: Vec<u8>) -> Self {
        Self {
            id: id.to_owned(),
            stdio,
            spec,
            cancel: Cancel::default(),
            op: Mutex::default(),
            live: Mutex::new(Live {
                state: ExecState::Added,
                pid: 0,
                process: None,
                stdio: Stdio::default(),
                exit: None,
                exit_told: false,
                closed: false,
            }),
            exit: watch::Sender::new(None),
            relay_ended: watch::Sender::new(true),
            deleted: watch::Sender::new(false),
        }
    }

    /// Begins a verb; waits for the one that is at work.
    pub(crate) fn work(&self) -> MutexGuard<'_, ()> {
        self.op.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is true of it now. Held for moments only.
    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it has come, its pid, and how it ended.
    pub fn snapshot(&self) -> (ExecState, u32, Option<Exit>) {
        let live = self.live();
        (live.state, live.pid, live.exit)
    }

    /// The process, once it runs.
    pub fn process(&self) -> Option<Arc<Process>> {
        self.live().process.clone()
    }

    /// No more input will come.
    pub fn close_stdin(&self) {
        let mut live = self.live();
        live.closed = true;
        live.stdio.close_stdin();
    }

    /// Sets the size of its terminal, in characters. Without one, or when it is gone, nothing.
    pub fn resize(&self, width: u16, height: u16) -> Result<(), Error> {
        self.live().stdio.resize(width, height)
    }

    /// What passes through the daemon, for whoever copies it from now on.
    pub fn relay(&self) -> Option<Relay> {
        self.live().stdio.relay.take()
    }

    /// All that will be copied has been.
    pub fn relay_ended(&self) {
        self.relay_ended.send_replace(true);
    }

    /// Becomes `true` when nothing is to be copied any more.
    pub fn relay_end(&self) -> watch::Receiver<bool> {
        self.relay_ended.subscribe()
    }

    /// Its Delete has come: what it has said is copied for a while yet, whoever may still write.
    pub(crate) fn was_deleted(&self) {
        self.deleted.send_replace(true);
    }

    /// Becomes `true` when its Delete comes.
    pub fn deletion(&self) -> watch::Receiver<bool> {
        self.deleted.subscribe()
    }

    /// Becomes `Some` when it has ended.
    pub fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.subscribe()
    }

    /// It runs, with this stdio.
    pub(crate) fn runs(&self, process: Arc<Process>, mut stdio: Stdio) {
        let mut live = self.live();
        if live.closed {
            stdio.close_stdin();
        }
        // Whoever deletes it waits for that from now on, not from the moment that somebody copies.
        self.relay_ended.send_replace(stdio.relay.is_none());
        live.pid = process.pid().unsigned_abs();
        (live.state, live.process, live.stdio) = (ExecState::Running, Some(process), stdio);
    }

    /// Nobody will start it any more: whoever waits for it is answered. How it ended, if it had been started.
    pub(crate) fn never_ran(&self) -> Exit {
        self.ended(Exit::now(0, Reason::NeverRan))
    }

    /// Notes the end, in memory and for those who wait. The first one counts: that is returned.
    pub(crate) fn ended(&self, exit: Exit) -> Exit {
        let mut live = self.live();
        let exit = *live.exit.get_or_insert(exit);
        live.state = ExecState::Stopped;
        // What it has said is still to be copied, also by somebody who comes only now.
        let relay = live.stdio.relay.take();
        live.stdio.ended();
        live.stdio.relay = relay;
        drop(live);
        self.exit.send_if_modified(|slot| slot.is_none() && slot.replace(exit).is_none());
        exit
    }
}
