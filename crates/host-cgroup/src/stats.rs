//! What the kernel counts for a leaf: CPU time, memory, processes, block devices, waiting, kills for want of memory.
//!
//! Usage is the leaf's own, for the caller's path may hold others. What belongs to a limit - the limit itself, how often
//! it was hit, throttling - is the path's, where the limits are. It changes nothing, and a file that is not there (a
//! controller that is not used, an older kernel) leaves its value out. [`Stats`] is a plain value that outlives the
//! leaf.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::{Files, is_absent};
use crate::usage::{limit_of, oom_kills_in};
use crate::{Error, LeafPlan, Version, WholePlan};

/// A sample of what a leaf uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Whether the host accounts memory by cgroup v2; where it accounts none, whether it has v2 alone.
    pub is_v2: bool,
    /// CPU time.
    pub cpu: Option<CpuStats>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Processes and threads.
    pub pids: Option<PidsStats>,
    /// Block devices; `None`: not accounted.
    pub io: Option<IoStats>,
    /// How many processes the kernel has killed for want of memory.
    pub oom_kills: u64,
}

/// CPU time, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuStats {
    /// All of it.
    pub total_ns: u64,
    /// Outside of the kernel.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
    /// Of each processor; v1 alone counts this.
    pub per_cpu_ns: Vec<u64>,
    /// Periods of the quota that have passed.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled: u64,
    /// How long somebody had to wait for the next period.
    pub throttled_ns: u64,
    /// Waiting for a processor.
    pub pressure: Option<Pressure>,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryStats {
    /// Memory, without swap.
    pub memory: Counter,
    /// v1: memory and swap together; v2: swap alone. `None`: not accounted.
    pub swap: Option<Counter>,
    /// Kernel memory; v1 alone counts it apart.
    pub kernel: Option<Counter>,
    /// TCP buffers; v1 alone counts them apart.
    pub kernel_tcp: Option<Counter>,
    /// `memory.stat`, by the kernel's names.
    pub stat: BTreeMap<String, u64>,
    /// `memory.events`, by the kernel's names; v2 alone has it.
    pub events: BTreeMap<String, u64>,
    /// Waiting for memory.
    pub pressure: Option<Pressure>,
}

/// What went to and came from block devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IoStats {
    /// Each of them.
    pub devices: Vec<DeviceIo>,
    /// Waiting for them.
    pub pressure: Option<Pressure>,
}

/// What went to and came from one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceIo {
    /// Its major number.
    pub major: u64,
    /// Its minor number.
    pub minor: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
    /// How often something was read.
    pub reads: u64,
    /// How often something was written.
    pub writes: u64,
}

/// Pressure stall information (the kernel's Documentation/accounting/psi.rst); v2 alone has it by cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pressure {
    /// Some of the tasks waited.
    pub some: Stall,
    /// All of them did at once.
    pub full: Stall,
}

/// For how long tasks waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stall {
    /// Of the last 10, 60 and 300 seconds, in hundredths of a per cent.
    pub averages: [u32; 3],
    /// All in all, in microseconds.
    pub total_us: u64,
}

/// What is used of one thing, and what may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counter {
    /// Now.
    pub usage: u64,
    /// At most so far; 0: the kernel does not say.
    pub max: u64,
    /// The limit; `None`: none.
    pub limit: Option<u64>,
    /// How often the limit was hit.
    pub failures: u64,
}

/// Processes and threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PidsStats {
    /// How many there are.
    pub current: u64,
    /// How many there may be; `None`: no limit.
    pub limit: Option<u64>,
}

/// Takes a sample of a leaf.
pub fn stats(files: &dyn Files, plan: &LeafPlan) -> Result<Stats, Error> {
    let places = plan.hierarchies.iter().map(|h| Place {
        version: h.version,
        controllers: &h.controllers,
        leaf: h.leaf_dir(),
        path: h.dir(),
    });
    sample(files, &places.collect::<Vec<_>>())
}

/// Takes a sample of a whole path, with what is below it.
pub fn stats_of_whole(files: &dyn Files, plan: &WholePlan) -> Result<Stats, Error> {
    let places = plan.hierarchies.iter().map(|h| Place {
        version: h.version,
        controllers: &h.controllers,
        leaf: h.dir(),
        path: h.dir(),
    });
    sample(files, &places.collect::<Vec<_>>())
}

/// Where one hierarchy counts.
struct Place<'a> {
    version: Version,
    controllers: &'a [String],
    /// What is used.
    leaf: PathBuf,
    /// Where the limits are.
    path: PathBuf,
}

impl Place<'_> {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }
}

fn sample(files: &dyn Files, places: &[Place<'_>]) -> Result<Stats, Error> {
    let memory = places.iter().find(|h| h.has("memory"));
    let kills = memory.map_or(Ok(None), |h| oom_kills_in(files, h.version, &h.leaf))?;
    let mut stats = Stats {
        is_v2: match memory {
            Some(h) => h.version == Version::V2,
            None => places.iter().all(|h| h.version == Version::V2),
        },
        oom_kills: kills.unwrap_or(0),
        ..Stats::default()
    };
    for h in places {
        let look = Look { files, h };
        if h.version == Version::V1 && h.has("cpuacct") {
            look.cpuacct(stats.cpu.get_or_insert_default())?;
        }
        // The v2 tree counts CPU time without any controller; on a hybrid host v1 counts it, too.
        if h.has("cpu") || (h.version == Version::V2 && stats.is_v2) {
            look.cpu(stats.cpu.get_or_insert_default())?;
        }
        if h.has("memory") {
            stats.memory = Some(look.memory()?);
        }
        if h.has("pids") {
            let current = look.leaf("pids.current")?.unwrap_or(0);
            stats.pids = Some(PidsStats { current, limit: look.path("pids.max")? });
        }
        match h.version {
            Version::V1 if h.has("blkio") => stats.io = Some(look.blkio()?),
            Version::V2 if h.has("io") => stats.io = Some(look.io()?),
            _ => {}
        }
    }
    Ok(stats)
}

/// One hierarchy.
struct Look<'a> {
    files: &'a dyn Files,
    h: &'a Place<'a>,
}

impl Look<'_> {
    fn cpuacct(&self, cpu: &mut CpuStats) -> Result<(), Error> {
        cpu.total_ns = self.leaf("cpuacct.usage")?.unwrap_or(0);
        cpu.user_ns = self.leaf("cpuacct.usage_user")?.unwrap_or(0);
        cpu.system_ns = self.leaf("cpuacct.usage_sys")?.unwrap_or(0);
        let per_cpu = self.text(&self.h.leaf, "cpuacct.usage_percpu")?.unwrap_or_default();
        cpu.per_cpu_ns = per_cpu.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
        Ok(())
    }

    fn cpu(&self, cpu: &mut CpuStats) -> Result<(), Error> {
        let limited = self.table(&self.h.path, "cpu.stat")?;
        let of = |table: &BTreeMap<String, u64>, key: &str| table.get(key).copied().unwrap_or(0);
        cpu.periods = of(&limited, "nr_periods");
        cpu.throttled = of(&limited, "nr_throttled");
        if self.h.version == Version::V1 {
            cpu.throttled_ns = of(&limited, "throttled_time");
            return Ok(());
        }
        let own = self.table(&self.h.leaf, "cpu.stat")?;
        let us = |table, key| of(table, key).saturating_mul(1000);
        cpu.throttled_ns = us(&limited, "throttled_usec");
        cpu.total_ns = us(&own, "usage_usec");
        cpu.user_ns = us(&own, "user_usec");
        cpu.system_ns = us(&own, "system_usec");
        cpu.pressure = self.pressure("cpu.pressure")?;
        Ok(())
    }

    /// Lines of a device, an operation and a number.
    fn blkio(&self) -> Result<IoStats, Error> {
        let mut devices: BTreeMap<(u64, u64), DeviceIo> = BTreeMap::new();
        for (file, is_bytes) in
            [("blkio.throttle.io_service_bytes", true), ("blkio.throttle.io_serviced", false)]
        {
            let text = self.text(&self.h.leaf, file)?.unwrap_or_default();
            for line in text.lines() {
                let words: Vec<&str> = line.split_ascii_whitespace().collect();
                let [device, operation, number] = words[..] else { continue };
                let (Some(device), Ok(number)) = (device_of(device), number.parse()) else { continue };
                let io = devices.entry(device).or_default();
                match (operation, is_bytes) {
                    ("Read", true) => io.read_bytes = number,
                    ("Write", true) => io.written_bytes = number,
                    ("Read", false) => io.reads = number,
                    ("Write", false) => io.writes = number,
                    // Sums and other divisions of the same.
                    _ => {}
                }
            }
        }
        let named = |((major, minor), io)| DeviceIo { major, minor, ..io };
        Ok(IoStats { devices: devices.into_iter().map(named).collect(), pressure: None })
    }

    /// A line for each device: `MAJOR:MINOR KEY=NUMBER...`.
    fn io(&self) -> Result<IoStats, Error> {
        let text = self.text(&self.h.leaf, "io.stat")?.unwrap_or_default();
        let line = |line: &str| {
            let (device, rest) = line.split_once(' ')?;
            let (major, minor) = device_of(device)?;
            let mut io = DeviceIo { major, minor, ..DeviceIo::default() };
            for (key, number) in rest.split_ascii_whitespace().filter_map(|pair| pair.split_once('=')) {
                let Ok(number) = number.parse() else { continue };
                match key {
                    "rbytes" => io.read_bytes = number,
                    "wbytes" => io.written_bytes = number,
                    "rios" => io.reads = number,
                    "wios" => io.writes = number,
                    _ => {}
                }
            }
            Some(io)
        };
        let devices = text.lines().filter_map(line).collect();
        Ok(IoStats { devices, pressure: self.pressure("io.pressure")? })
    }

    /// `None`: a kernel without it, or where it is turned off.
    fn pressure(&self, file: &str) -> Result<Option<Pressure>, Error> {
        let Some(text) = self.text(&self.h.leaf, file)? else { return Ok(None) };
        let stall = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            let value = |key: &str| line.split_ascii_whitespace().find_map(|pair| pair.strip_prefix(key));
            // They have two decimals.
            let average = |key: &str| value(key).and_then(|v| v.replace('.', "").parse().ok()).unwrap_or(0);
            Some(Stall {
                averages: ["avg10=", "avg60=", "avg300="].map(average),
                total_us: value("total=")?.parse().ok()?,
            })
        };
        let some = stall("some ");
        Ok(some.map(|some| Pressure { some, full: stall("full ").unwrap_or_default() }))
    }

    fn memory(&self) -> Result<MemoryStats, Error> {
        let (leaf, path) = (&self.h.leaf, &self.h.path);
        let limit = limit_of(self.files, self.h.version, path)?;
        let stat = self.table(leaf, "memory.stat")?;
        if self.h.version == Version::V1 {
            let memory = Counter { limit, ..self.counter_v1("memory.")?.unwrap_or_default() };
            return Ok(MemoryStats {
                memory,
                swap: self.counter_v1("memory.memsw.")?,
                kernel: self.counter_v1("memory.kmem.")?,
                kernel_tcp: self.counter_v1("memory.kmem.tcp.")?,
                stat,
                events: BTreeMap::new(),
                pressure: None,
            });
        }
        let swap = match self.leaf("memory.swap.current")? {
            Some(usage) => Some(Counter {
                usage,
                max: self.leaf("memory.swap.peak")?.unwrap_or(0),
                limit: self.path("memory.swap.max")?,
                failures: 0,
            }),
            None => None,
        };
        let mut events = self.table(path, "memory.events")?;
        // A kill is counted for the cgroup of the killed process, all else for the one whose limit it was.
        events.extend(
            self.table(leaf, "memory.events")?.into_iter().filter(|(k, _)| k.starts_with("oom_kill")),
        );
        let failures = events.get("max").copied().unwrap_or(0);
        let (usage, max) =
            (self.leaf("memory.current")?.unwrap_or(0), self.leaf("memory.peak")?.unwrap_or(0));
        Ok(MemoryStats {
            memory: Counter { usage, max, limit, failures },
            swap,
            kernel: None,
            kernel_tcp: None,
            stat,
            events,
            pressure: self.pressure("memory.pressure")?,
        })
    }

    fn counter_v1(&self, prefix: &str) -> Result<Option<Counter>, Error> {
        let Some(usage) = self.leaf(&format!("{prefix}usage_in_bytes"))? else { return Ok(None) };
        Ok(Some(Counter {
            usage,
            max: self.leaf(&format!("{prefix}max_usage_in_bytes"))?.unwrap_or(0),
            limit: self.path(&format!("{prefix}limit_in_bytes"))?.filter(|n| *n < crate::usage::V1_UNLIMITED),
            failures: self.path(&format!("{prefix}failcnt"))?.unwrap_or(0),
        }))
    }

    /// A file of the leaf that holds one number.
    fn leaf(&self, file: &str) -> Result<Option<u64>, Error> {
        self.number(&self.h.leaf, file)
    }

    /// A file of the caller's path that holds one number.
    fn path(&self, file: &str) -> Result<Option<u64>, Error> {
        self.number(&self.h.path, file)
    }

    /// `None`: there is no such file, or it says `max`.
    fn number(&self, dir: &Path, file: &str) -> Result<Option<u64>, Error> {
        let Some(text) = self.text(dir, file)? else { return Ok(None) };
        match text.trim() {
            "max" => Ok(None),
            number => match number.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Error::Content { file: dir.join(file), text }),
            },
        }
    }

    /// Lines of a name and a number; others are of no use to anybody here.
    fn table(&self, dir: &Path, file: &str) -> Result<BTreeMap<String, u64>, Error> {
        let text = self.text(dir, file)?.unwrap_or_default();
        let line = |line: &str| {
            let (name, number) = line.split_once(' ')?;
            Some((name.to_owned(), number.trim().parse().ok()?))
        };
        Ok(text.lines().filter_map(line).collect())
    }

    /// `None`: there is no such file. A kernel without swap accounting says so when it is read.
    fn text(&self, dir: &Path, file: &str) -> Result<Option<String>, Error> {
        match self.files.read(&dir.join(file)) {
            Ok(text) => Ok(Some(text)),
            Err(e) if is_absent(e) || e == rustix::io::Errno::OPNOTSUPP => Ok(None),
            Err(e) => Err(Error::io("reading", dir.join(file))(e)),
        }
    }
}

fn device_of(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
