//! `features`: what a runtime can do.

use std::time::Instant;

use crate::{Error, Runtime};

impl Runtime {
    /// The JSON of the OCI `features`. Younger than the other verbs (runc 1.1, crun 1.8.7): others refuse it
    /// ([`Case::Other`](crate::Case::Other)).
    pub fn features(&self, deadline: Instant) -> Result<String, Error> {
        self.call("features", "")?.run(deadline)
    }
}
