//! Stats, Update, Pids, and the end of input: what a container uses and may use, as the kernel has it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    path::PathBuf,
    process::{Child, Command},
};

use containerd_shim_protos::{
    api::{CloseIORequest, Empty, StatsRequest, StatsResponse, UpdateTaskRequest},
    cgroups::metrics as v1,
    cgroups_v2::metrics as v2,
    ttrpc::Code,
};
use protobuf::{Message, well_known_types::any::Any};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use serde_json::{Value, json};
use urunc_tests::{
    direct::{Bench, Failure, Shim, Spec, eventually, leaves},
    harness::Cgroup,
};

const MIB: u64 = 1 << 20;

/// What the monitor gets on top of its guest's RAM.
fn overhead() -> u64 {
    let monitors = vmm_backends::monitors();
    monitors.iter().find(|m| m.name() == "qemu").unwrap().overhead_mib() * MIB
}

/// What the tests look at of a sample, whichever version it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    /// In nanoseconds.
    cpu: u64,
    memory: u64,
    limit: u64,
    pids: u64,
    oom_kills: u64,
}

fn stats(shim: &Shim, id: &str) -> Sample {
    let request = StatsRequest { id: id.to_owned(), ..StatsRequest::default() };
    let any = shim.client.send::<StatsResponse>("Stats", &request).wait().unwrap().stats.unwrap();
    match any.type_url.as_str() {
        "io.containerd.cgroups.v1.Metrics" => {
            let m = v1::Metrics::parse_from_bytes(&any.value).unwrap();
            assert!(m.memory.total_rss > 0 || m.memory.usage.usage < MIB, "{m}");
            Sample {
                cpu: m.cpu.usage.total,
                memory: m.memory.usage.usage,
                limit: m.memory.usage.limit,
                pids: m.pids.current,
                oom_kills: m.memory_oom_control.oom_kill,
            }
        }
        "io.containerd.cgroups.v2.Metrics" => {
            let m = v2::Metrics::parse_from_bytes(&any.value).unwrap();
            Sample {
                cpu: m.cpu.usage_usec * 1000,
                memory: m.memory.usage,
                limit: m.memory.usage_limit,
                pids: m.pids.current,
                oom_kills: m.memory_events.oom_kill,
            }
        }
        other => panic!("{other}"),
    }
}

fn update_with(shim: &Shim, id: &str, type_url: &str, value: &[u8]) -> Result<(), Failure> {
    let resources = Any { type_url: type_url.to_owned(), value: value.to_vec(), ..Any::default() };
    let request = UpdateTaskRequest {
        id: id.to_owned(),
        resources: Some(resources).into(),
        ..UpdateTaskRequest::default()
    };
    shim.client.send::<Empty>("Update", &request).wait().map(drop)
}

fn update(shim: &Shim, id: &str, resources: &Value) -> Result<(), Failure> {
    let name = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
    update_with(shim, id, name, resources.to_string().as_bytes())
}

/// It was refused with this code, and the message has these words.
#[track_caller]
fn refused(result: Result<(), Failure>, code: Code, words: &[&str]) {
    let failure = result.expect_err("it was to be refused");
    assert_eq!(failure.code, Some(code), "{failure:?}");
    for word in words {
        assert!(failure.message.contains(word), "no {word:?} in {failure:?}");
    }
}

/// The content of a control file in the cgroup `/NAMESPACE/PATH`: `v1` is its hierarchy and name on v1.
#[track_caller]
fn control(bench: &Bench, path: &str, v1: (&str, &str), v2: &str) -> String {
    let legacy = PathBuf::from("/sys/fs/cgroup").join(v1.0).join(&bench.namespace).join(path).join(v1.1);
    let unified = PathBuf::from("/sys/fs/cgroup").join(&bench.namespace).join(path).join(v2);
    let file = if legacy.exists() { legacy } else { unified };
    fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display())).trim().to_owned()
}

#[test]
fn stats_are_what_the_kernel_counts_and_stay_after_the_exit() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle, _) = bench.created("c1", &Spec::tiny("fill spin").memory(64 * MIB));
    let before = stats(&shim, "c1");
    assert_eq!((before.limit, before.pids, before.oom_kills), (64 * MIB + overhead(), 1, 0));
    shim.client.start("c1").unwrap();
    let cgroup = Cgroup::of(&bench.namespace, "c1");
    eventually("the guest has filled its memory", || stats(&shim, "c1").memory > 60 * MIB);
    let running = stats(&shim, "c1");
    assert!(
        running.memory.abs_diff(cgroup.usage()) < 32 * MIB,
        "{running:?}, {} by the kernel",
        cgroup.usage()
    );
    assert!(running.pids > 1, "{running:?}: a monitor has more threads than one");
    eventually("it uses its processor", || stats(&shim, "c1").cpu > running.cpu + 50_000_000);

    let last = stats(&shim, "c1");
    shim.client.kill("c1", 9).unwrap();
    shim.client.wait("c1").unwrap();
    let kept = stats(&shim, "c1");
    assert!(kept.cpu >= last.cpu, "{kept:?} after {last:?}");
    assert_eq!((kept.limit, kept.oom_kills), (last.limit, 0));
    // Whatever the kernel still has of it.
    for leaf in leaves(&bench.namespace, "c1") {
        // Whoever has just ended in it may still be on its way out.
        eventually("its cgroup goes", || fs::remove_dir(&leaf).is_ok());
    }
    assert_eq!(stats(&shim, "c1"), kept);
    let record = bench.record("c1").unwrap();
    assert_eq!(record["usage"]["cpu"]["total_ns"], kept.cpu);
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn an_update_changes_limits_by_the_rules_of_create() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle, _) = bench.created("c1", &Spec::tiny("hang").memory(64 * MIB));
    let cgroup = Cgroup::of(&bench.namespace, "c1");
    let limit = |bytes: u64| json!({"memory": {"limit": bytes}});
    for state in ["created", "running"] {
        if state == "running" {
            shim.client.start("c1").unwrap();
        }
        for mib in [128, 64, 65] {
            update(&shim, "c1", &limit(mib * MIB)).unwrap();
            assert_eq!(cgroup.limit(), mib * MIB + overhead(), "{state}");
            assert_eq!(stats(&shim, "c1").limit, mib * MIB + overhead(), "{state}");
        }
        // What is not given, or zero, stays.
        update(&shim, "c1", &json!({"memory": {"limit": 0}, "cpu": {"quota": 0}, "pids": {"limit": 0}}))
            .unwrap();
        update(&shim, "c1", &json!({})).unwrap();
        assert_eq!(cgroup.limit(), 65 * MIB + overhead());
        let fewer = (40 * MIB).to_string();
        refused(
            update(&shim, "c1", &limit(40 * MIB)),
            Code::FAILED_PRECONDITION,
            &["linux.resources.memory.limit", &fewer, "64 MiB"],
        );
        refused(
            update(
                &shim,
                "c1",
                &json!({"cpu": {"quota": 200_000, "period": 100_000}, "memory": {"limit": 99 * MIB}}),
            ),
            Code::FAILED_PRECONDITION,
            &["linux.resources.cpu.quota", "200000", "2 vCPUs"],
        );
        refused(
            update(&shim, "c1", &json!({"memory": {"swap": 99 * MIB}})),
            Code::INVALID_ARGUMENT,
            &["linux.resources.memory.swap"],
        );
        refused(
            update(&shim, "c1", &json!({"memory": {"limit": 99 * MIB, "swap": 98 * MIB}})),
            Code::INVALID_ARGUMENT,
            &["swap"],
        );
        assert_eq!(cgroup.limit(), 65 * MIB + overhead(), "nothing was written of what was refused");

        update(
            &shim,
            "c1",
            &json!({"cpu": {"quota": 50_000, "period": 100_000, "shares": 512}, "pids": {"limit": 10}}),
        )
        .unwrap();
        let quota = control(&bench, "c1", ("cpu", "cpu.cfs_quota_us"), "cpu.max");
        assert_eq!(quota.split(' ').next(), Some("50000"));
        // 72 threads of the monitor's come on top.
        assert_eq!(control(&bench, "c1", ("pids", "pids.max"), "pids.max"), "82");
        update(&shim, "c1", &json!({"cpu": {"quota": -1}, "pids": {"limit": -1}})).unwrap();
        let quota = control(&bench, "c1", ("cpu", "cpu.cfs_quota_us"), "cpu.max");
        assert!(["-1", "max"].contains(&quota.split(' ').next().unwrap()), "{quota}");
        assert_eq!(control(&bench, "c1", ("pids", "pids.max"), "pids.max"), "max");
    }
    update(&shim, "c1", &json!({"memory": {"limit": -1}})).unwrap();
    assert!(cgroup_is_unlimited(&bench), "-1 lifts it");

    refused(update_with(&shim, "c1", "runtime-spec/1/Process", b"{}"), Code::INVALID_ARGUMENT, &["Process"]);
    for junk in ["", "[]", "{\"memory\": {\"limit\": \"much\"}}", "{\"cpu\":"] {
        let name = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
        refused(update_with(&shim, "c1", name, junk.as_bytes()), Code::INVALID_ARGUMENT, &["resources"]);
    }
    shim.client.kill("c1", 9).unwrap();
    shim.client.wait("c1").unwrap();
    refused(update(&shim, "c1", &json!({})), Code::NOT_FOUND, &["has ended already"]);
    bench.end(&shim, bundle);
    bench.finish();
}

fn cgroup_is_unlimited(bench: &Bench) -> bool {
    let limit = control(bench, "c1", ("memory", "memory.limit_in_bytes"), "memory.max");
    limit.parse::<u64>().map_or(limit == "max", |n| n > 1 << 62)
}

#[test]
fn swap_and_reservation_limits_get_the_overhead_too() {
    let Some(bench) = Bench::released() else { return };
    let memory = json!({"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB});
    let spec = Spec::tiny("hang").edit(|s| s["linux"]["resources"] = json!({"memory": memory}));
    let (shim, bundle, _) = bench.created("c1", &spec);
    let cgroup = Cgroup::of(&bench.namespace, "c1");
    let number = |text: String| text.parse::<u64>().unwrap_or(u64::MAX);
    // v1 has both together, v2 swap alone.
    let swap = || number(control(&bench, "c1", ("memory", "memory.memsw.limit_in_bytes"), "memory.swap.max"));
    let is = |limit: u64, both: u64| {
        assert_eq!(cgroup.limit(), limit * MIB + overhead());
        assert!(
            [both * MIB + overhead(), (both - limit) * MIB].contains(&swap()),
            "{}, not {both} MiB",
            swap()
        );
    };
    let reserved = || number(control(&bench, "c1", ("memory", "memory.soft_limit_in_bytes"), "memory.low"));
    is(64, 96);
    assert_eq!(reserved(), 32 * MIB + overhead());
    for (limit, both) in [(128, 256), (64, 64), (96, 128)] {
        update(&shim, "c1", &json!({"memory": {"limit": limit * MIB, "swap": both * MIB}})).unwrap();
        is(limit, both);
    }
    assert_eq!(reserved(), 32 * MIB + overhead(), "what is not given stays");
    update(&shim, "c1", &json!({"memory": {"reservation": 48 * MIB}})).unwrap();
    assert_eq!(reserved(), 48 * MIB + overhead());
    update(&shim, "c1", &json!({"memory": {"limit": 128 * MIB, "reservation": 80 * MIB}})).unwrap();
    assert_eq!((cgroup.limit(), reserved()), (128 * MIB + overhead(), 80 * MIB + overhead()));
    update(&shim, "c1", &json!({"memory": {"reservation": -1}})).unwrap();
    assert!(reserved() > 1 << 62, "-1 lifts it");
    bench.end(&shim, bundle);
    bench.finish();
}

/// As a kubelet does it, which writes a period for a container without a limit.
#[test]
fn an_update_writes_what_is_honoured_and_names_the_rest() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle, _) = bench.created("c1", &Spec::tiny("hang").memory(64 * MIB));
    let cgroup = Cgroup::of(&bench.namespace, "c1");
    let period = || control(&bench, "c1", ("cpu", "cpu.cfs_period_us"), "cpu.max");
    let before = period();
    let cases = [
        ("cpu.period", json!({"cpu": {"period": 50_000}})),
        ("cpu.period", json!({"cpu": {"period": 50_000, "quota": 0}})),
        ("memory.kernel", json!({"memory": {"kernel": 64 * MIB}})),
        ("blockIO", json!({"blockIO": {"weight": 10}})),
        ("hugepageLimits", json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 2 * MIB}]})),
        ("unified", json!({"unified": {"memory.max": "1"}})),
    ];
    for (n, (name, mut resources)) in (65u64..).zip(cases) {
        update(&shim, "c1", &resources).unwrap();
        assert_eq!((cgroup.limit(), period()), ((n - 1) * MIB + overhead(), before.clone()), "{name}");
        resources["memory"]["limit"] = (n * MIB).into();
        resources["pids"] = json!({"limit": n});
        update(&shim, "c1", &resources).unwrap();
        assert_eq!((cgroup.limit(), period()), (n * MIB + overhead(), before.clone()), "{name}");
        // 72 threads of the monitor's come on top.
        let pids = control(&bench, "c1", ("pids", "pids.max"), "pids.max");
        assert_eq!(pids, (n + 72).to_string(), "{name}");
        let told = |line: &str| line.contains("not honoured") && line.contains(name);
        eventually(name, || bundle.log().lines().any(told));
    }
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn where_the_parent_has_no_room_the_overhead_comes_off_the_limit() {
    let Some(bench) = Bench::released() else { return };
    let folder = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"]
        .map(PathBuf::from)
        .into_iter()
        .find(|f| f.join("memory.stat").exists())
        .unwrap()
        .join(&bench.namespace);
    let file =
        if folder.starts_with("/sys/fs/cgroup/memory") { "memory.limit_in_bytes" } else { "memory.max" };
    if file == "memory.max" {
        fs::write(folder.join("cgroup.subtree_control"), "+memory").unwrap();
    }
    let tight = folder.join("tight");
    fs::create_dir(&tight).unwrap();
    let room = 64 * MIB + overhead() + 30 * MIB;
    fs::write(tight.join(file), room.to_string()).unwrap();
    let path = format!("/{}/tight/c1", bench.namespace);
    let spec = Spec::tiny("hang").memory(64 * MIB).edit(|s| s["linux"]["cgroupsPath"] = path.into());
    let (shim, bundle, _) = bench.created("c1", &spec);
    let limit = || fs::read_to_string(tight.join("c1").join(file)).unwrap().trim().parse::<u64>().unwrap();
    assert_eq!(limit(), 64 * MIB + overhead());
    let memory = |bytes: u64| json!({"memory": {"limit": bytes}});
    update(&shim, "c1", &memory(80 * MIB)).unwrap();
    assert_eq!(limit(), 80 * MIB + overhead());
    // Now the overhead does not fit any more: it would come off, and the guest keeps its RAM.
    refused(
        update(&shim, "c1", &memory(128 * MIB)),
        Code::FAILED_PRECONDITION,
        &["linux.resources.memory.limit"],
    );
    assert_eq!(limit(), 80 * MIB + overhead());
    let most = 70 * MIB + overhead();
    update(&shim, "c1", &memory(most)).unwrap();
    assert_eq!(limit(), most);
    bench.end(&shim, bundle);
    fs::remove_dir(&tight).unwrap();
    bench.finish();
}

/// A process of the test's own; killed by its handle.
struct Helper(Child);

impl Drop for Helper {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn pids_are_the_monitor_and_who_else_is_in_its_leaf() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle, pid) = bench.created("c1", &Spec::tiny("hang"));
    assert_eq!(shim.client.pids("c1"), Ok(vec![pid]));
    shim.client.start("c1").unwrap();
    let helper = Helper(Command::new("sleep").arg("1000").spawn().unwrap());
    let leaf = leaves(&bench.namespace, "c1").into_iter().next().unwrap();
    fs::write(leaf.join("cgroup.procs"), helper.0.id().to_string()).unwrap();
    assert_eq!(shim.client.pids("c1"), Ok(vec![pid, helper.0.id()]), "containerd's pid comes first");
    drop(helper);
    shim.client.kill("c1", 9).unwrap();
    shim.client.wait("c1").unwrap();
    assert_eq!(shim.client.pids("c1"), Ok(vec![pid]), "as long as the container is there");
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn input_ends_when_the_client_says_so_and_not_before() {
    let Some(bench) = Bench::released() else { return };
    for (id, early) in [("c1", true), ("c2", false)] {
        let mut bundle = bench.bundle(id, &Spec::tiny("echo"));
        let stdin = bundle.path.join("stdin");
        mknodat(CWD, &stdin, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        bundle.stdin = stdin.to_string_lossy().into_owned();
        let shim = bench.start(&bundle);
        shim.client.create(&bundle).unwrap();
        let mut reader = File::from(open(&stdin, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap());
        // A FIFO without a writer is at its end; with one there is nothing to be read.
        let mut has_writer = || match reader.read(&mut [0; 16]) {
            Ok(0) => false,
            Err(e) if e.kind() == ErrorKind::WouldBlock => true,
            other => panic!("{other:?}"),
        };
        if !early {
            shim.client.start(id).unwrap();
        }
        assert!(has_writer(), "{id}: a client that is not there yet, or not any more, is no end");
        let close = |stdin: bool| {
            let request = CloseIORequest { id: id.to_owned(), stdin, ..CloseIORequest::default() };
            shim.client.send::<Empty>("CloseIO", &request).wait().map(drop)
        };
        close(false).unwrap();
        assert!(has_writer(), "{id}: nothing was to be closed");
        let client = open(&stdin, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
        close(true).unwrap();
        close(true).unwrap();
        assert!(has_writer(), "{id}: the client's own end is open");
        drop(client);
        assert!(!has_writer(), "{id}: nobody holds it open any more");
        if early {
            shim.client.start(id).unwrap();
        }
        bundle.output.as_ref().unwrap().wait_for("tiny: echo");
        bench.end(&shim, bundle);
    }
    bench.finish();
}
