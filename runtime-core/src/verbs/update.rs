//! Update: other limits for a container that is there, by the rules of Create.
//!
//! A guest keeps the RAM and the vCPUs that it was created with. So a limit that leaves less than its RAM, or that asks
//! for more vCPUs, is an error that says so; a higher memory limit is kept, and is no more RAM. All of it is checked
//! before anything is written; what the kernel then refuses is an error, and what was written before stays. A limit that
//! is not given, or zero, stays as it is; -1 lifts it.

use host_cgroup::{Amount, Kernel, LeafPlan, Limits, MemoryLimit, parent_room, set_limits};
use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value};

use crate::{
    Error, Runtime,
    container::Container,
    contract::invalid,
    lifecycle::State,
    plan::{GuestPlan, Memory, MemoryRule},
    request::{ignored, limits, vcpus},
    verbs::create::is_shared,
};

const MIB: u64 = 1024 * 1024;
const LIMIT: &str = "linux.resources.memory.limit";
const SWAP: &str = "linux.resources.memory.swap";
const RESERVATION: &str = "linux.resources.memory.reservation";

impl Runtime {
    /// Changes the limits of a container: `resources` is the OCI specification's `linux.resources` as JSON.
    pub fn update(&self, id: &str, resources: &[u8]) -> Result<(), Error> {
        let wrong = |e: serde_json::Error| {
            invalid("resources", "", &format!("no LinuxResources: {e}"), "give its JSON")
        };
        // A list would be taken for its fields in their order.
        let object: Map<String, Value> = serde_json::from_slice(resources).map_err(wrong)?;
        let container = self.get(id)?;
        check_lives(&container)?;
        if let Some(oci) = container.oci() {
            return self.update_ordinary(&container, &oci, resources);
        }
        let resources: LinuxResources = serde_json::from_value(Value::Object(object)).map_err(wrong)?;
        let work = container.work();
        check_lives(&container)?;
        let plan = self.planned(&work, &container)?;
        let leaf = work.file.as_ref().and_then(|(_, record)| record.cgroup.as_ref());
        let leaf = leaf.ok_or_else(|| Error::NotFound { id: id.to_owned() })?;

        check_cpu(&resources, plan.guest())?;
        let mut limits = limits(Some(&resources));
        memory_of(&mut limits, &resources, plan.guest(), work.overhead_mib, leaf)?;
        let ignored = ignored(&resources);
        if !ignored.is_empty() {
            tracing::warn!(id, fields = ignored.join(", "), "the update asks for what is not honoured");
        }
        set_limits(&Kernel, leaf, &limits).map_err(|e| match e {
            host_cgroup::Error::NoController { controller, .. } => unmet(
                &format!("linux.resources: {controller}"),
                "",
                "is not limited for this container, which has no cgroup there",
                "limit it at creation",
            ),
            e => e.into(),
        })?;
        tracing::info!(id, ?limits, "updated");
        Ok(())
    }
}

/// What the cgroup's limits of memory become.
fn memory_of(
    limits: &mut Limits,
    resources: &LinuxResources,
    guest: Option<&GuestPlan>,
    overhead: u64,
    leaf: &LeafPlan,
) -> Result<(), Error> {
    let given = |value: Option<i64>| {
        value.filter(|v| *v != 0).map(|v| u64::try_from(v).map_or(Amount::Unlimited, Amount::At))
    };
    let memory = resources.memory().as_ref();
    let limit = given(memory.and_then(|m| m.limit()));
    let with_swap = given(memory.and_then(|m| m.swap()));
    let reservation = given(memory.and_then(|m| m.reservation()));
    if let (None, Some(sum)) = (limit, with_swap) {
        // The sum speaks of the limit, to which the overhead is added.
        return Err(invalid(SWAP, &shown(sum), "comes without memory.limit", "give both"));
    }
    let first = limit.map(|limit| (LIMIT, limit)).or(reservation.map(|bytes| (RESERVATION, bytes)));
    if let Some((field, value)) = first
        && is_shared(leaf)
    {
        let problem = "is of a cgroupsPath that another container has, too";
        return Err(unmet(field, &shown(value), problem, "give each container a path of its own"));
    }
    // What comes on top of what the container is given.
    let more = match (limit, guest) {
        (_, None) => 0,
        (Some(Amount::At(bytes)), Some(guest)) => {
            bytes_for(guest, overhead, bytes, leaf)?.saturating_sub(bytes)
        }
        (_, Some(guest)) => guest.memory.reservation(0, overhead),
    };
    let plus_more = |amount| match amount {
        Amount::At(bytes) => Amount::At(bytes.saturating_add(more)),
        Amount::Unlimited => Amount::Unlimited,
    };
    limits.memory =
        limit.map(|limit| MemoryLimit { limit: plus_more(limit), with_swap: with_swap.map(plus_more) });
    limits.memory_reservation = reservation.map(plus_more);
    Ok(())
}

/// The cgroup's limit for this limit of the container, if the guest's RAM stays below it.
fn bytes_for(guest: &GuestPlan, overhead: u64, limit: u64, leaf: &LeafPlan) -> Result<u64, Error> {
    let room = parent_room(&Kernel, leaf)?.map(host_cgroup::ParentRoom::bytes);
    let room = match guest.memory.rule {
        // It was denied the overhead in Create, and what a pod's first guest has is not its own now.
        MemoryRule::LimitMinusOverhead => Some(room.unwrap_or(limit).min(limit)),
        MemoryRule::Default | MemoryRule::LimitPlusOverhead => room,
    };
    let has = guest.memory.guest_mib;
    let memory = Memory::decide(Some(limit), overhead, room, guest.memory.guest_mib)?;
    if memory.guest_mib < has {
        let least = match memory.rule {
            MemoryRule::LimitMinusOverhead => has + overhead,
            MemoryRule::Default | MemoryRule::LimitPlusOverhead => has,
        };
        let problem = format!(
            "leaves {} MiB for the guest, which has {has} MiB of RAM and keeps them while it runs",
            memory.guest_mib
        );
        let remedy = format!("give at least {} or create it anew", least * MIB);
        return Err(unmet(LIMIT, &limit.to_string(), &problem, &remedy));
    }
    Ok(memory.cgroup_bytes.unwrap_or(limit))
}

/// Only a container that is there, and has not ended, has limits.
pub(in crate::verbs) fn check_lives(container: &Container) -> Result<(), Error> {
    match container.snapshot().state {
        State::Created | State::Starting | State::Running | State::Paused => Ok(()),
        // CRI takes this for what it is: there is nothing to be limited any more.
        State::Stopped | State::Unwinding | State::UnwindBlocked => {
            Err(Error::Ended { id: container.id.clone() })
        }
        State::Creating => Err(Error::NotFound { id: container.id.clone() }),
    }
}

/// A quota is as many vCPUs, as in Create.
fn check_cpu(resources: &LinuxResources, guest: Option<&GuestPlan>) -> Result<(), Error> {
    let cpu = resources.cpu().as_ref();
    let quota = cpu.and_then(|c| c.quota());
    let Some(wanted) = vcpus(Some(resources))? else { return Ok(()) };
    let Some(has) = guest.map(|g| g.guest.vcpus).filter(|has| wanted > *has) else { return Ok(()) };
    Err(unmet(
        "linux.resources.cpu.quota",
        &quota.unwrap_or(0).to_string(),
        &format!("asks for {wanted} vCPUs; the guest has {has} and gets no more while it runs"),
        "give a lower quota or create it anew",
    ))
}

fn shown(amount: Amount) -> String {
    match amount {
        Amount::At(n) => n.to_string(),
        Amount::Unlimited => "-1".to_owned(),
    }
}

fn unmet(field: &str, value: &str, problem: &str, remedy: &str) -> Error {
    Error::Unmet {
        field: field.to_owned(),
        value: value.to_owned(),
        problem: problem.to_owned(),
        remedy: remedy.to_owned(),
    }
}
