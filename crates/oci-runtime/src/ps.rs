//! `ps`: who is in a container.

use std::time::Instant;

use crate::{Error, Runtime};

impl Runtime {
    /// The pids of a container's processes in our own pid namespace, to be shown: each may be dead already. (crun 1.8
    /// crashes, which is an error here, if there are none.)
    pub fn ps(&self, id: &str, deadline: Instant) -> Result<Vec<i32>, Error> {
        let mut call = self.call("ps", id)?;
        call.command().args(["--format", "json"]);
        let runtime = call.runtime().to_owned();
        let said = call.run(deadline)?;
        // runc says `null` for none.
        let pids: Result<Option<Vec<i32>>, _> = serde_json::from_str(said.trim());
        pids.map(Option::unwrap_or_default).map_err(|e| Error::Answer {
            runtime,
            verb: "ps",
            id: id.to_owned(),
            problem: e.to_string(),
        })
    }
}
