//! `resume`: a paused container goes on.

use std::time::Instant;

use crate::{Error, Runtime};

impl Runtime {
    /// Lets a paused container go on. runc refuses one that is not paused
    /// ([`Case::WrongState`](crate::Case::WrongState)), crun does not.
    pub fn resume(&self, id: &str, deadline: Instant) -> Result<(), Error> {
        self.call("resume", id)?.run(deadline).map(drop)
    }
}
