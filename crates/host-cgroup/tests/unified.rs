//! A host with cgroup v2 alone, and its controllers: an imitation in a temporary directory, because the machines that
//! run these tests may have a v2 tree without controllers. The imitation keeps the kernel's rules that matter here.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::cell::Cell;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Failing, Proc, soon};
use host_cgroup::{
    Amount, CgroupsPath, CpuQuota, DeviceIo, DirId, Error, Extra, Files, Hierarchies, Kernel, LeafPlan,
    Limits, MemoryLimit, Notes, ParentRoom, PidsStats, Presence, Pressure, Stall, Version, create, kill,
    memory_limit, oom_kills, parent_room, probe, procs, remove, stats,
};
use rustix::io::Errno;

const MOUNT: &str = "sys/fs/cgroup";

/// A cgroup v2 tree: directories come with files, which controllers decide, and go although they hold files.
struct Unified {
    host: tempfile::TempDir,
}

impl Unified {
    fn new(own: &str) -> Self {
        let unified = Self { host: tempfile::tempdir().unwrap() };
        let at = unified.host.path();
        fs::create_dir_all(at.join("proc/self")).unwrap();
        let line = format!("30 1 0:26 / /{MOUNT} rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
        fs::write(at.join("proc/self/mountinfo"), line).unwrap();
        fs::write(at.join("proc/self/cgroup"), format!("0::{own}\n")).unwrap();
        fs::create_dir_all(at.join(MOUNT)).unwrap();
        unified.file("cgroup.controllers", "cpuset cpu io memory hugetlb pids");
        unified.file("cgroup.subtree_control", "");
        unified.file("cgroup.procs", "1\n");
        unified
    }

    fn at(&self, file: &str) -> PathBuf {
        self.host.path().join(MOUNT).join(file)
    }

    fn file(&self, file: &str, content: &str) {
        fs::write(self.at(file), content).unwrap();
    }

    fn shown(&self, file: &str) -> String {
        fs::read_to_string(self.at(file)).unwrap().trim().to_owned()
    }

    fn plan(&self, path: &str, limits: &Limits) -> Result<LeafPlan, Error> {
        let hierarchies = Hierarchies::detect_in(self.host.path()).unwrap();
        LeafPlan::new(self, &hierarchies, &CgroupsPath::parse(path).unwrap(), "t1", limits)
    }

    fn notes(&self) -> Notes {
        Notes::new(self.host.path().join("notes"))
    }

    fn files_of(dir: &Path, controllers: &str) {
        let all = [
            ("memory", "memory.max", "max"),
            ("memory", "memory.swap.max", "max"),
            ("memory", "memory.high", "max"),
            ("memory", "memory.low", "0"),
            ("memory", "memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 0"),
            ("cpu", "cpu.max", "max 100000"),
            ("cpu", "cpu.weight", "100"),
            ("pids", "pids.max", "max"),
            ("cpuset", "cpuset.cpus", ""),
            ("cpuset", "cpuset.mems", ""),
        ];
        for (controller, file, content) in all {
            if controllers.split_whitespace().any(|c| c == controller) && !dir.join(file).exists() {
                fs::write(dir.join(file), content).unwrap();
            }
        }
        fs::write(dir.join("cgroup.controllers"), controllers).unwrap();
    }

    fn text(dir: &Path, file: &str) -> String {
        fs::read_to_string(dir.join(file)).unwrap_or_default()
    }

    fn enable(&self, dir: &Path, value: &str) -> Result<(), Errno> {
        let available = Self::text(dir, "cgroup.controllers");
        let mut enabled = Self::text(dir, "cgroup.subtree_control");
        // No controllers below a directory that holds processes itself; the root may.
        if dir != self.at("") && !Self::text(dir, "cgroup.procs").trim().is_empty() {
            return Err(Errno::BUSY);
        }
        for one in value.split_whitespace() {
            let name = one.strip_prefix('+').ok_or(Errno::INVAL)?;
            if !available.split_whitespace().any(|c| c == name) {
                return Err(Errno::NOENT);
            }
            enabled = format!("{enabled} {name}");
        }
        fs::write(dir.join("cgroup.subtree_control"), &enabled).unwrap();
        for child in Kernel.subdirs(dir)? {
            Self::files_of(&child, &enabled);
        }
        Ok(())
    }
}

impl Files for Unified {
    fn mkdir(&self, dir: &Path) -> Result<(), Errno> {
        Kernel.mkdir(dir)?;
        Self::files_of(dir, &Self::text(dir.parent().unwrap(), "cgroup.subtree_control"));
        for file in ["cgroup.procs", "cgroup.subtree_control", "cgroup.kill"] {
            fs::write(dir.join(file), "").unwrap();
        }
        Ok(())
    }
    fn rmdir(&self, dir: &Path) -> Result<(), Errno> {
        if !Kernel.subdirs(dir)?.is_empty() || !Self::text(dir, "cgroup.procs").trim().is_empty() {
            return Err(Errno::BUSY);
        }
        fs::remove_dir_all(dir).unwrap();
        Ok(())
    }
    fn read(&self, file: &Path) -> Result<String, Errno> {
        Kernel.read(file)
    }
    fn write(&self, file: &Path, value: &str) -> Result<(), Errno> {
        drop(Kernel.open(file)?);
        let dir = file.parent().unwrap();
        match file.file_name().unwrap().to_str().unwrap() {
            "cgroup.subtree_control" => return self.enable(dir, value),
            "cgroup.kill" => fs::write(dir.join("cgroup.procs"), "").unwrap(),
            _ => {}
        }
        fs::write(file, value).unwrap();
        Ok(())
    }
    fn open(&self, file: &Path) -> Result<OwnedFd, Errno> {
        Kernel.open(file)
    }
    fn subdirs(&self, dir: &Path) -> Result<Vec<PathBuf>, Errno> {
        Kernel.subdirs(dir)
    }
    fn identity(&self, dir: &Path) -> Result<DirId, Errno> {
        Kernel.identity(dir)
    }
}

fn limits() -> Limits {
    Limits {
        memory: Some(MemoryLimit { limit: Amount::At(1000), with_swap: Some(Amount::At(1500)) }),
        memory_reservation: Some(Amount::At(700)),
        cpu_quota: Some(CpuQuota { quota_us: Amount::At(50_000), period_us: Some(200_000) }),
        cpu_shares: Some(1024),
        pids: Some(Amount::Unlimited),
        ..Limits::default()
    }
}

#[test]
fn controllers_are_enabled_down_to_the_leaf_and_limits_written() {
    let host = Unified::new("/user.slice");
    let plan = host.plan("a-b.slice:cri:id", &limits()).unwrap();
    assert_eq!(plan.hierarchies[0].controllers, ["cpu", "io", "memory", "pids"]);
    assert_eq!(plan.hierarchies[0].version, Version::V2);
    let fds = create(&host, &plan, &limits(), &host.notes()).unwrap();
    assert_eq!(fds.len(), 1);
    for dir in ["", "a.slice/", "a.slice/a-b.slice/", "a.slice/a-b.slice/cri-id.scope/"] {
        assert_eq!(host.shown(&format!("{dir}cgroup.subtree_control")), "cpu io memory pids", "{dir}");
    }
    let at = |file| host.shown(&format!("a.slice/a-b.slice/cri-id.scope/{file}"));
    assert_eq!(at("memory.max"), "1000");
    assert_eq!(at("memory.swap.max"), "500");
    assert_eq!(at("memory.low"), "700");
    assert_eq!(at("cpu.max"), "50000 200000");
    assert_eq!(at("cpu.weight"), "100");
    assert_eq!(at("pids.max"), "max");
    // The leaf is counted, not limited; but it is protected only as far as it says so itself.
    assert_eq!(at("urunc-t1/memory.max"), "max");
    assert_eq!(at("urunc-t1/memory.low"), "700");
    assert_eq!(memory_limit(&host, &plan).unwrap(), Some(1000));
    assert_eq!(oom_kills(&host, &plan).unwrap(), Some(2));
    remove(&host, &plan, &host.notes(), soon()).unwrap();
    assert_eq!(probe(&host, &plan).unwrap(), Presence::Absent);
    assert_eq!(Kernel.subdirs(&host.at("")).unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn what_is_enabled_already_is_not_written_again() {
    let host = Unified::new("/x");
    host.file("cgroup.subtree_control", "cpu io memory pids");
    let root = host.at("cgroup.subtree_control");
    let files = Failing::new(&host, |op: &str, path: &Path, _| {
        assert!(op != "write" || path != root, "needless write");
        None
    });
    let plan = host.plan("/id", &limits()).unwrap();
    create(&files, &plan, &limits(), &host.notes()).unwrap();
}

#[test]
fn more_controllers_when_asked() {
    let host = Unified::new("/x");
    let limits = Limits {
        cpuset_cpus: Some("0-1".to_owned()),
        extra: vec![Extra {
            version: Version::V2,
            controller: "memory".to_owned(),
            file: "memory.high".to_owned(),
            value: "900".to_owned(),
        }],
        ..Limits::default()
    };
    let plan = host.plan("/id", &limits).unwrap();
    assert_eq!(plan.hierarchies[0].controllers, ["cpuset", "cpu", "io", "memory", "pids"]);
    create(&host, &plan, &limits, &host.notes()).unwrap();
    assert_eq!(host.shown("id/cpuset.cpus"), "0-1");
    assert_eq!(host.shown("id/memory.high"), "900");
    // v1's controllers do not count for a v2 file, and the other way round.
    let mut wrong = limits;
    wrong.extra[0].version = Version::V1;
    assert!(matches!(host.plan("/id", &wrong), Err(Error::NoController { version: Some(Version::V1), .. })));
}

#[test]
fn a_shared_path_that_holds_processes_is_limited_all_the_same() {
    let host = Unified::new("/x");
    host.file("cgroup.subtree_control", "cpu io memory pids");
    host.mkdir(&host.at("pod")).unwrap();
    host.file("pod/cgroup.procs", "4711\n");
    let plan = host.plan("/pod", &limits()).unwrap();
    assert!(plan.hierarchies[0].to_make.is_empty());
    create(&host, &plan, &limits(), &host.notes()).unwrap();
    assert_eq!(host.shown("pod/memory.max"), "1000");
    assert_eq!(host.shown("pod/cgroup.subtree_control"), "");
    // The leaf has no counters of its own then.
    assert_eq!(oom_kills(&host, &plan).unwrap(), None);
    remove(&host, &plan, &host.notes(), soon()).unwrap();
    assert!(host.at("pod").is_dir());
}

#[test]
fn a_parent_that_lets_no_controller_through_fails_by_the_files_name() {
    let host = Unified::new("/x");
    host.mkdir(&host.at("full")).unwrap();
    host.file("full/cgroup.procs", "4711\n");
    let plan = host.plan("/full/id", &limits()).unwrap();
    let outcome = create(&host, &plan, &limits(), &host.notes());
    match outcome {
        Err(Error::Limit { file, value, .. }) => {
            assert_eq!((file, value.as_str()), (host.at("full/id/memory.max"), "1000"));
        }
        other => panic!("{other:?}"),
    }
    remove(&host, &plan, &host.notes(), soon()).unwrap();
    assert!(host.at("full").is_dir() && !host.at("full/id").exists());
}

#[test]
fn one_controller_that_is_refused_does_not_take_the_others_along() {
    let host = Unified::new("/x");
    host.mkdir(&host.at("some")).unwrap();
    host.file("some/cgroup.controllers", "memory");
    let wanted = Limits { memory: limits().memory, ..Limits::default() };
    let plan = host.plan("/some/id", &wanted).unwrap();
    // The imitation gives "some" whatever the root enables, so the refusal is put in by hand.
    let files = Failing::new(&host, |op: &str, path: &Path, _| {
        (op == "write" && path == host.at("cgroup.subtree_control")).then_some(Errno::BUSY)
    });
    create(&files, &plan, &wanted, &host.notes()).unwrap();
    assert_eq!(host.shown("some/cgroup.subtree_control"), "memory");
    assert_eq!(host.shown("some/id/memory.max"), "1000");
}

#[test]
fn room_and_swap() {
    let host = Unified::new("/x");
    host.file("cgroup.subtree_control", "memory");
    host.mkdir(&host.at("pod")).unwrap();
    host.file("pod/memory.max", "5000");
    host.file("pod/cgroup.subtree_control", "memory");
    host.mkdir(&host.at("pod/a")).unwrap();
    host.file("pod/a/memory.max", "1200");
    host.mkdir(&host.at("pod/b")).unwrap();
    let plan = host.plan("/pod/us", &Limits::default()).unwrap();
    assert_eq!(parent_room(&host, &plan).unwrap(), Some(ParentRoom { limit: 5000, others: 1200 }));
    host.file("pod/b/memory.max", "nonsense");
    assert!(matches!(parent_room(&host, &plan), Err(Error::Content { .. })));
    let swap = Some(MemoryLimit { limit: Amount::At(10), with_swap: Some(Amount::At(9)) });
    let outcome = host.plan("/pod/us", &Limits { memory: swap, ..Limits::default() });
    assert!(matches!(outcome, Err(Error::BadLimit { .. })));
}

#[test]
fn ourselves_and_what_is_above_us_are_refused() {
    let host = Unified::new("/kube/pod/ctr");
    for path in ["/kube", "/kube/pod", "/kube/pod/ctr"] {
        let outcome = host.plan(path, &Limits::default());
        assert!(
            matches!(outcome, Err(Error::OwnCgroup { ref own, .. }) if own == "/kube/pod/ctr"),
            "{outcome:?}"
        );
    }
    for path in ["/kube/pod/ctr/below", "/kube/pod2", "/kube/po", "/other"] {
        assert!(host.plan(path, &Limits::default()).is_ok(), "{path}");
    }
}

#[test]
fn processes_that_cannot_be_seen_are_killed_by_cgroup_kill_only() {
    let host = Unified::new("/x");
    let plan = host.plan("/id", &Limits::default()).unwrap();
    create(&host, &plan, &Limits::default(), &host.notes()).unwrap();
    host.file("id/urunc-t1/cgroup.procs", "0\n");
    assert!(procs(&host, &plan).unwrap().is_empty());
    fs::remove_file(host.at("id/urunc-t1/cgroup.kill")).unwrap();
    let outcome = kill(&host, &plan, Instant::now() + Duration::from_millis(20));
    assert!(matches!(outcome, Err(Error::StillAlive { ref procs }) if *procs == [0]), "{outcome:?}");
    host.file("id/urunc-t1/cgroup.kill", "");
    kill(&host, &plan, soon()).unwrap();
    assert_eq!(host.shown("id/urunc-t1/cgroup.kill"), "1");
}

#[test]
fn a_number_that_is_no_longer_listed_is_not_signalled() {
    let host = Unified::new("/x");
    let plan = host.plan("/id", &Limits::default()).unwrap();
    create(&host, &plan, &Limits::default(), &host.notes()).unwrap();
    fs::remove_file(host.at("id/urunc-t1/cgroup.kill")).unwrap();
    let mut stranger = Proc::sh("exec sleep 100");
    // Listed at the first reading, gone at the second: as if the number had been used anew.
    let list = host.at("id/urunc-t1/cgroup.procs");
    fs::write(&list, stranger.0.id().to_string()).unwrap();
    let reads = Cell::new(0);
    let files = Failing::new(&host, |op: &str, path: &Path, _| {
        if op == "read" && path == list {
            reads.set(reads.get() + 1);
            if reads.get() == 2 {
                fs::write(path, "").unwrap();
            }
        }
        None
    });
    kill(&files, &plan, soon()).unwrap();
    assert!(stranger.is_alive() && reads.get() >= 2);
}

#[test]
fn a_sample_is_the_leafs_usage_and_the_paths_limits() {
    let unified = Unified::new("/");
    let plan = unified.plan("/pod/c1", &Limits::default()).unwrap();
    create(&unified, &plan, &Limits::default(), &unified.notes()).unwrap();
    let (path, leaf) = ("pod/c1", "pod/c1/urunc-t1");
    for (dir, usage) in [(path, "9000"), (leaf, "5000")] {
        unified.file(&format!("{dir}/memory.current"), usage);
        unified.file(&format!("{dir}/pids.current"), if dir == leaf { "3" } else { "8" });
        unified
            .file(&format!("{dir}/cpu.stat"), &format!("usage_usec {usage}\nuser_usec 1\nnr_throttled 4\n"));
    }
    unified.file(&format!("{path}/memory.max"), "123456\n");
    unified.file(&format!("{path}/pids.max"), "max\n");
    unified.file(&format!("{leaf}/memory.stat"), "anon 4096\ninactive_file 12\n");
    unified.file(
        &format!("{leaf}/io.stat"),
        "254:16 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n7:0 \n",
    );
    let pressure =
        "some avg10=1.50 avg60=0.25 avg300=0.00 total=777\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n";
    for file in ["cpu.pressure", "memory.pressure", "io.pressure"] {
        unified.file(&format!("{leaf}/{file}"), pressure);
    }
    let sample = stats(&unified, &plan).unwrap();
    assert!(sample.is_v2);
    let io = sample.io.unwrap();
    let disk = DeviceIo { major: 254, minor: 16, read_bytes: 4096, written_bytes: 8192, reads: 1, writes: 2 };
    assert_eq!(io.devices, [disk, DeviceIo { major: 7, ..DeviceIo::default() }]);
    let stall = |averages, total_us| Stall { averages, total_us };
    let pressure = Pressure { some: stall([150, 25, 0], 777), full: stall([0; 3], 5) };
    assert_eq!(io.pressure, Some(pressure));
    assert_eq!(sample.oom_kills, 2);
    let memory = sample.memory.unwrap();
    assert_eq!(memory.pressure, Some(pressure));
    assert_eq!((memory.memory.usage, memory.memory.limit), (5000, Some(123_456)));
    assert_eq!((memory.stat["anon"], memory.swap), (4096, None));
    assert_eq!(sample.pids, Some(PidsStats { current: 3, limit: None }));
    let cpu = sample.cpu.unwrap();
    assert_eq!(cpu.pressure, Some(pressure));
    assert_eq!((cpu.total_ns, cpu.throttled), (5_000_000, 4));
    // A file that makes no sense is an error that names it.
    unified.file(&format!("{leaf}/memory.current"), "much");
    assert!(matches!(stats(&unified, &plan), Err(Error::Content { .. })));
}
