//! Bundles that are watched: containerd removes one with its task, or without (containerd #14145), and calls nothing
//! for it afterwards. The kernel tells when something in a bundle goes, so that a daemon need not look.
//!
//! It owns an inotify descriptor. What was told is only that it is worth looking; a bundle that cannot be watched is
//! looked at every now and then.

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use runtime_core::container::Container;
use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::read,
};
use tokio::io::unix::AsyncFd;

/// A bundle goes file by file, and its folder last, of which nobody tells while something of it is open. So for this
/// long it is looked at after something was told.
const WORTH_LOOKING: Duration = Duration::from_secs(60);
/// How often, then.
const SOON: Duration = Duration::from_secs(2);
/// How often one is looked at that cannot be watched.
const NOW_AND_THEN: Duration = Duration::from_secs(30);

/// The watched bundles.
pub struct Bundles {
    told: Option<AsyncFd<OwnedFd>>,
    /// By container and transaction: its watch; `None`: it cannot be watched.
    watched: HashMap<(String, Option<String>), Option<i32>>,
    /// Until when something is to be expected.
    alarmed: Option<Instant>,
}

impl Bundles {
    /// Without any. A host that has no inotify descriptor left is no error.
    pub fn new() -> Self {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(io::Error::from);
        // SAFETY: an OwnedFd is one descriptor for all of its life, and gives the same number each time it is asked.
        let told = fd.and_then(|fd| Ok(unsafe { AsyncFd::register(fd) }?));
        if let Err(e) = &told {
            tracing::warn!(error = %e, "bundles cannot be watched: they are looked at now and then");
        }
        Self { told: told.ok(), watched: HashMap::new(), alarmed: None }
    }

    /// Watches the bundles of these containers and no others.
    pub fn follow(&mut self, containers: &[Arc<Container>]) {
        let Some(fd) = self.told.as_ref().map(AsyncFd::get_ref) else { return };
        let key = |c: &Container| (c.id.clone(), c.txid());
        self.watched.retain(|known, watch| {
            let is_there = containers.iter().any(|c| key(c) == *known);
            if let Some(watch) = watch.filter(|_| !is_there) {
                // It goes with its folder, too.
                inotify::remove_watch(fd, watch).ok();
            }
            is_there
        });
        for container in containers {
            self.watched.entry(key(container)).or_insert_with(|| {
                let what = WatchFlags::DELETE
                    | WatchFlags::DELETE_SELF
                    | WatchFlags::MOVE_SELF
                    | WatchFlags::ONLYDIR;
                let watch = inotify::add_watch(fd, &container.bundle, what);
                watch.inspect_err(|e| tracing::debug!(id = container.id, error = %e, "not watched")).ok()
            });
        }
    }

    /// Waits until something was told, for ever if nothing can be.
    pub async fn changed(&mut self) {
        let Some(fd) = &self.told else { return std::future::pending().await };
        match fd.readable().await {
            Ok(mut ready) => {
                let mut events = [0u8; 4096];
                // What exactly was told does not matter.
                while matches!(read(fd.get_ref(), &mut events), Ok(n) if n > 0) {}
                ready.clear_ready();
            }
            Err(e) => {
                tracing::warn!(error = %e, "bundles cannot be watched any more");
                self.told = None;
            }
        }
        self.alarmed = Some(Instant::now() + WORTH_LOOKING);
    }

    /// When the bundles are to be looked at next; `None`: not before something is told.
    pub fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        let alarmed = self.alarmed.filter(|until| now < *until).map(|_| now + SOON);
        let blind = self.told.is_none() || self.watched.values().any(Option::is_none);
        alarmed.or_else(|| blind.then_some(now + NOW_AND_THEN))
    }
}
