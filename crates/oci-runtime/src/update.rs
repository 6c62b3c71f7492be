//! `update`: other limits for a container.

use std::time::Instant;

use crate::{Error, Runtime};

impl Runtime {
    /// Sets the limits that `resources` has: the JSON of OCI `linux.resources`. What it does not name stays.
    pub fn update(&self, id: &str, resources: &[u8], deadline: Instant) -> Result<(), Error> {
        let mut call = self.call("update", id)?;
        call.part("--resources", resources)?;
        call.run(deadline).map(drop)
    }
}
