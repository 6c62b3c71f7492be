//! Writing limits on the caller's path, in the words of v1 and of v2.
//!
//! It changes control files of `path` only (and of the leaf for v1's cpuset, where a child must stay inside its
//! parent, and for v2's `memory.low`). A limit that the kernel does not take is an error and ends the work: a guest must
//! not run without it. What was written before stays; on a path that we made it goes with the path.

use std::path::PathBuf;

use rustix::io::Errno;

use crate::files::{Files, is_absent};
use crate::values::{swap_alone, weight};
use crate::{Amount, CpuQuota, Error, LeafIn, LeafPlan, Limits, MemoryLimit, Version};

/// Writes `limits`; at creation, and again whenever they change.
pub fn set_limits(files: &dyn Files, plan: &LeafPlan, limits: &Limits) -> Result<(), Error> {
    limits.check()?;
    plan.serves(limits)?;
    for h in &plan.hierarchies {
        let cgroup = Cgroup { files, dir: h.dir() };
        match h.version {
            Version::V1 => v1(&cgroup, h, limits)?,
            Version::V2 => v2(&cgroup, h, limits)?,
        }
        if h.has("cpuset") {
            for (file, value) in [("cpuset.cpus", &limits.cpuset_cpus), ("cpuset.mems", &limits.cpuset_mems)]
            {
                match (value, h.version) {
                    (Some(value), Version::V1) => cpuset_v1(&cgroup, h, file, value)?,
                    (Some(value), Version::V2) => cgroup.write(file, value)?,
                    (None, _) => {}
                }
            }
        }
        for extra in limits.extra.iter().filter(|e| e.version == h.version && h.has(&e.controller)) {
            cgroup.write(&extra.file, &extra.value)?;
        }
    }
    Ok(())
}

fn v1(cgroup: &Cgroup, h: &LeafIn, limits: &Limits) -> Result<(), Error> {
    if let Some(memory) = limits.memory.filter(|_| h.has("memory")) {
        memory_v1(cgroup, memory)?;
    }
    if let Some(reservation) = limits.memory_reservation.filter(|_| h.has("memory")) {
        cgroup.write("memory.soft_limit_in_bytes", &reservation.v1())?;
    }
    if let Some(CpuQuota { quota_us, period_us }) = limits.cpu_quota.filter(|_| h.has("cpu")) {
        let quota = ("cpu.cfs_quota_us", quota_us.v1());
        match period_us {
            Some(period) => cgroup.pair(&("cpu.cfs_period_us", period.to_string()), &quota)?,
            None => cgroup.write(quota.0, &quota.1)?,
        }
    }
    if let Some(shares) = limits.cpu_shares.filter(|_| h.has("cpu")) {
        cgroup.write("cpu.shares", &shares.to_string())?;
    }
    if let Some(pids) = limits.pids.filter(|_| h.has("pids")) {
        // This one file says "max" on v1, too.
        cgroup.write("pids.max", &pids.v2())?;
    }
    Ok(())
}

fn v2(cgroup: &Cgroup, h: &LeafIn, limits: &Limits) -> Result<(), Error> {
    if let Some(MemoryLimit { limit, with_swap }) = limits.memory.filter(|_| h.has("memory")) {
        cgroup.write("memory.max", &limit.v2())?;
        if let Some(total) = with_swap {
            let swap = swap_alone(limit, total)?;
            cgroup.write_swap("memory.swap.max", &swap.v2(), swap)?;
        }
    }
    if let Some(reservation) = limits.memory_reservation.filter(|_| h.has("memory")) {
        cgroup.write("memory.low", &reservation.v2())?;
        // Children share in it only as far as they ask for it themselves.
        let leaf = Cgroup { files: cgroup.files, dir: h.leaf_dir() };
        match leaf.try_write("memory.low", &reservation.v2()) {
            // A leaf without controllers of its own is counted with the path.
            Err(e) if is_absent(e) => {}
            outcome => outcome.map_err(leaf.refused("memory.low", &reservation.v2()))?,
        }
    }
    if let Some(CpuQuota { quota_us, period_us }) = limits.cpu_quota.filter(|_| h.has("cpu")) {
        let period = period_us.map(|p| format!(" {p}")).unwrap_or_default();
        cgroup.write("cpu.max", &format!("{}{period}", quota_us.v2()))?;
    }
    if let Some(shares) = limits.cpu_shares.filter(|_| h.has("cpu")) {
        cgroup.write("cpu.weight", &weight(shares).to_string())?;
    }
    if let Some(pids) = limits.pids.filter(|_| h.has("pids")) {
        cgroup.write("pids.max", &pids.v2())?;
    }
    Ok(())
}

/// v1 wants memory <= memory and swap at every moment, so the direction of the change decides the order.
fn memory_v1(cgroup: &Cgroup, MemoryLimit { limit, with_swap }: MemoryLimit) -> Result<(), Error> {
    const LIMIT: &str = "memory.limit_in_bytes";
    const BOTH: &str = "memory.memsw.limit_in_bytes";
    // Lifting the one needs the other lifted as well.
    let total = with_swap.or((limit == Amount::Unlimited).then_some(limit));
    let Some(total) = total else { return cgroup.write(LIMIT, &limit.v1()) };
    match cgroup.try_write(LIMIT, &limit.v1()) {
        Err(Errno::INVAL) => {
            cgroup.write_swap(BOTH, &total.v1(), total)?;
            cgroup.write(LIMIT, &limit.v1())
        }
        outcome => {
            outcome.map_err(cgroup.refused(LIMIT, &limit.v1()))?;
            cgroup.write_swap(BOTH, &total.v1(), total)
        }
    }
}

/// A child's set must stay inside its parent's, so: grow the parent, change the leaf, shrink the parent.
fn cpuset_v1(cgroup: &Cgroup, h: &LeafIn, file: &str, value: &str) -> Result<(), Error> {
    let at = cgroup.dir.join(file);
    let old = cgroup.files.read(&at).map_err(Error::io("reading", at))?;
    match old.trim() {
        "" => cgroup.write(file, value)?,
        old => cgroup.write(file, &format!("{old},{value}"))?,
    }
    Cgroup { files: cgroup.files, dir: h.leaf_dir() }.write(file, value)?;
    cgroup.write(file, value)
}

/// The control files of one directory.
struct Cgroup<'a> {
    files: &'a dyn Files,
    dir: PathBuf,
}

impl Cgroup<'_> {
    fn try_write(&self, file: &str, value: &str) -> Result<(), Errno> {
        self.files.write(&self.dir.join(file), value)
    }

    fn refused(&self, file: &str, value: &str) -> impl FnOnce(Errno) -> Error {
        Error::limit(self.dir.join(file), value)
    }

    fn write(&self, file: &str, value: &str) -> Result<(), Error> {
        self.try_write(file, value).map_err(self.refused(file, value))
    }

    /// A kernel that does not account swap has no such file: no loss if there was nothing to limit.
    fn write_swap(&self, file: &str, value: &str, meaning: Amount) -> Result<(), Error> {
        match self.try_write(file, value) {
            Err(e) if is_absent(e) && meaning == Amount::Unlimited => Ok(()),
            outcome => outcome.map_err(self.refused(file, value)),
        }
    }

    /// Two values that the kernel checks together (and against the parent's): either order may be the right one.
    fn pair(&self, first: &(&str, String), second: &(&str, String)) -> Result<(), Error> {
        match self.try_write(first.0, &first.1) {
            Err(Errno::INVAL) => {
                self.write(second.0, &second.1)?;
                self.write(first.0, &first.1)
            }
            outcome => {
                outcome.map_err(self.refused(first.0, &first.1))?;
                self.write(second.0, &second.1)
            }
        }
    }
}
