//! `delete`: what the runtime has of a container goes.

use std::time::Instant;

use crate::{Error, Runtime};

impl Runtime {
    /// Deletes a container that is stopped, or created, whose init is killed: what its init has left behind is
    /// killed, its cgroup and its state go, its poststop hooks run.
    ///
    /// With `force` also one that runs; that there is none is no error then. Not for the normal way: a newer runc waits
    /// 100 ms in it, if only for a container that has ended.
    pub fn delete(&self, id: &str, force: bool, deadline: Instant) -> Result<(), Error> {
        let mut call = self.call("delete", id)?;
        if force {
            call.command().arg("--force");
        }
        call.run(deadline).map(drop)
    }
}
