//! A pod, as its file tells crictl.

use std::path::Path;

use serde_json::{Value, json};

/// The handler in containerd's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// Ours.
    Urunc,
    /// Ordinary containers, to compare with.
    Runc,
}

impl Handler {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Urunc => "urunc",
            Self::Runc => "runc",
        }
    }
}

/// Whose namespace of a kind a container gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// The pod's.
    Pod,
    /// One of its own.
    Own,
    /// The node's.
    Node,
}

impl Share {
    fn number(self) -> u32 {
        match self {
            Self::Pod => 0,
            Self::Own => 1,
            Self::Node => 2,
        }
    }
}

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    pub(super) name: String,
    pub(super) handler: Handler,
    network: Share,
    pid: Share,
    ipc: Share,
    annotations: Vec<(String, String)>,
    sysctls: Vec<(String, String)>,
    privileged: bool,
}

impl Pod {
    /// A pod of the handler `urunc` with a network and ipc namespace, and a pid namespace for each of its containers:
    /// what a kubelet asks for.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            handler: Handler::Urunc,
            network: Share::Pod,
            pid: Share::Own,
            ipc: Share::Pod,
            annotations: Vec::new(),
            sysctls: Vec::new(),
            privileged: false,
        }
    }

    /// With this handler.
    #[must_use]
    pub fn handler(mut self, handler: Handler) -> Self {
        self.handler = handler;
        self
    }

    /// With this network.
    #[must_use]
    pub fn network(mut self, share: Share) -> Self {
        self.network = share;
        self
    }

    /// With this pid namespace.
    #[must_use]
    pub fn pid(mut self, share: Share) -> Self {
        self.pid = share;
        self
    }

    /// With this ipc namespace.
    #[must_use]
    pub fn ipc(mut self, share: Share) -> Self {
        self.ipc = share;
        self
    }

    /// Which privileged containers may be in.
    #[must_use]
    pub fn privileged(mut self) -> Self {
        self.privileged = true;
        self
    }

    /// With this annotation.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this kernel parameter.
    #[must_use]
    pub fn sysctl(mut self, name: &str, value: &str) -> Self {
        self.sysctls.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Its file.
    pub(super) fn file(&self, namespace: &str, parent: &str, logs: &Path) -> Value {
        let mut file = json!({
            "metadata": {
                "name": self.name,
                "namespace": namespace,
                "uid": format!("{namespace}-{}", self.name),
                "attempt": 0,
            },
            "log_directory": logs,
            "labels": {"test": namespace},
            "annotations": annotations(&self.annotations),
            "linux": {
                "cgroup_parent": parent,
                "sysctls": annotations(&self.sysctls),
                "security_context": {
                    "namespace_options": self.namespaces(),
                    "privileged": self.privileged,
                },
            },
        });
        // A pod on the host's network has the host's name.
        if self.network != Share::Node {
            file["hostname"] = self.name.as_str().into();
        }
        file
    }

    /// They must be the same for the pod and its containers. crictl's default for pid is the pod's, not a kubelet's.
    pub(super) fn namespaces(&self) -> Value {
        json!({"network": self.network.number(), "pid": self.pid.number(), "ipc": self.ipc.number()})
    }
}

pub(super) fn annotations(pairs: &[(String, String)]) -> Value {
    pairs.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect()
}
