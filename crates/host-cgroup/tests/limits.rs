//! Limits and counts in the machine's own cgroups.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::fs;

use common::{Failing, Place, Proc, eventually};
use host_cgroup::{
    Amount, CpuQuota, Error, Extra, Kernel, LeafPlan, Limits, MemoryLimit, ParentRoom, Version, create,
    memory_limit, oom_kills, parent_room, set_limits,
};
use rustix::io::Errno;

const MIB: u64 = 1 << 20;

fn memory(limit: Amount, with_swap: Option<Amount>) -> Limits {
    Limits { memory: Some(MemoryLimit { limit, with_swap }), ..Limits::default() }
}

/// The content of a control file of the caller's path, or of the leaf.
fn shown(plan: &LeafPlan, in_leaf: bool, file: &str) -> String {
    let controller = file.split('.').next().unwrap();
    let h = plan.hierarchies.iter().find(|h| h.controllers.iter().any(|c| c == controller)).unwrap();
    let dir = if in_leaf { h.leaf_dir() } else { h.dir() };
    fs::read_to_string(dir.join(file)).unwrap().trim().to_owned()
}

/// A place where memory is limited by this version.
fn place_on(version: Version) -> Option<Place> {
    let place = Place::new()?;
    if place.has_v1() != (version == Version::V1) {
        eprintln!("skipped: the controllers are in the other version");
        return None;
    }
    Some(place)
}

#[test]
fn limits_are_really_there_on_v2() {
    let Some(place) = place_on(Version::V2) else { return };
    let limits = Limits {
        memory: Some(MemoryLimit { limit: Amount::At(64 * MIB), with_swap: Some(Amount::At(96 * MIB)) }),
        memory_reservation: Some(Amount::At(32 * MIB)),
        cpu_quota: Some(CpuQuota { quota_us: Amount::At(30_000), period_us: Some(50_000) }),
        cpu_shares: Some(2048),
        pids: Some(Amount::At(77)),
        cpuset_cpus: Some("0".to_owned()),
        cpuset_mems: Some("0".to_owned()),
        extra: vec![Extra {
            version: Version::V2,
            controller: "memory".to_owned(),
            file: "memory.high".to_owned(),
            value: (48 * MIB).to_string(),
        }],
    };
    let plan = place.plan("/a/id", "t1", &limits).unwrap();
    create(&Kernel, &plan, &limits, &place.notes).unwrap();
    let at = |file| shown(&plan, false, file);
    assert_eq!(at("memory.max"), (64 * MIB).to_string());
    assert_eq!(at("memory.swap.max"), (32 * MIB).to_string());
    assert_eq!(at("memory.high"), (48 * MIB).to_string());
    assert_eq!(at("memory.low"), (32 * MIB).to_string());
    assert_eq!(shown(&plan, true, "memory.low"), (32 * MIB).to_string());
    assert_eq!(at("cpu.max"), "30000 50000");
    // 1024 shares are the default weight, 100.
    assert!(at("cpu.weight").parse::<u32>().unwrap() > 100, "{}", at("cpu.weight"));
    assert_eq!(at("pids.max"), "77");
    assert_eq!(at("cpuset.cpus"), "0");
    assert_eq!(at("cpuset.mems"), "0");
    assert_eq!(memory_limit(&Kernel, &plan).unwrap(), Some(64 * MIB));

    for (n, m) in [(128, 256), (32, 32), (64, 64)] {
        let both = memory(Amount::At(n * MIB), Some(Amount::At(m * MIB)));
        set_limits(&Kernel, &plan, &both).unwrap();
        assert_eq!(memory_limit(&Kernel, &plan).unwrap(), Some(n * MIB));
        assert_eq!(shown(&plan, false, "memory.swap.max"), ((m - n) * MIB).to_string());
    }
    set_limits(&Kernel, &plan, &memory(Amount::Unlimited, None)).unwrap();
    assert_eq!(memory_limit(&Kernel, &plan).unwrap(), None);
    // The leaf takes processes.
    drop(Proc::inside(&plan, "exit"));
    place.remove(&plan);
    assert!(place.dirs().is_empty());
}

#[test]
fn limits_are_really_there() {
    let Some(place) = place_on(Version::V1) else { return };
    let limits = Limits {
        memory: Some(MemoryLimit { limit: Amount::At(64 * MIB), with_swap: Some(Amount::At(96 * MIB)) }),
        memory_reservation: Some(Amount::At(32 * MIB)),
        cpu_quota: Some(CpuQuota { quota_us: Amount::At(30_000), period_us: Some(50_000) }),
        cpu_shares: Some(512),
        pids: Some(Amount::At(77)),
        cpuset_cpus: Some("0".to_owned()),
        cpuset_mems: Some("0".to_owned()),
        extra: vec![Extra {
            version: Version::V1,
            controller: "memory".to_owned(),
            file: "memory.swappiness".to_owned(),
            value: "7".to_owned(),
        }],
    };
    let plan = place.plan("/a/id", "t1", &limits).unwrap();
    create(&Kernel, &plan, &limits, &place.notes).unwrap();
    let at = |file| shown(&plan, false, file);
    assert_eq!(at("memory.limit_in_bytes"), (64 * MIB).to_string());
    assert_eq!(at("memory.memsw.limit_in_bytes"), (96 * MIB).to_string());
    assert_eq!(at("memory.swappiness"), "7");
    assert_eq!(at("memory.soft_limit_in_bytes"), (32 * MIB).to_string());
    assert_eq!(at("cpu.cfs_quota_us"), "30000");
    assert_eq!(at("cpu.cfs_period_us"), "50000");
    assert_eq!(at("cpu.shares"), "512");
    assert_eq!(at("pids.max"), "77");
    assert_eq!(at("cpuset.cpus"), "0");
    assert_eq!(shown(&plan, true, "cpuset.cpus"), "0");
    assert_eq!(shown(&plan, true, "cpuset.mems"), "0");
    assert_eq!(memory_limit(&Kernel, &plan).unwrap(), Some(64 * MIB));
    // The leaf takes processes in every hierarchy, cpuset included.
    drop(Proc::inside(&plan, "exit"));
    place.remove(&plan);
    assert!(place.dirs().is_empty());
}

#[test]
fn limits_change_in_both_directions() {
    let Some(place) = place_on(Version::V1) else { return };
    let both = |n: u64, m: u64| memory(Amount::At(n * MIB), Some(Amount::At(m * MIB)));
    let mut limits = both(64, 64);
    limits.cpuset_cpus = Some("0".to_owned());
    let plan = place.plan("/id", "t1", &limits).unwrap();
    create(&Kernel, &plan, &limits, &place.notes).unwrap();
    for (n, m) in [(128, 256), (32, 32), (64, 64)] {
        set_limits(&Kernel, &plan, &both(n, m)).unwrap();
        assert_eq!(memory_limit(&Kernel, &plan).unwrap(), Some(n * MIB));
        assert_eq!(shown(&plan, false, "memory.memsw.limit_in_bytes"), (m * MIB).to_string());
    }
    set_limits(&Kernel, &plan, &memory(Amount::Unlimited, None)).unwrap();
    assert_eq!(memory_limit(&Kernel, &plan).unwrap(), None);
    let reserve = |amount| Limits { memory_reservation: Some(amount), ..Limits::default() };
    set_limits(&Kernel, &plan, &reserve(Amount::At(MIB))).unwrap();
    assert_eq!(shown(&plan, false, "memory.soft_limit_in_bytes"), MIB.to_string());
    set_limits(&Kernel, &plan, &reserve(Amount::Unlimited)).unwrap();
    assert!(shown(&plan, false, "memory.soft_limit_in_bytes").parse::<u64>().unwrap() > 1 << 62);
    for (quota_us, period_us) in [(100_000, 1_000_000), (1000, 1000), (900_000, 1_000_000)] {
        let cpu_quota = Some(CpuQuota { quota_us: Amount::At(quota_us), period_us: Some(period_us) });
        set_limits(&Kernel, &plan, &Limits { cpu_quota, ..Limits::default() }).unwrap();
        assert_eq!(shown(&plan, false, "cpu.cfs_quota_us"), quota_us.to_string());
        assert_eq!(shown(&plan, false, "cpu.cfs_period_us"), period_us.to_string());
    }
    for cpus in ["1", "0-1", "0"] {
        let change = Limits { cpuset_cpus: Some(cpus.to_owned()), ..Limits::default() };
        set_limits(&Kernel, &plan, &change).unwrap();
        assert_eq!(shown(&plan, false, "cpuset.cpus"), cpus);
        assert_eq!(shown(&plan, true, "cpuset.cpus"), cpus);
    }
    place.remove(&plan);
}

#[test]
fn only_what_is_limited_is_used() {
    let Some(place) = place_on(Version::V1) else { return };
    let uses =
        |plan: &LeafPlan, c: &str| plan.hierarchies.iter().any(|h| h.controllers.iter().any(|x| x == c));
    let plan = place.plain("/id", "t1");
    for always in ["memory", "cpu", "cpuacct", "pids"] {
        assert!(uses(&plan, always), "{always}");
    }
    for asked in ["cpuset", "blkio", "devices", "freezer"] {
        assert!(!uses(&plan, asked), "{asked}");
    }
    let mut limits = Limits { cpuset_mems: Some("0".to_owned()), ..Limits::default() };
    assert!(uses(&place.plan("/id", "t1", &limits).unwrap(), "cpuset"));
    let extra = |controller: &str, file: &str| Extra {
        version: Version::V1,
        controller: controller.to_owned(),
        file: file.to_owned(),
        value: "1".to_owned(),
    };
    limits.extra = vec![extra("blkio", "blkio.reset_stats")];
    let plan = place.plan("/id", "t1", &limits).unwrap();
    assert!(uses(&plan, "blkio"));
    limits.extra = vec![extra("nonsense", "nonsense.max")];
    let outcome = place.plan("/id", "t1", &limits);
    assert!(matches!(outcome, Err(Error::NoController { ref controller, .. }) if controller == "nonsense"));
}

#[test]
fn a_limit_that_is_refused_names_file_and_value() {
    let Some(place) = Place::new() else { return };
    // v2 takes any list of CPUs, and uses those that are there.
    let wrong = if place.has_v1() { "4000" } else { "none" };
    let limits = Limits { cpuset_cpus: Some(wrong.to_owned()), ..Limits::default() };
    let plan = place.plan("/id", "t1", &limits).unwrap();
    match create(&Kernel, &plan, &limits, &place.notes) {
        Err(Error::Limit { file, value, .. }) => {
            assert!(file.ends_with("id/cpuset.cpus"), "{}", file.display());
            assert!(value.ends_with(wrong), "{value}");
        }
        other => panic!("{other:?}"),
    }
    place.remove(&plan);
    assert!(place.dirs().is_empty());

    let limits = memory(Amount::At(MIB), None);
    let plan = place.plan("/id", "t1", &limits).unwrap();
    let file = if place.has_v1() { "memory.limit_in_bytes" } else { "memory.max" };
    let refuse =
        |op: &str, path: &std::path::Path, _| (op == "write" && path.ends_with(file)).then_some(Errno::BUSY);
    let outcome = create(&Failing::new(&Kernel, refuse), &plan, &limits, &place.notes);
    assert!(matches!(outcome, Err(Error::Limit { source: Errno::BUSY, .. })), "{outcome:?}");
    place.remove(&plan);
    assert!(place.dirs().is_empty());
}

#[test]
fn room_below_the_nearest_limited_ancestor() {
    let Some(place) = Place::new() else { return };
    let child = |name: &str, limit: Option<u64>| {
        let limits = limit.map_or_else(Limits::default, |n| memory(Amount::At(n * MIB), None));
        let plan = place.plan(name, "x", &limits).unwrap();
        create(&Kernel, &plan, &limits, &place.notes).unwrap();
    };
    let ours = place.plain("/pod/deep/ours", "t1");
    assert_eq!(parent_room(&Kernel, &ours).unwrap(), None);
    child("/pod", Some(1000));
    child("/pod/a", Some(300));
    child("/pod/b", Some(100));
    child("/pod/unlimited", None);
    child("/pod/deep/ours", Some(5));
    child("/elsewhere", Some(7));
    let room = parent_room(&Kernel, &ours).unwrap().unwrap();
    assert_eq!(room, ParentRoom { limit: 1000 * MIB, others: 400 * MIB });
    assert_eq!(room.bytes(), 600 * MIB);
    // What the child on the way to us is allowed is not taken from us.
    let a = parent_room(&Kernel, &place.plain("/pod/a", "t1")).unwrap().unwrap();
    assert_eq!(a.others, 100 * MIB);
    child("/pod/greedy", Some(2000));
    assert_eq!(parent_room(&Kernel, &ours).unwrap().unwrap().bytes(), 0);
    // Its own limit is no ancestor's.
    assert_eq!(parent_room(&Kernel, &place.plain("/pod", "t1")).unwrap(), None);
}

#[test]
fn oom_kills_are_counted_in_the_leaf() {
    let Some(place) = Place::new() else { return };
    let limits = memory(Amount::At(16 * MIB), Some(Amount::At(16 * MIB)));
    let plan = place.plan("/id", "t1", &limits).unwrap();
    assert_eq!(oom_kills(&Kernel, &plan).unwrap(), None);
    create(&Kernel, &plan, &limits, &place.notes).unwrap();
    assert_eq!(oom_kills(&Kernel, &plan).unwrap(), Some(0));
    // tail keeps all of a line that never ends.
    let mut greedy = Proc::inside(&plan, "exec tail /dev/zero");
    eventually("its end", || !greedy.is_alive());
    assert!(oom_kills(&Kernel, &plan).unwrap() >= Some(1));
    place.remove(&plan);
}
