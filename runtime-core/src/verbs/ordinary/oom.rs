//! The kernel kills in an ordinary container that goes on: containerd is told then, not only at its end.

use host_cgroup::OomWatch;

use crate::{Runtime, container::Container, events::TaskEvent};

impl Runtime {
    /// Word of the kernel about a container's memory. `None`: it is a guest, whose end tells it; or there is none to be
    /// had, and the end tells it, too.
    pub fn watch_memory(&self, container: &Container) -> Option<OomWatch> {
        let whole = container.live().whole.clone()?;
        OomWatch::new(&whole).unwrap_or_else(|e| {
            tracing::warn!(id = container.id, error = %e, "that it runs out of memory is told at its end only");
            None
        })
    }

    /// The kernel has killed so many of a container's processes: containerd is told if it does not know. `false`: it
    /// does. Waits for the verb at work: a Start is told first.
    pub fn tell_oom(&self, container: &Container, kills: u64) -> bool {
        let _work = container.work();
        let mut live = container.live();
        if live.exit_told || kills <= live.oom_told {
            return false;
        }
        live.oom_told = kills;
        tracing::info!(id = container.id, kills, "the kernel has killed in it for want of memory");
        self.events.publish(TaskEvent::Oom { id: container.id.clone() });
        true
    }
}
