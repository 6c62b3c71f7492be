//! What a daemon does unasked: it leaves when it is idle, tries blocked clean-ups again, ends containers that were
//! forgotten, gives memory back.
//!
//! Nothing of it is polled. Each chore says when it is due next, and the daemon sleeps until then or until something
//! happens to its containers ([`Daemon::nudge`]); one with nothing to do makes no system call.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use runtime_core::{container::Container, oci::orphans::Orphans};

use crate::{bundles::Bundles, daemon::Daemon, memory};

/// How long a daemon without any container stays: a containerd or a client that was killed between `start` and Create, or
/// between Delete and Shutdown, does not come back for it, and the id is refused as long as it is there.
const IDLE: Duration = Duration::from_secs(20);
/// How long a daemon stays that was asked to leave while it could not, once it can: so long containerd's next Shutdown
/// may take to come.
const LINGER: Duration = Duration::from_secs(1);
/// How long a container lives on whose bundle is gone.
const FORSAKEN: Duration = Duration::from_secs(60);
/// The pause before a blocked clean-up is tried again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long a retry may take.
const RETRY_WAIT: Duration = Duration::from_secs(8);
/// How long after its last verb a daemon gives memory back: by then the threads of the pool have ended, too.
const QUIET: Duration = Duration::from_secs(3);

/// The chores of one daemon.
pub struct Chores {
    /// Children that nobody asked for.
    orphans: Orphans,
    /// The bundles of its containers.
    pub bundles: Bundles,
    /// containerd has asked it to leave.
    pub unwanted: bool,
    idle_since: Option<Instant>,
    seen: usize,
    trim_at: Option<Instant>,
    retry_at: Option<Instant>,
    pause: Duration,
    forsaken: HashMap<String, Instant>,
}

impl Chores {
    /// For a daemon that has just begun.
    pub fn new() -> Self {
        Self {
            orphans: Orphans::default(),
            bundles: Bundles::new(),
            unwanted: false,
            idle_since: None,
            seen: 0,
            trim_at: None,
            retry_at: None,
            pause: RETRY.0,
            forsaken: HashMap::new(),
        }
    }

    /// Does what is due. `true`: nothing is left to stay for.
    pub fn work(&mut self, daemon: &Arc<Daemon>) -> bool {
        let now = Instant::now();
        let verbs = daemon.verbs.load(Ordering::Relaxed);
        if verbs != self.seen {
            self.seen = verbs;
            self.idle_since = None;
            self.trim_at = Some(now + QUIET);
        }
        if self.trim_at.is_some_and(|at| now >= at) {
            self.trim_at = None;
            memory::trim();
        }
        let containers = daemon.runtime.all();
        self.bundles.follow(&containers);
        self.end_forsaken(daemon, &containers, now);
        self.orphans.look(&daemon.runtime, daemon.is_quiet());
        self.retry(daemon, now);
        if !daemon.may_leave() {
            self.idle_since = None;
            return false;
        }
        let stays = self.stays();
        now >= *self.idle_since.get_or_insert(now) + stays
    }

    /// How long a daemon stays that has nothing to stay for.
    pub fn stays(&self) -> Duration {
        if self.unwanted { LINGER } else { IDLE }
    }

    /// Somebody wanted it to stay at the last moment: the time begins anew.
    pub fn stay(&mut self) {
        self.idle_since = Some(Instant::now());
    }

    /// When something is due next; `None`: not before something happens.
    pub fn due(&self, daemon: &Daemon) -> Option<Instant> {
        let times = [
            self.idle_since.map(|since| since + self.stays()),
            self.trim_at,
            self.retry_at,
            self.forsaken.values().min().map(|since| *since + FORSAKEN),
            self.bundles.due(),
            self.orphans.due(),
            daemon.promise_ends(),
        ];
        times.into_iter().flatten().min()
    }

    /// Ends containers that containerd has forgotten. An end that fails is tried again after as long.
    fn end_forsaken(&mut self, daemon: &Arc<Daemon>, containers: &[Arc<Container>], now: Instant) {
        let forsaken: Vec<_> = containers.iter().filter(|c| c.is_forsaken()).collect();
        self.forsaken.retain(|id, _| forsaken.iter().any(|c| c.id == *id));
        for container in forsaken {
            let since = self.forsaken.entry(container.id.clone()).or_insert(now);
            if now >= *since + FORSAKEN {
                tracing::warn!(id = container.id, "containerd has removed its bundle: it is ended");
                *since = now;
                daemon.end_container(container.id.clone(), None);
            }
        }
    }

    /// Tries blocked clean-ups again, with a growing pause.
    fn retry(&mut self, daemon: &Arc<Daemon>, now: Instant) {
        let blocked = daemon.runtime.blocked();
        if blocked.is_empty() {
            (self.retry_at, self.pause) = (None, RETRY.0);
            return;
        }
        if now < *self.retry_at.get_or_insert(now + RETRY.0) {
            return;
        }
        self.pause = (self.pause * 2).min(RETRY.1);
        self.retry_at = Some(now + self.pause);
        for container in blocked {
            daemon.blocking(move |runtime| {
                let deadline = Instant::now() + fault::deadline("deadline.retry", RETRY_WAIT);
                if let Err(e) = runtime.retry(&container, deadline) {
                    tracing::warn!(id = container.id, error = e.chain(), "still blocked");
                }
            });
        }
    }
}
