//! The request: everything that spec, annotations and the operator's configuration decide, as one pure value. It
//! touches nothing, so its errors leave nothing behind.

mod kind;
mod outline;
mod sysctl;
mod unlimited;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use host_cgroup::{Amount, CgroupsPath, CpuQuota, Limits};
use host_mount::RootfsMount;
use oci_spec::runtime::{LinuxNamespaceType, LinuxResources, Spec};
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    contract::{Keys, invalid, invalid_name},
    hooks::Hooks,
    layout::is_identifier,
    record::StdioPaths,
};

pub use kind::{Told, told};
pub use outline::Outline;
pub use sysctl::Sysctl;
pub(crate) use unlimited::ignored;

/// The most vCPUs that a guest gets.
const MOST_VCPUS: u64 = 255;
/// Threads that a monitor may need beside the tasks that the spec's pids limit speaks of: one for each vCPU, and
/// QEMU's main loop, RCU thread and pool of 64 workers.
const MONITOR_THREADS: i64 = 72;

/// A namespace that the monitor lives in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its kind.
    pub kind: NamespaceKind,
    /// The namespace to join; without it a new one is made.
    pub path: Option<PathBuf>,
}

/// The kinds of namespace that a monitor can have for its own. It always has a mount namespace of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    /// Network.
    Network,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
    /// Cgroup root.
    Cgroup,
    /// Process numbers.
    Pid,
}

/// What a container is in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The pod's sandbox ("pause"): it holds the namespaces, and runs nothing.
    Sandbox,
    /// A guest, in a pod or alone.
    Guest,
    /// A container that is given to the host's OCI runtime.
    Ordinary,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The container's id.
    pub id: String,
    /// What it is in its pod.
    pub role: Role,
    /// Its name in its pod, which stays the same when it is started anew under another id.
    pub name: Option<String>,
    /// The bundle.
    pub bundle: PathBuf,
    /// The group (pod) it belongs to.
    pub group: String,
    /// The mounts of its root file system; empty: [`Request::root`] is there already.
    pub rootfs: Vec<RootfsMount>,
    /// `root.path`, absolute.
    pub root: PathBuf,
    /// Its stdio.
    pub stdio: StdioPaths,
    /// `process.args`.
    pub args: Vec<String>,
    /// The namespaces of the monitor.
    pub namespaces: Vec<Namespace>,
    /// `hostname`.
    pub hostname: Option<String>,
    /// `linux.sysctl`, all of them of namespaces that are the container's own.
    pub sysctls: Vec<Sysctl>,
    /// Of an ordinary container: whether its pid namespace is its own; whoever is in that dies with its first process.
    pub own_pids: bool,
    /// `linux.cgroupsPath`; `None`: not given.
    pub cgroups_path: Option<CgroupsPath>,
    /// Whether that was in systemd's form, `slice:prefix:name`.
    pub cgroups_by_systemd: bool,
    /// The limits but memory, which depends on the monitor.
    pub limits: Limits,
    /// The memory limit in bytes.
    pub memory: Option<u64>,
    /// `linux.resources.memory.swap`: memory and swap together, in bytes.
    pub memory_and_swap: Option<u64>,
    /// `linux.resources.memory.reservation` in bytes.
    pub memory_reservation: Option<u64>,
    /// From the CPU quota, rounded up; `None`: there is none.
    pub vcpus: Option<u32>,
    /// The hooks.
    pub hooks: Hooks,
    /// `process.oomScoreAdj`.
    pub oom_score_adj: Option<i32>,
    /// What the annotations give of the image contract.
    pub keys: Keys,
    /// What the spec asks for and nobody honours yet, for one line in the log.
    pub not_honoured: Vec<String>,
}

/// What a container is in its pod: containerd's CRI plug-in says so.
const ROLE: &str = "io.kubernetes.cri.container-type";
const SANDBOX: &str = "sandbox";
const NAME: &str = "io.kubernetes.cri.container-name";

/// The annotations that tell which pod a container belongs to, in the order in which they count.
const GROUPS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];

/// The group (pod) of a container: by its annotations, else it is a group of its own. It has to be a name such as an id
/// is: others are refused before anything is made.
pub fn group_of(annotations: &HashMap<String, String>, id: &str) -> Result<String, Error> {
    let named = GROUPS.iter().find_map(|key| Some((key, annotations.get(*key)?)));
    match named.filter(|(_, group)| !group.is_empty()) {
        Some((key, group)) if !is_identifier(group) => Err(invalid_name(key, group)),
        Some((_, group)) => Ok(group.clone()),
        None => Ok(id.to_owned()),
    }
}

/// Reads the bundle's config.json, of a guest or a sandbox.
fn read_spec(bundle: &Path) -> Result<Spec, Error> {
    let path = bundle.join("config.json");
    let text = fs::read(&path).map_err(Error::file("read", &path))?;
    serde_json::from_slice(&text).map_err(|source| Error::Spec { path, source })
}

impl Request {
    /// Decides for a container that is given to the OCI runtime. Nothing of its spec is looked at but what we have to
    /// know ourselves. Pure.
    pub fn ordinary(
        id: &str,
        bundle: &Path,
        outline: &Outline,
        rootfs: Vec<RootfsMount>,
        stdio: StdioPaths,
    ) -> Result<Self, Error> {
        crate::stdio::check(&stdio)?;
        let cgroups_path = outline.cgroups_path();
        Ok(Self {
            id: id.to_owned(),
            role: Role::Ordinary,
            name: outline.annotations.get(NAME).cloned(),
            bundle: bundle.to_owned(),
            group: group_of(&outline.annotations, id)?,
            rootfs,
            root: bundle.join(outline.root()),
            stdio,
            args: vec![],
            namespaces: outline.joined(),
            hostname: None,
            sysctls: vec![],
            own_pids: outline.has_own_pids(),
            cgroups_by_systemd: cgroups_path.is_some_and(is_systemds),
            // What we cannot read of it, the OCI runtime may.
            cgroups_path: cgroups_path
                .filter(|path| path.starts_with('/') || is_systemds(path))
                .and_then(|path| CgroupsPath::parse(path).ok()),
            limits: Limits::default(),
            memory: None,
            memory_and_swap: None,
            memory_reservation: None,
            vcpus: None,
            hooks: Hooks::default(),
            oom_score_adj: outline.oom_score_adj(),
            keys: Keys::default(),
            not_honoured: vec![],
        })
    }

    /// Reads the bundle's config.json and decides, for a guest or a sandbox.
    pub fn read(id: &str, bundle: &Path, rootfs: Vec<RootfsMount>, stdio: StdioPaths) -> Result<Self, Error> {
        Self::new(id, bundle, &read_spec(bundle)?, rootfs, stdio)
    }

    /// Decides for a guest or a sandbox. Pure.
    pub fn new(
        id: &str,
        bundle: &Path,
        spec: &Spec,
        rootfs: Vec<RootfsMount>,
        stdio: StdioPaths,
    ) -> Result<Self, Error> {
        crate::stdio::check(&stdio)?;
        let hooks = Hooks::of(spec)?;
        let none = HashMap::new();
        let annotations = spec.annotations().as_ref().unwrap_or(&none);
        let keys = Keys::from_pairs(annotations);
        keys.check()?;

        let process = spec.process().as_ref();
        let mut args = process.and_then(|p| p.args().clone()).unwrap_or_default();
        if args.is_empty()
            && let Some(line) = keys.get(crate::contract::CMDLINE)
        {
            args = line.split_whitespace().map(str::to_owned).collect();
        }
        if let Some(arg) = args.iter().find(|a| a.contains('\0')) {
            return Err(invalid("process.args", arg, "holds a NUL", "leave it out"));
        }
        let root = spec.root().as_ref().map_or_else(|| PathBuf::from("rootfs"), |r| r.path().clone());

        let linux = spec.linux().as_ref();
        let resources = linux.and_then(|l| l.resources().as_ref());
        let memory = resources.and_then(|r| r.memory().as_ref());
        let positive = |v: Option<i64>| v.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0);
        let cgroups_path =
            linux.and_then(|l| l.cgroups_path().as_ref()).and_then(|p| p.to_str()).filter(|p| !p.is_empty());
        let role = match annotations.get(ROLE).map(String::as_str) {
            Some(SANDBOX) => Role::Sandbox,
            _ => Role::Guest,
        };
        let namespaces = namespaces(spec)?;
        Ok(Self {
            id: id.to_owned(),
            role,
            name: annotations.get(NAME).cloned(),
            bundle: bundle.to_owned(),
            group: group_of(annotations, id)?,
            rootfs,
            root: bundle.join(root),
            stdio,
            args,
            hostname: spec.hostname().clone().filter(|h| !h.is_empty()),
            sysctls: sysctl::of(spec, &namespaces)?,
            namespaces,
            own_pids: false,
            cgroups_by_systemd: cgroups_path.is_some_and(is_systemds),
            cgroups_path: cgroups_path.map(CgroupsPath::parse).transpose()?,
            limits: limits(resources),
            memory: positive(memory.and_then(|m| m.limit())),
            memory_and_swap: positive(memory.and_then(|m| m.swap())),
            memory_reservation: positive(memory.and_then(|m| m.reservation())),
            vcpus: vcpus(resources)?,
            hooks,
            oom_score_adj: process.and_then(|p| p.oom_score_adj()),
            keys,
            not_honoured: match role {
                Role::Sandbox | Role::Ordinary => vec![],
                Role::Guest => not_honoured(spec),
            },
        })
    }
}

/// Whether a cgroupsPath is in systemd's form, `slice:prefix:name`.
fn is_systemds(path: &str) -> bool {
    !path.starts_with('/') && path.contains(':')
}

fn namespaces(spec: &Spec) -> Result<Vec<Namespace>, Error> {
    let list = spec.linux().as_ref().and_then(|l| l.namespaces().clone()).unwrap_or_default();
    let mut namespaces = Vec::new();
    for ns in list {
        let kind = match ns.typ() {
            LinuxNamespaceType::Network => NamespaceKind::Network,
            LinuxNamespaceType::Ipc => NamespaceKind::Ipc,
            LinuxNamespaceType::Uts => NamespaceKind::Uts,
            LinuxNamespaceType::Cgroup => NamespaceKind::Cgroup,
            LinuxNamespaceType::Pid => NamespaceKind::Pid,
            LinuxNamespaceType::User => {
                return Err(Error::Unsupported {
                    feature: "linux.namespaces: a user namespace".to_owned(),
                    remedy: "run without a user namespace (hostUsers: true)",
                });
            }
            // The monitor has a mount namespace of its own in any case; a clock of its own would change the start
            // times that we know it by.
            LinuxNamespaceType::Mount | LinuxNamespaceType::Time => continue,
        };
        namespaces.push(Namespace { kind, path: ns.path().clone().filter(|p| !p.as_os_str().is_empty()) });
    }
    Ok(namespaces)
}

/// The vCPUs that a CPU quota asks for, rounded up; `None`: it asks for none.
pub(crate) fn vcpus(resources: Option<&LinuxResources>) -> Result<Option<u32>, Error> {
    let cpu = resources.and_then(|r| r.cpu().as_ref());
    let quota = cpu.and_then(|c| c.quota()).and_then(|q| u64::try_from(q).ok()).filter(|q| *q > 0);
    let Some(quota) = quota else { return Ok(None) };
    // The kernel's default period is 100 ms.
    let period = cpu.and_then(|c| c.period()).filter(|p| *p > 0).unwrap_or(100_000);
    let vcpus = quota.div_ceil(period);
    u32::try_from(vcpus).ok().filter(|_| vcpus <= MOST_VCPUS).map(Some).ok_or_else(|| {
        invalid(
            "linux.resources.cpu.quota",
            &format!("{quota}/{period}"),
            &format!("asks for {vcpus} vCPUs"),
            &format!("a guest gets at most {MOST_VCPUS}"),
        )
    })
}

/// The limits but memory, which depends on the monitor.
pub(crate) fn limits(resources: Option<&LinuxResources>) -> Limits {
    let mut limits = Limits::default();
    let Some(resources) = resources else { return limits };
    if let Some(cpu) = resources.cpu() {
        if let Some(quota) = cpu.quota().filter(|q| *q != 0) {
            limits.cpu_quota =
                Some(CpuQuota { quota_us: amount(quota), period_us: cpu.period().filter(|p| *p > 0) });
        }
        limits.cpu_shares = cpu.shares().filter(|s| *s > 0);
        limits.cpuset_cpus = cpu.cpus().clone().filter(|c| !c.is_empty());
        limits.cpuset_mems = cpu.mems().clone().filter(|c| !c.is_empty());
    }
    if let Some(pids) = resources.pids() {
        let limit = pids.limit();
        if limit != 0 {
            limits.pids = Some(amount(if limit > 0 { limit.saturating_add(MONITOR_THREADS) } else { limit }));
        }
    }
    limits
}

fn amount(value: i64) -> Amount {
    u64::try_from(value).map_or(Amount::Unlimited, Amount::At)
}

/// What of the spec speaks of the guest and cannot be honoured inside it yet.
fn not_honoured(spec: &Spec) -> Vec<String> {
    let mut names: Vec<&str> = Vec::new();
    if let Some(p) = spec.process() {
        let defaults = ["PATH=", "HOSTNAME=", "TERM="];
        let env =
            p.env().as_ref().is_some_and(|e| e.iter().any(|v| !defaults.iter().any(|d| v.starts_with(d))));
        for (name, asked) in [
            ("process.user", p.user().uid() != 0 || p.user().gid() != 0),
            ("process.env", env),
            ("process.cwd", p.cwd() != Path::new("/") && !p.cwd().as_os_str().is_empty()),
            ("process.rlimits", p.rlimits().as_ref().is_some_and(|r| !r.is_empty())),
            ("process.capabilities", p.capabilities().is_some()),
            ("process.apparmorProfile", p.apparmor_profile().is_some()),
            ("process.selinuxLabel", p.selinux_label().is_some()),
        ] {
            if asked {
                names.push(name);
            }
        }
    }
    if spec.root().as_ref().is_some_and(|r| r.readonly() == Some(true)) {
        names.push("root.readonly");
    }
    if spec.linux().as_ref().is_some_and(|l| l.seccomp().is_some()) {
        names.push("linux.seccomp");
    }
    let standard = ["/proc", "/dev", "/sys", "/run", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
    let foreign = |m: &oci_spec::runtime::Mount| {
        !standard
            .iter()
            .any(|s| m.destination() == Path::new(s) || m.destination().starts_with(format!("{s}/")))
    };
    if spec.mounts().as_ref().is_some_and(|m| m.iter().any(foreign)) {
        names.push("mounts");
    }
    if spec.linux().as_ref().and_then(|l| l.devices().as_ref()).is_some_and(|devices| !devices.is_empty()) {
        names.push("linux.devices");
    }
    let resources =
        spec.linux().as_ref().and_then(|l| l.resources().as_ref()).map(ignored).unwrap_or_default();
    // A period without a quota limits nothing: every kubelet writes one.
    let resources = resources.into_iter().filter(|name| !name.contains(' '));
    let resources = resources.map(|name| format!("linux.resources.{name}"));
    names.into_iter().map(str::to_owned).chain(resources).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::Kind;

    fn request(spec: &Value) -> Result<Request, Error> {
        let spec: Spec = serde_json::from_value(spec.clone()).unwrap();
        Request::new("c1", Path::new("/bundle"), &spec, vec![], StdioPaths::default())
    }

    #[test]
    fn vcpus_come_from_the_quota_rounded_up() {
        let with =
            |cpu: Value| request(&json!({"ociVersion": "1.0.2", "linux": {"resources": {"cpu": cpu}}}));
        for (cpu, vcpus) in [
            (json!({}), None),
            (json!({"quota": -1}), None),
            (json!({"quota": 0}), None),
            (json!({"quota": 50_000, "period": 100_000}), Some(1)),
            (json!({"quota": 100_000}), Some(1)),
            (json!({"quota": 100_001}), Some(2)),
            (json!({"quota": 250_000, "period": 100_000}), Some(3)),
        ] {
            assert_eq!(with(cpu.clone()).unwrap().vcpus, vcpus, "{cpu}");
        }
        assert_eq!(with(json!({"quota": 100_000_000})).unwrap_err().kind(), Kind::InvalidArgument);
    }

    #[test]
    fn hooks_user_namespaces_and_strange_stdio_are_refused_by_name() {
        let hook = json!([{"path": "/bin/true"}]);
        for name in ["createContainer", "startContainer", "poststart"] {
            let e = request(&json!({"ociVersion": "1.0.2", "hooks": {name: hook}})).unwrap_err();
            assert_eq!(e.kind(), Kind::Unimplemented);
            assert!(e.to_string().contains(name), "{e}");
        }
        let e = request(&json!({"ociVersion": "1.0.2", "linux": {"namespaces": [{"type": "user"}]}}))
            .unwrap_err();
        assert!(e.to_string().contains("user namespace"), "{e}");
        let spec: Spec = serde_json::from_value(json!({"ociVersion": "1.0.2"})).unwrap();
        let stdio = StdioPaths { stdout: "npipe:///log".to_owned(), ..StdioPaths::default() };
        let e = Request::new("c1", Path::new("/b"), &spec, vec![], stdio).unwrap_err();
        assert!(e.to_string().contains("npipe://"), "{e}");
    }

    #[test]
    fn a_pod_member_knows_its_group() {
        let annotations = HashMap::from([("io.kubernetes.cri.sandbox-id".to_owned(), "pod".to_owned())]);
        assert_eq!(group_of(&annotations, "c1").unwrap(), "pod");
        assert_eq!(group_of(&HashMap::new(), "c1").unwrap(), "c1");
    }
}
