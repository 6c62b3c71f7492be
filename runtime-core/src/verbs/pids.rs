//! Pids: the monitor, and whoever else lives in the container's leaf.

use std::collections::HashMap;

use host_cgroup::{Kernel, procs};

use crate::{Error, Runtime};

impl Runtime {
    /// The processes of a container, the one that containerd knows first: there as long as the container is, dead or
    /// alive. Waits for no verb.
    ///
    /// Beside those that were executed in an ordinary container later there is their exec id.
    pub fn pids(&self, id: &str) -> Result<Vec<(u32, Option<String>)>, Error> {
        let container = self.get(id)?;
        let (pid, cgroup, whole) = {
            let live = container.live();
            (live.pid, live.cgroup.clone(), live.whole.clone().filter(|_| live.exit.is_none()))
        };
        let execs: HashMap<u32, String> =
            container.execs().into_iter().map(|exec| (exec.snapshot().1, exec.id.clone())).collect();
        let mut pids = vec![(pid, None)];
        let in_whole = whole.map(|whole| whole.procs(&Kernel));
        match in_whole.or_else(|| cgroup.map(|plan| procs(&Kernel, &plan))) {
            Some(Ok(all)) => {
                let others = all.into_iter().filter(|other| *other != pid);
                pids.extend(others.map(|other| (other, execs.get(&other).cloned())));
            }
            // The first one is the answer that everybody depends on.
            Some(Err(e)) => tracing::debug!(id, error = %e, "the leaf was not read"),
            None => {}
        }
        Ok(pids)
    }
}
