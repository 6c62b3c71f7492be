//! The verbs during which something goes wrong: how they are led up to, and called.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use crate::direct::{Bench, Bundle, Client, Failure, Pending, PodNetwork, Spec};

/// The id of what is executed.
const EXEC: &str = "e1";

/// A verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Create of a guest in a pod's network.
    Create,
    /// Start of a guest whose network was not there in Create.
    Start,
    /// Delete of a guest that runs in a pod's network and was killed.
    Delete,
    /// Create of a pod's sandbox.
    CreateSandbox,
    /// Its Start.
    StartSandbox,
    /// Create of an ordinary container.
    CreateOrdinary,
    /// Its Start.
    StartOrdinary,
    /// Its Delete, when it was killed.
    DeleteOrdinary,
    /// Start of an exec in it.
    ExecOrdinary,
}

/// A call of one of them.
pub enum Call {
    /// Of Create.
    Create(Pending<containerd_shim_protos::api::CreateTaskResponse>),
    /// Of Start.
    Start(Pending<containerd_shim_protos::api::StartResponse>),
    /// Of Delete.
    Delete(Pending<containerd_shim_protos::api::DeleteResponse>),
}

impl Call {
    /// Waits for the answer.
    pub fn wait(self) -> Result<(), Failure> {
        match self {
            Self::Create(pending) => pending.wait().map(drop),
            Self::Start(pending) => pending.wait().map(drop),
            Self::Delete(pending) => pending.wait().map(drop),
        }
    }
}

impl Verb {
    /// All.
    pub const ALL: [Self; 9] = [
        Self::Create,
        Self::Start,
        Self::Delete,
        Self::CreateSandbox,
        Self::StartSandbox,
        Self::CreateOrdinary,
        Self::StartOrdinary,
        Self::DeleteOrdinary,
        Self::ExecOrdinary,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Delete => "delete",
            Self::CreateSandbox => "create-sandbox",
            Self::StartSandbox => "start-sandbox",
            Self::CreateOrdinary => "create-ordinary",
            Self::StartOrdinary => "start-ordinary",
            Self::DeleteOrdinary => "delete-ordinary",
            Self::ExecOrdinary => "exec-ordinary",
        }
    }

    /// The fault file's name of its deadline.
    pub(super) fn deadline(self) -> &'static str {
        match self {
            Self::Create | Self::CreateSandbox | Self::CreateOrdinary => "deadline.create",
            Self::Start | Self::StartSandbox | Self::StartOrdinary => "deadline.start",
            Self::Delete | Self::DeleteOrdinary => "deadline.delete",
            Self::ExecOrdinary => "deadline.exec",
        }
    }

    /// Whether there is something to undo from its beginning on.
    pub(super) fn has_made_something(self) -> bool {
        !matches!(self, Self::Create | Self::CreateSandbox | Self::CreateOrdinary)
    }

    /// Whether it is a Delete.
    pub(super) fn is_delete(self) -> bool {
        matches!(self, Self::Delete | Self::DeleteOrdinary)
    }

    /// Whether it is one of an ordinary container.
    pub(super) fn is_ordinary(self) -> bool {
        matches!(self, Self::CreateOrdinary | Self::StartOrdinary | Self::DeleteOrdinary | Self::ExecOrdinary)
    }

    /// Whether it makes what it makes in steps.
    pub(super) fn has_steps(self) -> bool {
        !self.is_delete() && self != Self::ExecOrdinary
    }

    /// Whether the container runs behind it, whatever becomes of it.
    pub(super) fn keeps_running(self) -> bool {
        self == Self::ExecOrdinary
    }

    /// A bundle for it.
    pub(super) fn bundle(self, bench: &Bench, network: &PodNetwork, id: &str) -> Bundle {
        let spec = match self {
            Self::CreateSandbox | Self::StartSandbox => Spec::sandbox(),
            _ if self.is_ordinary() => Spec::ordinary(&["/bin/sleep", "1000"]),
            // Every step that there is.
            Self::Create => Spec::tiny("hang").edit(|s| {
                let hook = serde_json::json!([{"path": "/bin/true", "args": ["true"]}]);
                s["hooks"] = serde_json::json!({"prestart": hook, "createRuntime": hook, "poststop": hook});
            }),
            _ => Spec::tiny("hang"),
        };
        let spec = spec.join_network(&network.path());
        let mut bundle = match self.is_ordinary() {
            true => bench.ordinary(id, &spec),
            false => bench.bundle(id, &spec),
        }
        .without_stdio();
        if matches!(self, Self::Create | Self::Delete | Self::CreateOrdinary | Self::DeleteOrdinary) {
            bundle.stdout = format!("binary://{}", logger(bench).display());
            bundle.stderr.clone_from(&bundle.stdout);
        }
        bundle
    }

    /// All that comes before the call; what is in the pod's network without us.
    #[track_caller]
    pub(super) fn prepare(self, client: &Client, bundle: &Bundle, network: &PodNetwork) -> String {
        // As Docker does: its network comes only between Create and Start.
        if self == Self::Start {
            client.create(bundle).unwrap();
        }
        network.plug();
        let clean = network.state();
        match self {
            Self::Create | Self::Start | Self::CreateSandbox | Self::CreateOrdinary => {}
            Self::StartSandbox | Self::StartOrdinary => drop(client.create(bundle).unwrap()),
            Self::Delete | Self::DeleteOrdinary => {
                client.create(bundle).unwrap();
                client.start(&bundle.id).unwrap();
                client.kill(&bundle.id, 9).unwrap();
                client.wait(&bundle.id).unwrap();
            }
            Self::ExecOrdinary => {
                client.create(bundle).unwrap();
                client.start(&bundle.id).unwrap();
                client.exec_without_stdio(&bundle.id, EXEC, &["/bin/sleep", "1000"]).unwrap();
            }
        }
        clean
    }

    /// Calls it.
    pub(super) fn call(self, client: &Client, bundle: &Bundle) -> Call {
        match self {
            Self::Create | Self::CreateSandbox | Self::CreateOrdinary => {
                Call::Create(client.send_create(bundle, std::time::Duration::from_secs(30)))
            }
            Self::Start | Self::StartSandbox | Self::StartOrdinary => {
                Call::Start(client.send_start(&bundle.id))
            }
            Self::Delete | Self::DeleteOrdinary => Call::Delete(client.send_delete(&bundle.id)),
            Self::ExecOrdinary => Call::Start(client.send_start_of(&bundle.id, EXEC)),
        }
    }
}

/// A logger that gets ready, reads, and ends with its input.
fn logger(bench: &Bench) -> PathBuf {
    let path = bench.scratch().join("logger");
    fs::write(&path, "#!/bin/sh\nexec 5>&-\nexec cat <&3 >/dev/null\n").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    path
}
