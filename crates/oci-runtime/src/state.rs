//! `state`: how a container is.

use std::{path::PathBuf, time::Instant};

use serde::Deserialize;

use crate::{Error, Runtime};

/// How a container is, as the runtime sees it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct State {
    /// Its state.
    pub status: Status,
    /// The bundle that it was created from.
    pub bundle: PathBuf,
}

/// The states of the OCI specification, and `paused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// `create` has not finished.
    Creating,
    /// It can be started.
    Created,
    /// Its init runs. One that is about to end too, until it is a zombie.
    Running,
    /// It is frozen.
    Paused,
    /// Its init has ended.
    Stopped,
}

impl Runtime {
    /// Asks how a container is; [`Case::Absent`](crate::Case::Absent) if there is none.
    pub fn state(&self, id: &str, deadline: Instant) -> Result<State, Error> {
        let call = self.call("state", id)?;
        let runtime = call.runtime().to_owned();
        let said = call.run(deadline)?;
        serde_json::from_str(&said).map_err(|e| Error::Answer {
            runtime,
            verb: "state",
            id: id.to_owned(),
            problem: e.to_string(),
        })
    }
}
