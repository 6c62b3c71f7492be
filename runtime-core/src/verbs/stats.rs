//! Stats: what the container's leaf has used; after the exit, what it had used by then. Waits for no verb.

use host_cgroup::{Kernel, Stats, stats, stats_of_whole};

use crate::{Error, Runtime, container::Container};

impl Runtime {
    /// What a container uses now, or had used when it ended.
    pub fn stats(&self, id: &str) -> Result<Stats, Error> {
        let container = self.get(id)?;
        let last = container.live().last_stats.clone();
        match last {
            Some(last) => Ok(*last),
            None => sample(&container)?.ok_or_else(|| Error::NotFound { id: id.to_owned() }),
        }
    }

    /// Takes the last sample, once: the leaf goes with the container's clean-up, its counters are asked for until the
    /// container is deleted.
    pub(crate) fn last_stats(&self, container: &Container) -> Option<Stats> {
        let last = container.live().last_stats.clone();
        if let Some(last) = last {
            return Some(*last);
        }
        match sample(container) {
            Ok(None) => None,
            Ok(Some(sample)) => {
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

/// What is used now: of the leaf, or of where an ordinary container's first process is.
fn sample(container: &Container) -> Result<Option<Stats>, Error> {
    let (cgroup, whole) = {
        let live = container.live();
        (live.cgroup.clone(), live.whole.clone())
    };
    Ok(match (cgroup, whole) {
        (Some(leaf), _) => Some(stats(&Kernel, &leaf)?),
        (None, Some(whole)) => Some(stats_of_whole(&Kernel, &whole)?),
        (None, None) => None,
    })
}
