//! Limits as values, and the arithmetic between the units of cgroup v1 and v2. Pure.
//!
//! A field that is `None` is not written. A zero is written as it is: that some callers mean "unset" by it is theirs
//! to know.

use serde::{Deserialize, Serialize};

use crate::{Error, Version};

/// A limit, or the lack of one said explicitly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Amount {
    /// No limit: `-1` on v1, `max` on v2.
    Unlimited,
    /// At most this many.
    At(u64),
}

/// What a cgroup may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Memory.
    pub memory: Option<MemoryLimit>,
    /// Memory in bytes that the kernel leaves the cgroup as long as it can: v1's soft limit, v2's `memory.low`.
    pub memory_reservation: Option<Amount>,
    /// CPU time.
    pub cpu_quota: Option<CpuQuota>,
    /// Relative weight of CPU time in v1's unit, 2 to 262144, usually 1024; converted for v2.
    pub cpu_shares: Option<u64>,
    /// Number of processes and threads.
    pub pids: Option<Amount>,
    /// Processors that may be used, e.g. `0-3,5`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used.
    pub cpuset_mems: Option<String>,
    /// Anything else.
    pub extra: Vec<Extra>,
}

/// A limit of memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryLimit {
    /// Memory without swap.
    pub limit: Amount,
    /// Memory *and* swap together, as v1 and OCI count them; v2 gets the difference.
    pub with_swap: Option<Amount>,
}

/// `quota_us` of CPU time in each `period_us`, both in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuQuota {
    /// CPU time per period.
    pub quota_us: Amount,
    /// Length of the period; `None` leaves it (the kernel starts with 100000).
    pub period_us: Option<u64>,
}

/// One more control file, for what has no field of its own (blkio, hugetlb, `memory.high`, ...).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extra {
    /// The interface that the file belongs to.
    pub version: Version,
    /// The controller, e.g. `blkio`.
    pub controller: String,
    /// The file's name; it must begin with the controller's name and a dot.
    pub file: String,
    /// What to write.
    pub value: String,
}

impl Limits {
    /// The controllers without which these limits cannot be kept, and the version if only one will do.
    pub(crate) fn controllers(&self) -> Vec<(&str, Option<Version>)> {
        let cpu = self.cpu_quota.is_some() || self.cpu_shares.is_some();
        let cpuset = self.cpuset_cpus.is_some() || self.cpuset_mems.is_some();
        let plain = [
            ("memory", self.memory.is_some() || self.memory_reservation.is_some()),
            ("cpu", cpu),
            ("pids", self.pids.is_some()),
            ("cpuset", cpuset),
        ];
        let plain = plain.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| (name, None));
        plain.chain(self.extra.iter().map(|e| (e.controller.as_str(), Some(e.version)))).collect()
    }

    /// Refuses what no kernel could take, before anything is made.
    pub(crate) fn check(&self) -> Result<(), Error> {
        for extra in &self.extra {
            let rest = extra.file.strip_prefix(extra.controller.as_str()).and_then(|r| r.strip_prefix('.'));
            // No slash: the file is in the cgroup's own directory. Not "cgroup.": that is no limit.
            let controller = extra.controller.as_str();
            if rest.is_none_or(str::is_empty)
                || extra.file.contains(['/', '\0'])
                || matches!(controller, "" | "cgroup")
            {
                let value = extra.file.clone();
                let reason = "the file's name must be the controller's name, a dot, and more";
                return Err(Error::BadLimit { what: "extra", value, reason });
            }
        }
        if let Some(MemoryLimit { limit, with_swap: Some(total) }) = self.memory {
            swap_alone(limit, total)?;
        }
        Ok(())
    }
}

impl Amount {
    /// As cgroup v1 writes it.
    pub(crate) fn v1(self) -> String {
        match self {
            Amount::Unlimited => "-1".to_owned(),
            Amount::At(n) => n.to_string(),
        }
    }

    /// As cgroup v2 writes it.
    pub(crate) fn v2(self) -> String {
        match self {
            Amount::Unlimited => "max".to_owned(),
            Amount::At(n) => n.to_string(),
        }
    }
}

/// Swap without memory, from memory and both together.
pub(crate) fn swap_alone(limit: Amount, total: Amount) -> Result<Amount, Error> {
    let (limit, total) = match (limit, total) {
        (_, Amount::Unlimited) => return Ok(Amount::Unlimited),
        (Amount::Unlimited, Amount::At(total)) => (u64::MAX, total),
        (Amount::At(limit), Amount::At(total)) => (limit, total),
    };
    let reason = "memory and swap together are less than memory alone";
    let bad = || Error::BadLimit { what: "memory with swap", value: total.to_string(), reason };
    total.checked_sub(limit).map(Amount::At).ok_or_else(bad)
}

/// v1 shares (2 to 262144, default 1024) as v2 weight (1 to 10000, default 100).
///
/// Kubernetes' first, linear formula turns the default share into the weight 39, which starves containers against
/// everything else on the host. This is the curve through both ends and both defaults that runc, crun and cgroups-rs
/// have used since 2025, so that our neighbours in a pod are weighed by the same scale.
pub(crate) fn weight(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    #[expect(clippy::cast_precision_loss, reason = "at most 18 bits")]
    let l = libm::log2(shares as f64);
    let weight = libm::pow(10.0, (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10000")]
    let weight = weight as u64;
    weight.clamp(1, 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights() {
        let pairs: Vec<u64> = [0, 2, 3, 512, 1024, 2048, 262_143, 262_144, u64::MAX].map(weight).into();
        assert_eq!(pairs[0], 1);
        assert_eq!(pairs[1], 1);
        assert_eq!(pairs[4], 100);
        assert_eq!(pairs[8], 10_000);
        assert!(pairs.is_sorted(), "{pairs:?}");
    }

    #[test]
    fn swap_is_a_difference() {
        assert_eq!(swap_alone(Amount::At(10), Amount::At(15)).unwrap(), Amount::At(5));
        assert_eq!(swap_alone(Amount::At(10), Amount::Unlimited).unwrap(), Amount::Unlimited);
        assert!(swap_alone(Amount::At(10), Amount::At(9)).is_err());
        assert!(swap_alone(Amount::Unlimited, Amount::At(9)).is_err());
    }

    #[test]
    fn extra_files_stay_where_they_belong() {
        let check = |controller: &str, file: &str| {
            let (controller, file) = (controller.to_owned(), file.to_owned());
            let extra = vec![Extra { version: Version::V1, controller, file, value: "1".to_owned() }];
            Limits { extra, ..Limits::default() }.check().is_ok()
        };
        assert!(check("blkio", "blkio.weight"));
        for (controller, file) in [
            ("blkio", "blkio"),
            ("blkio", "blkio."),
            ("", ".x"),
            ("cgroup", "cgroup.procs"),
            ("a", "a./../b"),
        ] {
            assert!(!check(controller, file), "{controller} {file}");
        }
    }
}
