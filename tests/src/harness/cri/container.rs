//! A container of a pod, as its file tells crictl.

use serde_json::{Value, json};

use super::{
    super::Image,
    crictl::Member,
    pod::{Pod, annotations},
};

/// How long the kernel's scheduler counts for a quota.
const PERIOD: u32 = 100_000;

/// A container.
#[derive(Clone, Debug)]
pub struct Container {
    pub(super) name: String,
    pub(super) attempt: u32,
    image: Image,
    command: Vec<String>,
    memory_mib: u64,
    cpus: f64,
    oom_score_adj: Option<i32>,
    annotations: Vec<(String, String)>,
    security: Value,
    target: Option<String>,
    more: Value,
}

impl Container {
    /// A container of this image with this command, which replaces the image's.
    pub fn new(name: &str, image: Image, command: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            attempt: 0,
            image,
            command: command.iter().map(|&word| word.to_owned()).collect(),
            memory_mib: 0,
            cpus: 0.0,
            oom_score_adj: None,
            annotations: Vec::new(),
            security: json!({}),
            target: None,
            more: json!({}),
        }
    }

    /// With this in its security context.
    #[must_use]
    pub fn security(mut self, name: &str, value: Value) -> Self {
        self.security[name] = value;
        self
    }

    /// In the pid namespace of this other container: a debug container.
    #[must_use]
    pub fn beside(mut self, target: &Member) -> Self {
        self.target = Some(target.id.clone());
        self
    }

    /// With this in its file: `stdin`, `tty`, `envs`, `mounts` and others.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.more[name] = value;
        self
    }

    /// The same in its Nth attempt: what a kubelet makes when it restarts a container.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// With this limit of memory.
    #[must_use]
    pub fn memory_mib(mut self, mib: u64) -> Self {
        self.memory_mib = mib;
        self
    }

    /// With a quota of so many CPUs.
    #[must_use]
    pub fn cpus(mut self, cpus: f64) -> Self {
        self.cpus = cpus;
        self
    }

    /// With this badness for the kernel's OOM killer.
    #[must_use]
    pub fn oom_score_adj(mut self, score: i32) -> Self {
        self.oom_score_adj = Some(score);
        self
    }

    /// With this annotation.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Its log, in the folder of its pod.
    pub(super) fn log(&self) -> String {
        format!("{}_{}.log", self.name, self.attempt)
    }

    /// Its file.
    pub(super) fn file(&self, pod: &Pod) -> Value {
        // As a kubelet writes it for a container without a limit.
        let mut resources = json!({"cpu_period": PERIOD, "cpu_quota": 0, "cpu_shares": 2});
        if self.memory_mib > 0 {
            resources["memory_limit_in_bytes"] = (self.memory_mib << 20).into();
        }
        if self.cpus > 0.0 {
            #[allow(clippy::cast_possible_truncation, reason = "a quota is a small number")]
            let quota = (self.cpus * f64::from(PERIOD)) as i64;
            resources["cpu_quota"] = quota.into();
        }
        if let Some(score) = self.oom_score_adj {
            resources["oom_score_adj"] = score.into();
        }
        let mut security = self.security.clone();
        security["namespace_options"] = pod.namespaces();
        if let Some(target) = &self.target {
            // NamespaceMode TARGET.
            security["namespace_options"]["pid"] = 3.into();
            security["namespace_options"]["target_id"] = target.as_str().into();
        }
        let mut file = json!({
            "metadata": {"name": self.name, "attempt": self.attempt},
            "image": {"image": self.image.name()},
            "command": self.command,
            "log_path": self.log(),
            "annotations": annotations(&self.annotations),
            "linux": {"resources": resources, "security_context": security},
        });
        for (name, value) in self.more.as_object().into_iter().flatten() {
            file[name] = value.clone();
        }
        file
    }
}
