//! Leaving: under the pod lock, so that no `start` can promise an address that is about to vanish.

use std::{
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use record_store::Lock;
use runtime_core::{owner::Owner, pod::Pod};
use rustix::net::{Shutdown, shutdown};
use tokio::time::sleep;
use ttrpc::asynchronous::Server;

use crate::{daemon::Daemon, error::Error};

/// How long a `start` may hold the pod lock before the daemon stays for now.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// What a leaving daemon takes down.
pub struct Leaving {
    /// The pod lock and file.
    pub pod: Pod,
    /// Our owner lock, until we have left: a pod file of another instance is not ours.
    pub owner: Mutex<Option<Owner>>,
    /// A copy of the listener.
    pub listener: OwnedFd,
}

impl Leaving {
    /// Leaves if there still is nothing to stay for once the pod lock is held. Whether it left.
    pub async fn if_still(&self, server: &mut Server, daemon: &Daemon) -> Result<bool, Error> {
        self.leave(server, || {
            daemon.set_leaving(true);
            let leaves = daemon.may_leave();
            daemon.set_leaving(leaves);
            leaves
        })
        .await
    }

    /// Leaves whatever there is. Whoever holds the pod lock for too long finds our owner lock free, and removes what
    /// we leave: `false`.
    pub async fn now(&self, server: &mut Server) -> Result<bool, Error> {
        self.leave(server, || true).await
    }

    async fn leave(&self, server: &mut Server, leaves: impl Fn() -> bool) -> Result<bool, Error> {
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            // The lock is never held across an await: a `start` that holds it pings us, and must be answered.
            fault::point("leave.begins").map_err(runtime_core::Error::from)?;
            if let Ok(lock) = self.pod.lock(Instant::now()) {
                fault::point("leave.locked").map_err(runtime_core::Error::from)?;
                if !leaves() {
                    return Ok(false);
                }
                fault::point("leave.decided").map_err(runtime_core::Error::from)?;
                self.take_down(lock)?;
                fault::point("leave.left").map_err(runtime_core::Error::from)?;
                break;
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            sleep(Duration::from_millis(2)).await;
        }
        server.stop_listen().await;
        Ok(true)
    }

    /// Nobody can connect any more, then nobody can find us any more.
    fn take_down(&self, lock: Lock) -> Result<(), Error> {
        shutdown(&self.listener, Shutdown::Both).map_err(Error::system("close its listener"))?;
        fault::point("leave.closed").map_err(runtime_core::Error::from)?;
        let Some(owner) = self.owner.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        if let Some(file) = self.pod.read()
            && file.owner == owner.instance()
        {
            self.pod.remove(&file, lock)?;
        }
        fault::point("leave.nameless").map_err(runtime_core::Error::from)?;
        // With it goes the last file of ours: whatever happens to this process from here on leaves nothing.
        Ok(owner.end()?)
    }
}
