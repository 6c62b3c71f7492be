//! What there is once in a pod: its interface, and the overhead that its RuntimeClass pays for. The first guest has it.
//!
//! A guest that had to do without goes on doing so when it is started anew, under the same name: else the order of
//! restarts would decide who answers at the pod's address, and a guest could not come back because another one has
//! taken its memory. A guest that comes when nobody has it - the one after an init container - was never denied it.

use std::sync::PoisonError;

use crate::{Runtime, container::Container};

/// What there is once in a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Share {
    /// Its interface.
    Interface,
    /// The memory for a monitor.
    Overhead,
}

impl Runtime {
    /// Whether this container, or one of its name before, had to do without.
    pub(crate) fn is_denied(&self, container: &Container, share: Share) -> bool {
        let Some(name) = container.live().name.clone() else { return false };
        self.denied.lock().unwrap_or_else(PoisonError::into_inner).contains(&(name, share))
    }

    /// It has to do without.
    pub(crate) fn deny(&self, container: &Container, share: Share) {
        if let Some(name) = container.live().name.clone() {
            self.denied.lock().unwrap_or_else(PoisonError::into_inner).insert((name, share));
        }
    }
}
