//! The shim's daemons behind the pods.

use std::fs;

use serde_json::Value;

use crate::direct::Proc;

use super::{crictl::Sandbox, node::Node};

impl Node {
    /// The daemon of a pod.
    #[track_caller]
    pub fn daemon(&self, sandbox: &Sandbox) -> Proc {
        self.containerd().daemon(&sandbox.id)
    }

    /// The daemons that live, by the pod files.
    pub fn daemons(&self) -> Vec<Proc> {
        let pods = fs::read_dir(self.containerd().records().join(".pods")).into_iter().flatten().flatten();
        let pods = pods.filter_map(|e| serde_json::from_slice::<Value>(&fs::read(e.path()).ok()?).ok());
        let pids = pods.filter_map(|pod| pod["daemon"]["pid"].as_i64());
        let pids = pids.filter_map(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 1);
        pids.filter_map(Proc::find).collect()
    }
}
