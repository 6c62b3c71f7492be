//! `start`: a created container's init becomes the program that it is for.

use std::time::Instant;

use crate::{Error, Runtime};

impl Runtime {
    /// Starts a created container. When it returns, init may have ended already.
    pub fn start(&self, id: &str, deadline: Instant) -> Result<(), Error> {
        let mut call = self.call("start", id)?;
        call.dies_with_us();
        call.run(deadline).map(drop)
    }
}
