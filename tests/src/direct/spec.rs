//! The config.json of a bundle, as ctr writes it, and what a test changes in it.

use std::path::Path;

use serde_json::{Value, json};

/// A spec that can be changed before the bundle is made.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The JSON.
    pub json: Value,
}

impl Spec {
    /// What the tiny guest says first when it was told `words`.
    pub fn greeting(words: &str) -> String {
        // As Unikraft has it: the program's name, and its own arguments behind the dashes.
        format!("tiny: tiny -- {words}\n")
    }

    /// The tiny guest, told by these words what to do, in namespaces of its own.
    pub fn tiny(words: &str) -> Self {
        let args: Vec<&str> = std::iter::once("tiny").chain(words.split_whitespace()).collect();
        let json = json!({
            "ociVersion": "1.1.0",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": args,
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "cwd": "/",
                "capabilities": {"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]},
                "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
                "noNewPrivileges": true,
            },
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime"]},
            ],
            "annotations": {
                "com.urunc.unikernel.unikernelType": "unikraft",
                "com.urunc.unikernel.binary": "/kernel",
            },
            "linux": {
                "resources": {"devices": [{"allow": false, "access": "rwm"}]},
                "namespaces": [
                    {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"},
                ],
                "maskedPaths": ["/proc/kcore"],
            },
        });
        Self { json }
    }

    /// The tiny guest as a Linux one with an initrd, which it does not look at; told by these words what to do.
    pub fn with_initrd(words: &str) -> Self {
        let args: Vec<&str> = std::iter::once("/init").chain(words.split_whitespace()).collect();
        Self::tiny(words)
            .key("unikernelType", "linux")
            .key("initrd", "/initrd")
            .edit(|s| s["process"]["args"] = args.into())
    }

    /// Sets an annotation.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.json["annotations"][key] = value.into();
        self
    }

    /// Sets an annotation of the image contract.
    #[must_use]
    pub fn key(self, key: &str, value: &str) -> Self {
        self.annotation(&format!("com.urunc.unikernel.{key}"), value)
    }

    /// As a member of a pod, or its sandbox.
    #[must_use]
    pub fn in_pod(self, sandbox: &str) -> Self {
        self.annotation("io.kubernetes.cri.sandbox-id", sandbox)
    }

    /// Sets the memory limit in bytes.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.json["linux"]["resources"]["memory"] = json!({"limit": bytes});
        self
    }

    /// Without namespaces but for the mount namespace.
    #[must_use]
    pub fn on_the_host(mut self) -> Self {
        self.json["linux"]["namespaces"] = json!([{"type": "mount"}]);
        self
    }

    /// Joins the pid namespace at this path instead of making one.
    #[must_use]
    pub fn join_pid_namespace(mut self, path: &str) -> Self {
        self.json["linux"]["namespaces"] = json!([{"type": "pid", "path": path}, {"type": "mount"}]);
        self
    }

    /// Joins the network namespace at this path instead of making one.
    #[must_use]
    pub fn join_network(mut self, path: &Path) -> Self {
        let namespaces = self.json["linux"]["namespaces"].as_array_mut().expect("a list of namespaces");
        namespaces.retain(|ns| ns["type"] != "network");
        namespaces.push(json!({"type": "network", "path": path}));
        self
    }

    /// A pod's sandbox.
    #[must_use]
    pub fn sandbox() -> Self {
        let mut spec = Self::tiny("").annotation("io.kubernetes.cri.container-type", "sandbox");
        spec.json["process"]["args"] = json!(["/pause"]);
        spec.json["hostname"] = "the-pod".into();
        spec
    }

    /// A member of a pod, whose sandbox has this pid.
    #[must_use]
    pub fn member_of(self, sandbox: &str, pid: u32) -> Self {
        let join = |kind: &str, file: &str| json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")});
        self.in_pod(sandbox).annotation("io.kubernetes.cri.container-type", "container").edit(|s| {
            s["linux"]["namespaces"] = json!([
                {"type": "pid"}, {"type": "mount"}, join("network", "net"), join("ipc", "ipc"), join("uts", "uts")
            ]);
        })
    }

    /// Changes anything else.
    #[must_use]
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.json);
        self
    }
}
