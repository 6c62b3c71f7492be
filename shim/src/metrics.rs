//! A sample of a container's usage as containerd's clients read it: the message is that of the host's cgroup version.
//!
//! What was not counted is left out, so that nobody takes it for a zero; a limit that is not there is what containerd's
//! own shim says then. The list of block devices is there also when it is empty: nerdctl dies of a message without it.

use containerd_shim_protos::{cgroups::metrics as v1, cgroups_v2::metrics as v2};
use protobuf::{Message, MessageField, well_known_types::any::Any};
use runtime_core::{Counter, CpuStats, DeviceIo, IoStats, MemoryStats, PidsStats, Pressure, Stall, Stats};

/// v1's way to say that memory has no limit: the largest multiple of a page.
const V1_UNLIMITED: u64 = 0x7fff_ffff_ffff_f000;

/// The message for a sample. containerd compares bare type names.
pub fn any(stats: &Stats) -> protobuf::Result<Any> {
    let (name, value) = if stats.is_v2 {
        ("io.containerd.cgroups.v2.Metrics", unified(stats).write_to_bytes()?)
    } else {
        ("io.containerd.cgroups.v1.Metrics", legacy(stats).write_to_bytes()?)
    };
    Ok(Any { type_url: name.to_owned(), value, ..Any::default() })
}

fn field<T, M>(value: Option<&T>, message: impl FnOnce(&T) -> M) -> MessageField<M> {
    value.map_or_else(MessageField::none, |value| MessageField::some(message(value)))
}

fn legacy(stats: &Stats) -> v1::Metrics {
    let oom = v1::MemoryOomControl { oom_kill: stats.oom_kills, ..v1::MemoryOomControl::default() };
    v1::Metrics {
        cpu: field(stats.cpu.as_ref(), legacy_cpu),
        memory: field(stats.memory.as_ref(), legacy_memory),
        pids: field(stats.pids.as_ref(), |p: &PidsStats| v1::PidsStat {
            current: p.current,
            limit: p.limit.unwrap_or(0),
            ..v1::PidsStat::default()
        }),
        memory_oom_control: field(stats.memory.as_ref(), |_| oom),
        blkio: MessageField::some(stats.io.as_ref().map(legacy_io).unwrap_or_default()),
        ..v1::Metrics::default()
    }
}

fn legacy_io(io: &IoStats) -> v1::BlkIOStat {
    type Value = fn(&DeviceIo) -> u64;
    let entries = |values: [(&str, Value); 2]| {
        let of = |device: &DeviceIo| {
            let entry = |(op, value): (&str, Value)| v1::BlkIOEntry {
                op: op.to_owned(),
                major: device.major,
                minor: device.minor,
                value: value(device),
                ..v1::BlkIOEntry::default()
            };
            values.map(entry)
        };
        io.devices.iter().flat_map(of).collect()
    };
    v1::BlkIOStat {
        io_service_bytes_recursive: entries([("Read", |d| d.read_bytes), ("Write", |d| d.written_bytes)]),
        io_serviced_recursive: entries([("Read", |d| d.reads), ("Write", |d| d.writes)]),
        ..v1::BlkIOStat::default()
    }
}

fn legacy_cpu(cpu: &CpuStats) -> v1::CPUStat {
    let usage = v1::CPUUsage {
        total: cpu.total_ns,
        kernel: cpu.system_ns,
        user: cpu.user_ns,
        per_cpu: cpu.per_cpu_ns.clone(),
        ..v1::CPUUsage::default()
    };
    let throttling = v1::Throttle {
        periods: cpu.periods,
        throttled_periods: cpu.throttled,
        throttled_time: cpu.throttled_ns,
        ..v1::Throttle::default()
    };
    v1::CPUStat {
        usage: MessageField::some(usage),
        throttling: MessageField::some(throttling),
        ..v1::CPUStat::default()
    }
}

fn legacy_memory(memory: &MemoryStats) -> v1::MemoryStat {
    let of = |name: &str| memory.stat.get(name).copied().unwrap_or(0);
    let entry = |c: &Counter| v1::MemoryEntry {
        limit: c.limit.unwrap_or(V1_UNLIMITED),
        usage: c.usage,
        max: c.max,
        failcnt: c.failures,
        ..v1::MemoryEntry::default()
    };
    v1::MemoryStat {
        cache: of("cache"),
        rss: of("rss"),
        rss_huge: of("rss_huge"),
        mapped_file: of("mapped_file"),
        dirty: of("dirty"),
        writeback: of("writeback"),
        pg_pg_in: of("pgpgin"),
        pg_pg_out: of("pgpgout"),
        pg_fault: of("pgfault"),
        pg_maj_fault: of("pgmajfault"),
        inactive_anon: of("inactive_anon"),
        active_anon: of("active_anon"),
        inactive_file: of("inactive_file"),
        active_file: of("active_file"),
        unevictable: of("unevictable"),
        hierarchical_memory_limit: of("hierarchical_memory_limit"),
        hierarchical_swap_limit: of("hierarchical_memsw_limit"),
        total_cache: of("total_cache"),
        total_rss: of("total_rss"),
        total_rss_huge: of("total_rss_huge"),
        total_mapped_file: of("total_mapped_file"),
        total_dirty: of("total_dirty"),
        total_writeback: of("total_writeback"),
        total_pg_pg_in: of("total_pgpgin"),
        total_pg_pg_out: of("total_pgpgout"),
        total_pg_fault: of("total_pgfault"),
        total_pg_maj_fault: of("total_pgmajfault"),
        total_inactive_anon: of("total_inactive_anon"),
        total_active_anon: of("total_active_anon"),
        total_inactive_file: of("total_inactive_file"),
        total_active_file: of("total_active_file"),
        total_unevictable: of("total_unevictable"),
        usage: field(Some(&memory.memory), entry),
        swap: field(memory.swap.as_ref(), entry),
        kernel: field(memory.kernel.as_ref(), entry),
        kernel_tcp: field(memory.kernel_tcp.as_ref(), entry),
        ..v1::MemoryStat::default()
    }
}

fn unified(stats: &Stats) -> v2::Metrics {
    v2::Metrics {
        cpu: field(stats.cpu.as_ref(), |cpu: &CpuStats| v2::CPUStat {
            usage_usec: cpu.total_ns / 1000,
            user_usec: cpu.user_ns / 1000,
            system_usec: cpu.system_ns / 1000,
            nr_periods: cpu.periods,
            nr_throttled: cpu.throttled,
            throttled_usec: cpu.throttled_ns / 1000,
            psi: field(cpu.pressure.as_ref(), psi),
            ..v2::CPUStat::default()
        }),
        memory: field(stats.memory.as_ref(), unified_memory),
        pids: field(stats.pids.as_ref(), |p: &PidsStats| v2::PidsStat {
            current: p.current,
            limit: p.limit.unwrap_or(u64::MAX),
            ..v2::PidsStat::default()
        }),
        memory_events: field(stats.memory.as_ref(), |memory: &MemoryStats| {
            let of = |name: &str| memory.events.get(name).copied().unwrap_or(0);
            v2::MemoryEvents {
                low: of("low"),
                high: of("high"),
                max: of("max"),
                oom: of("oom"),
                oom_kill: stats.oom_kills,
                ..v2::MemoryEvents::default()
            }
        }),
        io: MessageField::some(stats.io.as_ref().map(unified_io).unwrap_or_default()),
        ..v2::Metrics::default()
    }
}

fn unified_io(io: &IoStats) -> v2::IOStat {
    let entry = |device: &DeviceIo| v2::IOEntry {
        major: device.major,
        minor: device.minor,
        rbytes: device.read_bytes,
        wbytes: device.written_bytes,
        rios: device.reads,
        wios: device.writes,
        ..v2::IOEntry::default()
    };
    v2::IOStat {
        usage: io.devices.iter().map(entry).collect(),
        psi: field(io.pressure.as_ref(), psi),
        ..v2::IOStat::default()
    }
}

fn psi(pressure: &Pressure) -> v2::PSIStats {
    let data = |stall: &Stall| {
        let [avg10, avg60, avg300] = stall.averages.map(|hundredths| f64::from(hundredths) / 100.0);
        v2::PSIData { avg10, avg60, avg300, total: stall.total_us, ..v2::PSIData::default() }
    };
    v2::PSIStats {
        some: field(Some(&pressure.some), data),
        full: field(Some(&pressure.full), data),
        ..v2::PSIStats::default()
    }
}

fn unified_memory(memory: &MemoryStats) -> v2::MemoryStat {
    let of = |name: &str| memory.stat.get(name).copied().unwrap_or(0);
    let swap = memory.swap.unwrap_or_default();
    v2::MemoryStat {
        anon: of("anon"),
        file: of("file"),
        kernel_stack: of("kernel_stack"),
        slab: of("slab"),
        sock: of("sock"),
        shmem: of("shmem"),
        file_mapped: of("file_mapped"),
        file_dirty: of("file_dirty"),
        file_writeback: of("file_writeback"),
        anon_thp: of("anon_thp"),
        inactive_anon: of("inactive_anon"),
        active_anon: of("active_anon"),
        inactive_file: of("inactive_file"),
        active_file: of("active_file"),
        unevictable: of("unevictable"),
        slab_reclaimable: of("slab_reclaimable"),
        slab_unreclaimable: of("slab_unreclaimable"),
        pgfault: of("pgfault"),
        pgmajfault: of("pgmajfault"),
        workingset_refault: of("workingset_refault_anon") + of("workingset_refault_file"),
        workingset_activate: of("workingset_activate_anon") + of("workingset_activate_file"),
        workingset_nodereclaim: of("workingset_nodereclaim"),
        pgrefill: of("pgrefill"),
        pgscan: of("pgscan"),
        pgsteal: of("pgsteal"),
        pgactivate: of("pgactivate"),
        pgdeactivate: of("pgdeactivate"),
        pglazyfree: of("pglazyfree"),
        pglazyfreed: of("pglazyfreed"),
        thp_fault_alloc: of("thp_fault_alloc"),
        thp_collapse_alloc: of("thp_collapse_alloc"),
        usage: memory.memory.usage,
        usage_limit: memory.memory.limit.unwrap_or(u64::MAX),
        max_usage: memory.memory.max,
        swap_usage: swap.usage,
        swap_limit: swap.limit.unwrap_or(u64::MAX),
        swap_max_usage: swap.max,
        psi: field(memory.pressure.as_ref(), psi),
        ..v2::MemoryStat::default()
    }
}

#[cfg(test)]
mod tests {
    use protobuf::MessageFull;

    use super::*;

    fn sample(is_v2: bool) -> Stats {
        let memory = MemoryStats {
            memory: Counter { usage: 7, max: 9, limit: None, failures: 1 },
            stat: [("total_rss".to_owned(), 5), ("anon".to_owned(), 6)].into(),
            ..MemoryStats::default()
        };
        let cpu = CpuStats { total_ns: 5000, ..CpuStats::default() };
        let disk = DeviceIo { major: 254, read_bytes: 4096, written_bytes: 8192, ..DeviceIo::default() };
        let some = Stall { averages: [150, 0, 0], total_us: 9 };
        let pressure = is_v2.then_some(Pressure { some, ..Pressure::default() });
        let io = Some(IoStats { devices: vec![disk], pressure });
        Stats { is_v2, cpu: Some(cpu), memory: Some(memory), pids: None, io, oom_kills: 2 }
    }

    #[test]
    fn a_v1_sample_counts_nanoseconds() {
        let any = any(&sample(false)).unwrap();
        assert_eq!(any.type_url, v1::Metrics::descriptor().full_name());
        let metrics = v1::Metrics::parse_from_bytes(&any.value).unwrap();
        assert_eq!(metrics.cpu.usage.total, 5000);
        assert_eq!((metrics.memory.usage.usage, metrics.memory.usage.limit), (7, V1_UNLIMITED));
        assert_eq!((metrics.memory.total_rss, metrics.memory_oom_control.oom_kill), (5, 2));
        assert!(metrics.pids.is_none() && metrics.memory.swap.is_none());
        let moved = &metrics.blkio.io_service_bytes_recursive;
        let moved: Vec<_> = moved.iter().map(|e| (e.op.as_str(), e.major, e.value)).collect();
        assert_eq!(moved, [("Read", 254, 4096), ("Write", 254, 8192)]);
    }

    #[test]
    fn a_v2_sample_counts_microseconds() {
        let any = any(&sample(true)).unwrap();
        assert_eq!(any.type_url, v2::Metrics::descriptor().full_name());
        let metrics = v2::Metrics::parse_from_bytes(&any.value).unwrap();
        assert_eq!(metrics.cpu.usage_usec, 5);
        assert_eq!((metrics.memory.usage, metrics.memory.usage_limit, metrics.memory.anon), (7, u64::MAX, 6));
        assert_eq!(metrics.memory_events.oom_kill, 2);
        assert_eq!((metrics.io.usage[0].major, metrics.io.usage[0].wbytes), (254, 8192));
        assert_eq!((metrics.io.psi.some.avg10, metrics.io.psi.some.total), (1.5, 9));
    }
}
