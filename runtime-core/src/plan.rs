//! The plan: every decision about a container, pure over the request and what was read, durable before it is acted
//! upon. `plan.json` never changes; what could only be decided at Start goes to `start.json`.

use std::path::PathBuf;

use host_cgroup::LeafPlan;
use host_mount::Mounted;
use host_net::{Interface, NetnsId};
use serde::{Deserialize, Serialize};
use vmm_api::{
    GuestAddress, GuestKind, GuestNetwork, GuestSpec, HostFacts, LaunchPlan, Mac, Monitor, PlanError, kernel,
};

use crate::{
    Error,
    config::Config,
    contract::{self, Keys},
    network::netns_path,
    oci::OciRecord,
    request::Request,
};

const MIB: u64 = 1024 * 1024;
/// Less RAM than this is no guest.
const LEAST_MEMORY_MIB: u64 = 4;

/// What the guest sees as its root file system. For now that is an initrd or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestRootfs {
    /// Nothing: the kernel is all.
    None,
    /// The initrd at this path of the image.
    Initrd(String),
}

/// When the guest's root file system was chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootfsChoice {
    /// In Create.
    Chosen(GuestRootfs),
    /// It could not be made in Create, for this reason, and is made again at Start (urunc #767).
    AtStart(String),
}

/// The pod's interface, whose place the guest takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPlan {
    /// The network namespace.
    pub netns: NetnsId,
    /// The interface, as it was when it was looked at: the guest gets its addresses, MAC and MTU.
    pub interface: Interface,
    /// The name of the tap.
    pub tap: String,
    /// The ingress qdisc that stands there was made by a container of ours that is about to go.
    pub inherits_ingress: bool,
    /// The name by which the pod is known, if it has one.
    pub hostname: Option<String>,
}

/// The guest's network, and when that was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkChoice {
    /// In Create: this interface, or none.
    Known(Option<Box<NetworkPlan>>),
    /// The namespace has no interface yet; Docker makes it between Create and Start.
    AtStart,
}

/// By which rule guest RAM came from the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryRule {
    /// No limit: the default, and no limit on the cgroup.
    Default,
    /// RAM is the limit; the cgroup gets the monitor's overhead on top.
    LimitPlusOverhead,
    /// The parent cgroup has no room for the overhead: RAM is the limit minus the overhead.
    LimitMinusOverhead,
}

/// How much memory guest and cgroup get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Guest RAM in MiB.
    pub guest_mib: u64,
    /// The limit of the cgroup in bytes; `None`: no limit.
    pub cgroup_bytes: Option<u64>,
    /// By which rule.
    pub rule: MemoryRule,
}

impl Memory {
    /// Decides. `limit`: of the container, in bytes. `room`: what the parent cgroup's limit leaves for this
    /// container, in bytes; `None`: no limit there. `default_mib`: guest RAM where there is no limit.
    pub fn decide(
        limit: Option<u64>,
        overhead_mib: u64,
        room: Option<u64>,
        default_mib: u64,
    ) -> Result<Self, Error> {
        let Some(limit) = limit else {
            return Ok(Self { guest_mib: default_mib, cgroup_bytes: None, rule: MemoryRule::Default });
        };
        let overhead = overhead_mib * MIB;
        let (guest_mib, bytes, rule) = match room {
            Some(room) if room < limit.saturating_add(overhead) => {
                (limit.saturating_sub(overhead) / MIB, limit, MemoryRule::LimitMinusOverhead)
            }
            _ => (limit / MIB, limit.saturating_add(overhead), MemoryRule::LimitPlusOverhead),
        };
        if guest_mib < LEAST_MEMORY_MIB {
            let problem = match rule {
                MemoryRule::LimitMinusOverhead => format!(
                    "leaves {guest_mib} MiB for the guest: the parent cgroup has no room for the monitor's {overhead_mib} MiB"
                ),
                _ => format!("leaves {guest_mib} MiB for the guest"),
            };
            return Err(Error::Unmet {
                field: "linux.resources.memory.limit".to_owned(),
                value: limit.to_string(),
                problem,
                remedy: format!("a guest needs at least {LEAST_MEMORY_MIB} MiB; raise the limit"),
            });
        }
        Ok(Self { guest_mib, cgroup_bytes: Some(bytes), rule })
    }

    /// The bytes that the cgroup is reserved where the container is reserved `bytes`: the monitor's overhead comes on top
    /// unless it comes off the limit.
    pub fn reservation(&self, bytes: u64, overhead_mib: u64) -> u64 {
        match self.rule {
            MemoryRule::LimitMinusOverhead => bytes,
            MemoryRule::Default | MemoryRule::LimitPlusOverhead => bytes.saturating_add(overhead_mib * MIB),
        }
    }

    /// Refuses RAM that a host with `most` bytes of memory and swap can never give. A cgroup's limit may be as high as it
    /// likes; but a guest's RAM is one mapping, which the kernel refuses (proc(5), `overcommit_memory`).
    pub fn fit(self, most: u64) -> Result<Self, Error> {
        if self.guest_mib <= most / MIB {
            return Ok(self);
        }
        let field = match self.rule {
            MemoryRule::Default => "default memory of guests (urunc config show)",
            _ => "linux.resources.memory.limit",
        };
        Err(Error::Unmet {
            field: field.to_owned(),
            value: format!("{} MiB", self.guest_mib),
            problem: format!("is the guest's RAM, and this host has {} MiB of memory and swap", most / MIB),
            remedy: "lower the limit".to_owned(),
        })
    }
}

/// The plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The transaction.
    pub txid: String,
    /// Its cgroup folders, once more beside the record: for whoever has to clean up where that cannot be read.
    pub cgroup: Option<LeafPlan>,
    /// What it is to be.
    pub what: What,
}

/// What a container is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A pod's sandbox: there is nothing to decide.
    Sandbox,
    /// A guest.
    Guest(Box<GuestPlan>),
    /// An ordinary container.
    Ordinary(Box<OrdinaryPlan>),
}

/// The plan of an ordinary container: what it is, the OCI runtime decides, by the bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrdinaryPlan {
    /// What is to be known of the OCI runtime.
    pub oci: OciRecord,
    /// The mount of its root file system; `None`: it is there already.
    pub rootfs: Option<Mounted>,
}

/// The plan of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestPlan {
    /// The keys of the image contract, annotations and image merged.
    pub keys: Keys,
    /// The monitor's name.
    pub monitor: String,
    /// Its program.
    pub program: PathBuf,
    /// What was known of the host.
    pub host: HostFacts,
    /// The guest but for its root file system and its network.
    pub guest: GuestSpec,
    /// The kernel's path in the image.
    pub kernel: String,
    /// The guest's root file system.
    pub rootfs: RootfsChoice,
    /// The guest's network.
    pub network: NetworkChoice,
    /// The path of its network namespace in the spec.
    pub netns: Option<PathBuf>,
    /// Its memory, and by which rule.
    pub memory: Memory,
    /// The monitor's command line, if all that it depends on is known.
    pub launch: Option<LaunchPlan>,
    /// What the spec asks for and the guest does not get.
    pub not_honoured: Vec<String>,
}

/// What could only be decided at Start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Late {
    /// The guest's root file system.
    pub rootfs: GuestRootfs,
    /// The interface whose place it takes.
    pub network: Option<NetworkPlan>,
    /// The monitor's command line.
    pub launch: LaunchPlan,
}

/// What was read before the plan of a guest is made.
#[derive(Debug)]
pub struct Facts {
    /// The merged keys.
    pub keys: Keys,
    /// What the kernel file is.
    pub kernel: kernel::Format,
    /// The guest's root file system, or why it could not be chosen yet.
    pub rootfs: Result<GuestRootfs, String>,
    /// The interface whose place the guest takes.
    pub network: NetworkChoice,
    /// What the parent cgroup's limit leaves for this container, in bytes.
    pub memory_room: Option<u64>,
    /// The host's memory and swap, in bytes.
    pub host_memory: u64,
    /// The host.
    pub host: HostFacts,
    /// Where the monitor's program is.
    pub program: PathBuf,
}

impl Plan {
    /// The plan of the guest, if it is one.
    pub fn guest(&self) -> Option<&GuestPlan> {
        match &self.what {
            What::Guest(guest) => Some(guest),
            What::Sandbox | What::Ordinary(_) => None,
        }
    }

    /// The plan of the ordinary container, if it is one.
    pub fn ordinary(&self) -> Option<&OrdinaryPlan> {
        match &self.what {
            What::Ordinary(ordinary) => Some(ordinary),
            What::Sandbox | What::Guest(_) => None,
        }
    }
}

impl GuestPlan {
    /// The interface whose place the guest takes, if that was decided in Create.
    pub fn known_network(&self) -> Option<&NetworkPlan> {
        match &self.network {
            NetworkChoice::Known(network) => network.as_deref(),
            NetworkChoice::AtStart => None,
        }
    }

    /// Makes the plan. Pure.
    pub fn new(
        request: &Request,
        facts: Facts,
        monitor: &dyn Monitor,
        config: &Config,
    ) -> Result<Self, Error> {
        let kind = kind(&facts.keys)?;
        let overhead = config.overhead_mib(monitor);
        let default = config.default_memory_mib(monitor);
        let memory =
            Memory::decide(request.memory, overhead, facts.memory_room, default)?.fit(facts.host_memory)?;
        let (rootfs, chosen) = match facts.rootfs {
            Ok(rootfs) => (RootfsChoice::Chosen(rootfs.clone()), Some(rootfs)),
            Err(reason) => (RootfsChoice::AtStart(reason), None),
        };
        let spoken = request.not_honoured.iter().cloned();
        let not_honoured = spoken.chain(facts.keys.unknown().map(str::to_owned)).collect();
        let mut plan = Self {
            kernel: facts.keys.required(contract::BINARY)?.to_owned(),
            keys: facts.keys,
            monitor: monitor.name().to_owned(),
            program: facts.program,
            host: facts.host,
            guest: GuestSpec {
                kind,
                kernel: facts.kernel,
                initrd: false,
                args: request.args.clone(),
                memory_mib: memory.guest_mib,
                vcpus: request.vcpus.unwrap_or_else(|| config.default_vcpus(monitor)),
                accel: config.accel,
                data_path: config.data_path(monitor),
                network: None,
            },
            rootfs,
            network: facts.network,
            netns: netns_path(&request.namespaces),
            memory,
            launch: None,
            not_honoured,
        };
        // Also where something is still open: what is wrong with the rest is told in Create.
        let network = plan.known_network().cloned();
        if let Some(rootfs) = chosen {
            let late = plan.late(rootfs, network, monitor)?;
            plan.launch = matches!(plan.network, NetworkChoice::Known(_)).then_some(late.launch);
        }
        Ok(plan)
    }

    /// What Start needs, if all of it was decided in Create.
    pub fn early(&self) -> Option<Late> {
        match (&self.launch, &self.rootfs, &self.network) {
            (Some(launch), RootfsChoice::Chosen(rootfs), NetworkChoice::Known(network)) => Some(Late {
                rootfs: rootfs.clone(),
                network: network.as_deref().cloned(),
                launch: launch.clone(),
            }),
            _ => None,
        }
    }

    /// Decides what depends on the guest's root file system and on its network. Pure.
    pub fn late(
        &self,
        rootfs: GuestRootfs,
        network: Option<NetworkPlan>,
        monitor: &dyn Monitor,
    ) -> Result<Late, Error> {
        let guest = GuestSpec {
            initrd: matches!(rootfs, GuestRootfs::Initrd(_)),
            network: network.as_ref().map(|n| guest_network(self.guest.kind, n)),
            ..self.guest.clone()
        };
        let launch = monitor.plan(&self.program, &guest, self.host).map_err(|e| match e {
            PlanError::KernelFormat { found, wanted, .. } => contract::invalid(
                contract::BINARY,
                &self.kernel,
                &format!("is {found}"),
                &format!("name {wanted} for a {} guest under {}", guest.kind.as_str(), self.monitor),
            ),
            other => other.into(),
        })?;
        Ok(Late { rootfs, network, launch })
    }
}

/// What the guest is told of the interface whose place it takes, and of the address at which the pod's other containers
/// reach it. Unikraft has room for one address only.
fn guest_network(kind: GuestKind, network: &NetworkPlan) -> GuestNetwork {
    use host_net::beside;
    let interface = &network.interface;
    let address =
        |a: &host_net::Address| GuestAddress { ip: a.ip, prefix_len: a.prefix_len, gateway: a.gateway };
    let beside = GuestAddress { ip: beside::GUEST.into(), prefix_len: beside::PREFIX_LEN, gateway: None };
    GuestNetwork {
        mac: Mac(interface.mac.0),
        mtu: interface.mtu,
        hostname: network.hostname.clone(),
        addresses: interface
            .addresses
            .iter()
            .map(address)
            .chain((kind == GuestKind::Linux).then_some(beside))
            .collect(),
    }
}

/// The kind of guest, which must be given.
pub fn kind(keys: &Keys) -> Result<GuestKind, Error> {
    keys.required(contract::TYPE)?;
    keys.kind()?.ok_or_else(|| contract::invalid(contract::TYPE, "", "is missing", "use linux or unikraft"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn guest_ram_is_the_limit_and_the_cgroup_pays_for_the_monitor() {
        let none = Memory::decide(None, 100, None, 256).unwrap();
        assert_eq!((none.guest_mib, none.cgroup_bytes, none.rule), (256, None, MemoryRule::Default));
        let plus = Memory::decide(Some(64 * MIB + 5), 100, None, 256).unwrap();
        assert_eq!(
            (plus.guest_mib, plus.cgroup_bytes, plus.rule),
            (64, Some(164 * MIB + 5), MemoryRule::LimitPlusOverhead)
        );
        assert_eq!(
            Memory::decide(Some(64 * MIB), 100, Some(164 * MIB), 256).unwrap().rule,
            MemoryRule::LimitPlusOverhead
        );
        let minus = Memory::decide(Some(164 * MIB), 100, Some(200 * MIB), 256).unwrap();
        assert_eq!(
            (minus.guest_mib, minus.cgroup_bytes, minus.rule),
            (64, Some(164 * MIB), MemoryRule::LimitMinusOverhead)
        );
        let reserved = [none, plus, minus].map(|memory| memory.reservation(MIB, 100));
        assert_eq!(reserved, [101 * MIB, 101 * MIB, MIB]);
    }

    #[test]
    fn too_little_memory_is_a_precondition() {
        for (limit, room) in [(MIB, None), (64 * MIB, Some(64 * MIB)), (0, None)] {
            let e = Memory::decide(Some(limit), 100, room, 256).unwrap_err();
            assert_eq!(e.kind(), Kind::FailedPrecondition);
            assert!(e.to_string().contains("memory.limit"), "{e}");
        }
    }

    #[test]
    fn more_memory_than_the_host_has_is_a_precondition() {
        let much = Memory::decide(Some(1 << 40), 100, None, 256).unwrap();
        assert_eq!(much.fit(1 << 40).unwrap(), much);
        let e = much.fit((1 << 40) - 1).unwrap_err();
        assert_eq!(e.kind(), Kind::FailedPrecondition);
        assert!(e.to_string().contains("linux.resources.memory.limit: \"1048576 MiB\""), "{e}");
    }
}
