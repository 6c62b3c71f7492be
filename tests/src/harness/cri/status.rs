//! What crictl tells of pods and containers.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::direct::Proc;

use super::{
    super::BOOT,
    crictl::{Member, Sandbox},
    node::Node,
};

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its status.
    pub code: i64,
    /// `Completed`, `Error`, `OOMKilled`, `StartError` and others.
    pub reason: String,
    /// What else is said.
    pub message: String,
    /// When, in nanoseconds since 1970.
    pub finished: i128,
}

impl Node {
    /// `pods`, all of them.
    #[track_caller]
    pub fn pods(&self) -> Vec<Value> {
        list(&self.json(&["pods", "-o", "json"])["items"])
    }

    /// `ps`, all of them.
    #[track_caller]
    pub fn ps(&self) -> Vec<Value> {
        list(&self.json(&["ps", "-a", "-o", "json"])["containers"])
    }

    /// `inspect`.
    #[track_caller]
    pub fn inspect(&self, member: &Member) -> Value {
        self.json(&["inspect", &member.id])
    }

    /// `inspectp`.
    #[track_caller]
    pub fn inspectp(&self, sandbox: &Sandbox) -> Value {
        self.json(&["inspectp", &sandbox.id])
    }

    /// The process of a pod's sandbox.
    #[track_caller]
    pub fn sandbox(&self, sandbox: &Sandbox) -> Proc {
        process(&self.inspectp(sandbox))
    }

    /// The process of a container.
    #[track_caller]
    pub fn member(&self, member: &Member) -> Proc {
        process(&self.inspect(member))
    }

    /// The addresses of a pod, IPv4 first.
    #[track_caller]
    pub fn addresses(&self, sandbox: &Sandbox) -> Vec<String> {
        let network = &self.inspectp(sandbox)["status"]["network"];
        let more = network["additionalIps"].as_array().cloned().unwrap_or_default();
        let all = std::iter::once(network["ip"].clone()).chain(more.iter().map(|ip| ip["ip"].clone()));
        all.filter_map(|ip| Some(ip.as_str()?.to_owned())).filter(|ip| !ip.is_empty()).collect()
    }

    /// The state of a pod: `SANDBOX_READY` or `SANDBOX_NOTREADY`.
    #[track_caller]
    pub fn pod_state(&self, sandbox: &Sandbox) -> String {
        self.inspectp(sandbox)["status"]["state"].as_str().unwrap_or_default().to_owned()
    }

    /// The state of a container: `CONTAINER_RUNNING`, `CONTAINER_EXITED` and others.
    #[track_caller]
    pub fn state(&self, member: &Member) -> String {
        self.inspect(member)["status"]["state"].as_str().unwrap_or_default().to_owned()
    }

    /// How a container ended; `None`: it has not.
    #[track_caller]
    pub fn exit(&self, member: &Member) -> Option<Exit> {
        let status = self.inspect(member)["status"].take();
        let text = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
        (text("state") == "CONTAINER_EXITED").then(|| Exit {
            code: status["exitCode"].as_i64().unwrap_or(0),
            reason: text("reason"),
            message: text("message"),
            finished: nanoseconds(&text("finishedAt")),
        })
    }

    /// Waits for the end of a container.
    #[track_caller]
    pub fn wait_for_exit(&self, member: &Member) -> Exit {
        let began = Instant::now();
        loop {
            if let Some(exit) = self.exit(member) {
                return exit;
            }
            let waited = began.elapsed();
            assert!(waited < BOOT, "{} has not ended: {}", member.id, self.inspect(member));
            // What takes long is not slowed down by being looked at.
            std::thread::sleep((waited / 20).clamp(Duration::from_millis(50), Duration::from_secs(2)));
        }
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let done = self.call(args).expect(0);
        serde_json::from_slice(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done}"))
    }
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

#[track_caller]
fn process(told: &Value) -> Proc {
    let pid = told["info"]["pid"].as_i64().unwrap_or(0);
    assert!(pid > 1, "no pid is told: {told}");
    Proc::of(i32::try_from(pid).unwrap())
}

/// A time as crictl writes it.
fn nanoseconds(text: &str) -> i128 {
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};
    OffsetDateTime::parse(text, &Rfc3339).map_or(0, OffsetDateTime::unix_timestamp_nanos)
}
