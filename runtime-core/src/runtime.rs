//! What the verbs share: the containers of this daemon, its folder, its monitors.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use host_cgroup::Notes;
use host_mount::RootfsMount;
use proc_id::ProcessId;
use vmm_api::{HostFacts, Monitor};

use crate::{
    Error,
    config::{Config, Options},
    container::Container,
    contract::{HYPERVISOR, invalid},
    events::EventSink,
    launcher::Spawn,
    layout::Layout,
    lifecycle::State,
    network::InterfaceId,
    oci::OciOptions,
    record::StdioPaths,
    share::Share,
};

/// What Create is asked for.
#[derive(Clone, Debug)]
pub struct CreateInput {
    /// The container's id.
    pub id: String,
    /// The bundle.
    pub bundle: PathBuf,
    /// The mounts of its root file system.
    pub rootfs: Vec<RootfsMount>,
    /// Its stdio.
    pub stdio: StdioPaths,
    /// The runtime options that containerd gives for it.
    pub options: Option<Options>,
    /// runc's own, which count for an ordinary container.
    pub oci: OciOptions,
}

/// The containers of one daemon.
pub struct Runtime {
    pub(crate) layout: Layout,
    pub(crate) namespace: String,
    pub(crate) owner: String,
    pub(crate) config: Config,
    pub(crate) host: HostFacts,
    pub(crate) boot_id: String,
    pub(crate) notes: Notes,
    pub(crate) monitors: Vec<Box<dyn Monitor>>,
    pub(crate) spawner: Box<dyn Spawn>,
    pub(crate) events: Box<dyn EventSink>,
    containers: Mutex<HashMap<String, Arc<Container>>>,
    /// What the pod's containers once had to do without, by their names.
    pub(crate) denied: Mutex<HashSet<(String, Share)>>,
}

impl Runtime {
    /// A runtime without containers, for the daemon instance `owner`.
    pub fn new(
        layout: Layout,
        namespace: &str,
        owner: &str,
        config: Config,
        monitors: Vec<Box<dyn Monitor>>,
        spawner: Box<dyn Spawn>,
        events: Box<dyn EventSink>,
    ) -> Result<Self, Error> {
        Ok(Self {
            notes: Notes::new(layout.cgroup_notes()),
            layout,
            namespace: namespace.to_owned(),
            owner: owner.to_owned(),
            config,
            host: host_facts(),
            boot_id: proc_id::boot_id()?,
            monitors,
            spawner,
            events,
            containers: Mutex::default(),
            denied: Mutex::default(),
        })
    }

    /// The container `id`.
    pub fn get(&self, id: &str) -> Result<Arc<Container>, Error> {
        self.containers().get(id).cloned().ok_or_else(|| Error::NotFound { id: id.to_owned() })
    }

    /// All containers.
    pub fn all(&self) -> Vec<Arc<Container>> {
        self.containers().values().cloned().collect()
    }

    /// Whether there is none, not even one in the making.
    pub fn is_empty(&self) -> bool {
        self.containers().is_empty()
    }

    /// Whether there is none but perhaps `id`, not even one in the making.
    pub fn has_no_other(&self, id: &str) -> bool {
        self.containers().keys().all(|other| other == id)
    }

    /// Whether there is one that was created, and is not being undone.
    pub fn serves(&self) -> bool {
        let is_it = |state| !matches!(state, State::Creating | State::Unwinding | State::UnwindBlocked);
        self.all().iter().any(|container| is_it(container.snapshot().state))
    }

    /// The containers whose clean-up got stuck.
    pub fn blocked(&self) -> Vec<Arc<Container>> {
        self.all().into_iter().filter(|c| c.snapshot().state == State::UnwindBlocked).collect()
    }

    /// The folder of our containerd.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Registers a container before its first side effect.
    pub(crate) fn reserve(&self, container: &Arc<Container>) -> Result<(), Error> {
        let mut containers = self.containers();
        if containers.contains_key(&container.id) {
            return Err(Error::AlreadyExists { id: container.id.clone() });
        }
        containers.insert(container.id.clone(), container.clone());
        Ok(())
    }

    /// Reserves a pod's interface for a container, unless another one that has not ended has it.
    pub(crate) fn reserve_interface(&self, container: &Container, interface: InterfaceId) -> bool {
        let containers = self.containers();
        let is_taken = |other: &Container| {
            let live = other.live();
            live.interface == Some(interface) && live.exit.is_none()
        };
        if containers.values().any(|other| other.id != container.id && is_taken(other)) {
            return false;
        }
        container.live().interface = Some(interface);
        true
    }

    /// The processes of all containers that are children of ours, dead ones as well: somebody waits for each.
    pub(crate) fn children(&self) -> HashSet<ProcessId> {
        let of = |container: Arc<Container>| {
            let execs = container.execs().into_iter().filter_map(|exec| exec.process());
            let own = [container.process(), container.logger()].into_iter().flatten();
            own.chain(execs).map(|process| process.id().clone()).collect::<Vec<_>>()
        };
        self.all().into_iter().flat_map(of).collect()
    }

    pub(crate) fn forget(&self, id: &str) {
        self.containers().remove(id);
    }

    fn containers(&self) -> MutexGuard<'_, HashMap<String, Arc<Container>>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The monitor of that name.
    pub(crate) fn monitor(&self, name: &str) -> Result<&dyn Monitor, Error> {
        find_monitor(&self.monitors, name)
    }
}

/// The monitor of that name among those that are built in.
pub(crate) fn find_monitor<'a>(
    monitors: &'a [Box<dyn Monitor>],
    name: &str,
) -> Result<&'a dyn Monitor, Error> {
    monitors.iter().find(|m| m.name() == name).map(|m| &**m).ok_or_else(|| {
        let known: Vec<_> = monitors.iter().map(|m| m.name()).collect();
        let remedy = format!("use {}", known.join(" or "));
        invalid(HYPERVISOR, name, "is not a monitor that is built in", &remedy)
    })
}

pub(crate) fn host_facts() -> HostFacts {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpuinfo.lines().find_map(|l| l.strip_prefix("flags")).unwrap_or_default();
    HostFacts {
        hardware_virt: flags.split_ascii_whitespace().any(|f| f == "vmx" || f == "svm"),
        kvm: Path::new("/dev/kvm").exists(),
    }
}

/// Memory and swap of this host, in bytes.
pub(crate) fn host_memory() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.mem_unit).saturating_mul(info.totalram.saturating_add(info.totalswap))
}
