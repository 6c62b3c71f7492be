//! Pids: the monitor, and whoever else lives in the container's leaf.

use host_cgroup::{Kernel, procs};

use crate::{Error, Runtime};

impl Runtime {
    /// The processes of a container, the one that containerd knows first: there as long as the container is, dead or
    /// alive. Waits for no verb.
    pub fn pids(&self, id: &str) -> Result<Vec<u32>, Error> {
        let container = self.get(id)?;
        let (pid, cgroup) = {
            let live = container.live();
            (live.pid, live.cgroup.clone())
        };
        let mut pids = vec![pid];
        match cgroup.map(|plan| procs(&Kernel, &plan)) {
            Some(Ok(all)) => pids.extend(all.into_iter().filter(|other| *other != pid)),
            // The first one is the answer that everybody depends on.
            Some(Err(e)) => tracing::debug!(id, error = %e, "the leaf was not read"),
            None => {}
        }
        Ok(pids)
    }
}
