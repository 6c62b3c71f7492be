//! What the shim's files say: run directories, plans, daemons.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::direct::{Proc, unseal};

use super::Containerd;

impl Containerd {
    /// The run directory of a container.
    pub fn run_directory(&self, id: &str) -> PathBuf {
        self.records().join(self.namespace()).join(id)
    }

    /// Whether neither containerd nor the shim has a file of a container: no bundle, no run directory.
    pub fn has_no_files(&self, id: &str) -> bool {
        !self.bundle(id).exists() && !self.run_directory(id).exists()
    }

    /// The record of a container; `None`: there is none.
    pub fn record(&self, id: &str) -> Option<Value> {
        let text = fs::read(self.run_directory(id).join("record.json")).ok()?;
        Some(unseal(&text).expect("a record is always whole"))
    }

    /// The state in the record of a container; `None`: there is no record.
    pub fn state(&self, id: &str) -> Option<String> {
        Some(self.record(id)?["state"].as_str()?.to_owned())
    }

    /// The plan of a guest.
    #[track_caller]
    pub fn plan(&self, id: &str) -> Value {
        let path = self.run_directory(id).join("plan.json");
        let text = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut plan: Value = serde_json::from_slice(&text).unwrap();
        plan["what"]["guest"].take()
    }

    /// The daemon that serves a container which belongs to no pod.
    #[track_caller]
    pub fn daemon(&self, id: &str) -> Proc {
        let pods = fs::read_dir(self.records().join(".pods")).unwrap().flatten();
        let pod = pods.filter_map(|e| serde_json::from_slice::<Value>(&fs::read(e.path()).ok()?).ok());
        let pod = pod.into_iter().find(|pod| pod["group"] == id && pod["namespace"] == self.namespace());
        let pid = pod.as_ref().and_then(|pod| pod["daemon"]["pid"].as_i64());
        let pid = pid.unwrap_or_else(|| panic!("no pod file tells the daemon of {id}: {pod:?}"));
        Proc::of(i32::try_from(pid).unwrap())
    }
}
