//! `kill`: a signal for a container.

use std::time::Instant;

use crate::{Error, Runtime};

impl Runtime {
    /// Sends a signal, by its number, to the init of a container, or to all its processes. It is sent when this
    /// returns; nobody need be dead yet. To a paused container it is sent too, and on cgroup v1 takes effect when that
    /// is resumed.
    ///
    /// An init that has ended is [`Case::NotRunning`](crate::Case::NotRunning) or
    /// [`Case::Finished`](crate::Case::Finished); with `all` that is no error.
    pub fn kill(&self, id: &str, signal: u32, all: bool, deadline: Instant) -> Result<(), Error> {
        let mut call = self.call("kill", id)?;
        if all {
            call.command().arg("--all");
        }
        call.command().arg(id).arg(signal.to_string());
        call.run_as_it_is(deadline).map(drop)
    }
}
