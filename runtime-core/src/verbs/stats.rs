//! Stats: what the container's leaf has used; after the exit, what it had used by then. Waits for no verb.

use host_cgroup::{Kernel, Stats, stats};

use crate::{Error, Runtime, container::Container};

impl Runtime {
    /// What a container uses now, or had used when it ended.
    pub fn stats(&self, id: &str) -> Result<Stats, Error> {
        let container = self.get(id)?;
        let (last, cgroup) = {
            let live = container.live();
            (live.last_stats.clone(), live.cgroup.clone())
        };
        match (last, cgroup) {
            (Some(last), _) => Ok(*last),
            (None, Some(plan)) => Ok(stats(&Kernel, &plan)?),
            (None, None) => Err(Error::NotFound { id: id.to_owned() }),
        }
    }

    /// Takes the last sample, once: the leaf goes with the container's clean-up, its counters are asked for until the
    /// container is deleted.
    pub(crate) fn last_stats(&self, container: &Container) -> Option<Stats> {
        let (last, cgroup) = {
            let live = container.live();
            (live.last_stats.clone(), live.cgroup.clone())
        };
        if let Some(last) = last {
            return Some(*last);
        }
        match stats(&Kernel, &cgroup?) {
            Ok(sample) => {
                container.live().last_stats = Some(Box::new(sample.clone()));
                Some(sample)
            }
            Err(e) => {
                tracing::warn!(id = container.id, error = %e, "the last sample of its usage was not taken");
                None
            }
        }
    }
}
