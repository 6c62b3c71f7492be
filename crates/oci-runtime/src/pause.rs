//! `pause`: all processes of a container are frozen.

use std::time::Instant;

use crate::{Error, Runtime};

impl Runtime {
    /// Freezes a container. runc refuses one that is paused already ([`Case::NotRunning`](crate::Case::NotRunning)),
    /// crun does not.
    pub fn pause(&self, id: &str, deadline: Instant) -> Result<(), Error> {
        let mut call = self.call("pause", id)?;
        // It must not freeze what a recovery is about to kill: on cgroup v1 what is frozen does not die.
        call.dies_with_us();
        call.run(deadline).map(drop)
    }
}
