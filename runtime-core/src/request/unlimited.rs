//! What a spec's resources ask for that no cgroup of ours limits: Create names it in the log, Update refuses it.

use oci_spec::runtime::LinuxResources;

/// The fields, without what stands before them.
pub(crate) fn ignored(resources: &LinuxResources) -> Vec<&'static str> {
    let (memory, cpu) = (resources.memory().as_ref(), resources.cpu().as_ref());
    // As a kubelet writes it for a container without a limit.
    let period_alone = cpu.is_some_and(|c| c.period().is_some() && c.quota().is_none_or(|q| q == 0));
    let fields = [
        ("cpu.period without a quota", period_alone),
        ("cpu.realtimePeriod", cpu.is_some_and(|c| c.realtime_period().is_some_and(|p| p != 0))),
        ("cpu.realtimeRuntime", cpu.is_some_and(|c| c.realtime_runtime().is_some_and(|r| r != 0))),
        ("memory.swappiness", memory.is_some_and(|m| m.swappiness().is_some())),
        ("memory.disableOOMKiller", memory.is_some_and(|m| m.disable_oom_killer() == Some(true))),
        ("memory.kernel", memory.and_then(|m| m.kernel()).is_some_and(|v| v != 0)),
        ("blockIO", resources.block_io().is_some()),
        (
            "hugepageLimits",
            resources.hugepage_limits().as_ref().is_some_and(|l| l.iter().any(|l| l.limit() > 0)),
        ),
        ("unified", resources.unified().as_ref().is_some_and(|u| !u.is_empty())),
    ];
    fields.into_iter().filter(|(_, asked)| *asked).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_asked_for_is_named_and_nothing_else() {
        let named = |resources: Value| ignored(&serde_json::from_value(resources).unwrap());
        let nothing = json!({"memory": {"limit": 1, "disableOOMKiller": false}, "cpu": {"realtimePeriod": 0},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 0}], "unified": {}});
        assert_eq!(named(nothing), Vec::<&str>::new());
        let all = json!({"memory": {"swappiness": 0, "disableOOMKiller": true, "kernel": 1},
            "cpu": {"realtimePeriod": 1, "realtimeRuntime": 1, "period": 1}, "blockIO": {"weight": 10},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1}], "unified": {"memory.high": "1"}});
        assert_eq!(named(all).len(), 9);
    }
}
