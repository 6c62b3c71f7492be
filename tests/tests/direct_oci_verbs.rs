//! The verbs of ordinary containers, compared with what the kernel has: what is counted, what is changed, what a process
//! may; and what is refused or fails leaves the container as it was.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::fs;

use containerd_shim_protos::{
    api::{
        CheckpointTaskRequest, Empty, PauseRequest, ResumeRequest, StatsRequest, StatsResponse, Status,
        UpdateTaskRequest,
    },
    cgroups::metrics as v1,
    cgroups_v2::metrics as v2,
    ttrpc::Code,
};
use protobuf::{Message, well_known_types::any::Any};
use serde_json::{Value, json};
use urunc_tests::direct::{
    A_WHILE, Bench, Bundle, Executed, Failure, Pending, Proc, SOON, Shim, Spec, double, eventually,
    hierarchies, process,
};

const MIB: u64 = 1 << 20;
const TICKS: &str = "while :; do echo tick; sleep 0.02; done";

/// It goes on: what it says goes on.
#[track_caller]
fn goes_on(bundle: &Bundle) {
    let output = bundle.output.as_ref().unwrap();
    let so_far = output.so_far().len();
    eventually("it goes on", || output.so_far().len() > so_far + 20);
}

/// The content of the first of these files in the container's cgroup: v1's, v2's.
#[track_caller]
fn control(bench: &Bench, id: &str, names: [&str; 2]) -> String {
    let of = |name| hierarchies().into_iter().map(move |h| h.join(&bench.namespace).join(id).join(name));
    let text = names.into_iter().flat_map(of).find_map(|file| fs::read_to_string(file).ok());
    text.unwrap_or_else(|| panic!("{id} has none of {names:?}")).trim().to_owned()
}

/// What its cgroup says now: nanoseconds of CPU, bytes of memory, its processes.
fn counted(bench: &Bench, id: &str) -> [u64; 3] {
    let cpu = control(bench, id, ["cpuacct.usage", "cpu.stat"]);
    let cpu = match cpu.lines().find_map(|line| line.strip_prefix("usage_usec ")) {
        Some(micros) => micros.parse::<u64>().unwrap() * 1000,
        None => cpu.parse().unwrap(),
    };
    let memory = control(bench, id, ["memory.usage_in_bytes", "memory.current"]).parse().unwrap();
    [cpu, memory, control(bench, id, ["pids.current", "pids.current"]).parse().unwrap()]
}

/// The same as Stats says it, and the limit of its memory.
fn told(shim: &Shim, id: &str) -> ([u64; 3], u64) {
    let request = StatsRequest { id: id.to_owned(), ..StatsRequest::default() };
    let any = shim.client.send::<StatsResponse>("Stats", &request).wait().unwrap().stats.unwrap();
    if any.type_url.ends_with("v2.Metrics") {
        let m = v2::Metrics::parse_from_bytes(&any.value).unwrap();
        return ([m.cpu.usage_usec * 1000, m.memory.usage, m.pids.current], m.memory.usage_limit);
    }
    assert_eq!(any.type_url, "io.containerd.cgroups.v1.Metrics");
    let m = v1::Metrics::parse_from_bytes(&any.value).unwrap();
    ([m.cpu.usage.total, m.memory.usage.usage, m.pids.current], m.memory.usage.limit)
}

#[test]
fn stats_are_what_its_cgroup_counts() {
    let Some(bench) = Bench::released() else { return };
    // It has used some of everything, and then it waits.
    let script = "sleep 1000 & sleep 1000 & seq 1 50000 >/dev/null; echo ready; read x; exit 0";
    let spec = Spec::busybox(script)
        .edit(|s| s["linux"]["resources"] = json!({"memory": {"limit": 64 * MIB}, "pids": {"limit": 50}}));
    let bundle = bench.ordinary("c1", &spec).with_stdin();
    let (shim, _) = bench.running(&bundle);
    bundle.output.as_ref().unwrap().wait_for("ready");
    let before = counted(&bench, "c1");
    let (stats, limit) = told(&shim, "c1");
    let after = counted(&bench, "c1");
    assert!(stats[0] > 0 && (before[0]..=after[0]).contains(&(stats[0])), "{before:?} {stats:?} {after:?}");
    // The kernel counts memory in batches.
    assert!(stats[1] > 0 && stats[1] + MIB > before[1] && stats[1] < after[1] + MIB, "{before:?} {stats:?}");
    assert_eq!((stats[2], limit), (3, 64 * MIB));
    assert_eq!((before[2], after[2]), (3, 3));
    // What is executed in it counts.
    let exec = Executed::new(&bundle, "e1", &["/bin/sleep", "1000"]);
    shim.client.execute(&exec);
    assert_eq!(told(&shim, "c1").0[2], 4);
    // Behind its end the last that was known.
    shim.client.kill("c1", 9).unwrap();
    shim.client.wait("c1").unwrap();
    assert!(told(&shim, "c1").0[0] >= stats[0]);
    drop(exec);
    bench.end(&shim, bundle);
    bench.finish();
}

fn update(shim: &Shim, resources: &Value) -> Result<(), Failure> {
    send_update(shim, resources).wait().map(drop)
}

fn send_update(shim: &Shim, resources: &Value) -> Pending<Empty> {
    let resources = Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".to_owned(),
        value: resources.to_string().into_bytes(),
        ..Any::default()
    };
    let request = UpdateTaskRequest {
        id: "c1".into(),
        resources: Some(resources).into(),
        ..UpdateTaskRequest::default()
    };
    shim.client.send("Update", &request)
}

#[test]
fn an_update_that_the_runtime_refuses_is_told_in_its_words() {
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.ordinary("c1", &Spec::busybox(TICKS));
    let (shim, _) = bench.running(&bundle);
    let pids = || control(&bench, "c1", ["pids.max", "pids.max"]);
    update(&shim, &json!({"pids": {"limit": 60}})).unwrap();
    assert_eq!(pids(), "60");
    // A thousandth of a millisecond is too short for the kernel.
    let failure = update(&shim, &json!({"cpu": {"quota": 1, "period": 100_000}})).unwrap_err();
    assert!(
        failure.message.contains("update c1") && failure.message.contains("invalid argument"),
        "{failure:?}"
    );
    assert_eq!(shim.client.status("c1"), Ok(Status::RUNNING));
    goes_on(&bundle);
    update(&shim, &json!({"pids": {"limit": 61}})).unwrap();
    assert_eq!(pids(), "61");
    bench.end(&shim, bundle);
    bench.finish();
}

/// Those that come after a Delete while another one is at work have nothing to update: the OCI runtime, which would make
/// its root anew, is not asked.
#[test]
fn updates_that_wait_behind_a_delete_do_nothing() {
    let Some(mut bench) = Bench::released() else { return };
    let (begun, go) = (bench.scratch().join("begun"), bench.scratch().join("go"));
    let waits = format!("echo >{}; until [ -e {} ]; do sleep 0.02; done", begun.display(), go.display());
    bench.set_variable("URUNC_OCI_RUNTIME", &double(&bench, "update", &waits));
    // Who waits longest comes first, as a rule.
    let came_first = (0..10).any(|_| {
        for file in [&begun, &go] {
            fs::remove_file(file).ok();
        }
        let bundle = bench.ordinary("c1", &Spec::busybox(TICKS)).without_stdio();
        let shim = bench.start(&bundle);
        shim.client.create(&bundle).unwrap();
        let update = || send_update(&shim, &json!({"pids": {"limit": 60}}));
        let first = update();
        eventually("it is at work", || begun.exists());
        let delete = shim.client.send_delete("c1");
        std::thread::sleep(A_WHILE);
        let updates = [first, update(), update()];
        std::thread::sleep(A_WHILE);
        fs::write(&go, "").unwrap();
        delete.wait().unwrap();
        let answers = updates.map(|update| update.wait().err().map(|e| e.code));
        assert!(answers.iter().all(|code| matches!(code, None | Some(Some(Code::NOT_FOUND)))), "{answers:?}");
        assert!(!bench.run_directory("c1").exists());
        shim.client.shutdown("c1");
        bench.delete(&bundle).deleted();
        bundle.remove();
        answers.iter().any(Option::is_some)
    });
    assert!(came_first, "the Delete came last each time");
    bench.finish();
}

#[test]
fn a_pause_that_fails_is_rolled_back() {
    let Some(mut bench) = Bench::released() else { return };
    // It has done it and says that it has not; and it does not come to say anything.
    let scripts = ["\"$real\" \"$@\"; echo it broke >&2; exit 1", "\"$real\" \"$@\"; kill -9 $$"];
    for ((script, words), id) in scripts.into_iter().zip(["it broke", "signal 9"]).zip(["c1", "c2"]) {
        bench.set_variable("URUNC_OCI_RUNTIME", &double(&bench, "pause", script));
        let bundle = bench.ordinary(id, &Spec::busybox(TICKS));
        let (shim, _) = bench.running(&bundle);
        let pause = PauseRequest { id: id.to_owned(), ..PauseRequest::default() };
        let failure = shim.client.send::<Empty>("Pause", &pause).wait().unwrap_err();
        assert!(
            failure.message.contains(&format!("pause {id}")) && failure.message.contains(words),
            "{failure:?}"
        );
        assert_eq!(shim.client.status(id), Ok(Status::RUNNING));
        goes_on(&bundle);
        assert!(!bench.events.of(id).iter().any(|e| e == "paused"), "{:?}", bench.events.of(id));
        // The next one works.
        double(&bench, "nothing", ":");
        shim.client.send::<Empty>("Pause", &pause).wait().unwrap();
        assert_eq!(shim.client.status(id), Ok(Status::PAUSED));
        let resume = ResumeRequest { id: id.to_owned(), ..ResumeRequest::default() };
        shim.client.send::<Empty>("Resume", &resume).wait().unwrap();
        goes_on(&bundle);
        bench.end(&shim, bundle);
    }
    bench.finish();
}

#[test]
fn it_is_not_checkpointed() {
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.ordinary("c1", &Spec::busybox(TICKS));
    let (shim, _) = bench.running(&bundle);
    let path = bench.scratch().join("checkpoint");
    let request = CheckpointTaskRequest {
        id: "c1".to_owned(),
        path: path.to_string_lossy().into_owned(),
        ..CheckpointTaskRequest::default()
    };
    let failure = shim.client.send::<Empty>("Checkpoint", &request).wait().unwrap_err();
    assert_eq!(failure.code, Some(Code::UNIMPLEMENTED), "{failure:?}");
    assert!(failure.message.to_lowercase().contains("checkpoint"), "{failure:?}");
    assert!(!path.exists());
    assert_eq!(shim.client.status("c1"), Ok(Status::RUNNING));
    goes_on(&bundle);
    bench.end(&shim, bundle);
    bench.finish();
}

/// What `/proc/PID/status` says of these.
fn said(status: &str, names: &[&str]) -> Vec<String> {
    let of = |name: &&str| {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap_or_else(|| panic!("no {name} in {status}"))
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    names.iter().map(of).collect()
}

const RIGHTS: [&str; 8] = ["Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"];

#[test]
fn what_is_executed_is_who_its_own_spec_says_and_no_more() {
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.ordinary("c1", &Spec::busybox("exec sleep 1000"));
    let (shim, _) = bench.running(&bundle);
    let rights = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut process = process(&["/bin/cat", "/proc/self/status"]);
        change(&mut process);
        let exec = Executed::of(&bundle, name, process);
        shim.client.execute(&exec);
        assert_eq!(shim.client.wait_exec(&exec), Ok(0));
        let status = exec.output.to_end();
        shim.client.delete_exec(&exec).unwrap();
        said(&status, &RIGHTS).join(", ")
    };
    let none = "0000000000000000";
    // CAP_CHOWN is 1, CAP_KILL 20.
    let both = json!(["CAP_KILL", "CAP_CHOWN"]);
    let user = rights("user", &|p| {
        p["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [7, 8]});
        let kill = json!(["CAP_KILL"]);
        p["capabilities"] = json!({"bounding": both, "permitted": kill, "effective": kill, "inheritable": kill, "ambient": kill});
    });
    let kill = "0000000000000020";
    assert_eq!(
        user,
        format!("1000 1000 1000 1000, 1001 1001 1001 1001, 7 8, {kill}, {kill}, 0000000000000021, {kill}, 1")
    );
    let root = rights("root", &|p| {
        p["capabilities"] = json!({});
        p["noNewPrivileges"] = false.into();
    });
    assert_eq!(root, format!("0 0 0 0, 0 0 0 0, , {none}, {none}, {none}, {none}, 0"));
    let more = rights("more", &|p| {
        p["capabilities"] = json!({"bounding": both, "permitted": both, "effective": both});
    });
    let both = "0000000000000021";
    assert_eq!(more, format!("0 0 0 0, 0 0 0 0, , {both}, {both}, {both}, {none}, 1"));
    bench.end(&shim, bundle);
    bench.finish();
}

/// The descriptors that a process has.
fn descriptors(pid: u32) -> Vec<String> {
    let folder = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let mut numbers: Vec<String> = folder.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    numbers.sort();
    numbers
}

#[test]
fn nobody_in_it_has_a_descriptor_of_ours() {
    let Some(mut bench) = Bench::released() else { return };
    // The runtimes take care of it themselves; but they are given none to begin with.
    let has = bench.scratch().join("has");
    let note = format!("for fd in /proc/$$/fd/*; do readlink $fd; done >>{}", has.display());
    bench.set_variable("URUNC_OCI_RUNTIME", &double(&bench, "--root", &note));
    // Whoever starts the shim may have one that is not close-on-exec, and hand it down.
    let _inherited =
        rustix::fs::open("/dev/zero", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    for terminal in [false, true] {
        let mut spec = Spec::ordinary(&["/bin/sleep", "1000"]);
        if terminal {
            spec = spec.on_a_terminal();
        }
        let mut bundle = bench.ordinary("c1", &spec).with_stdin();
        if terminal {
            (bundle.stderr, bundle.errors) = (String::new(), None);
            bundle.terminal = true;
        }
        let (shim, pid) = bench.running(&bundle);
        let execs = [
            Executed::new(&bundle, "e1", &["/bin/sleep", "1000"]).with_stdin(),
            Executed::on_a_terminal(&bundle, "e2", &["/bin/sleep", "1000"]).with_stdin(),
        ];
        let pids = execs.iter().map(|exec| shim.client.execute(exec)).collect::<Vec<_>>();
        for pid in [&[pid][..], &pids].concat() {
            // Before that it is the runtime itself.
            eventually("its program is executed", || Proc::of(pid.cast_signed()).comm() == "sleep");
            assert_eq!(descriptors(pid), ["0", "1", "2"], "terminal: {terminal}");
        }
        shim.client.kill("c1", 9).unwrap();
        shim.client.wait("c1").unwrap();
        drop(execs);
        bench.end(&shim, bundle);
    }
    let has = fs::read_to_string(has).unwrap();
    assert!(has.lines().any(|what| what == "/dev/null") && !has.contains("/dev/zero"), "{has}");
    bench.finish();
}

/// As with guests: members live on, and the network, too.
#[test]
fn the_sandbox_goes_first_while_an_ordinary_member_runs() {
    let Some(bench) = Bench::released() else { return };
    let network = bench.pod_network();
    let before = network.state();
    let sandbox = bench.bundle("pod", &Spec::sandbox().join_network(&network.path())).without_stdio();
    let (shim, pod) = bench.running(&sandbox);
    let member = bench.ordinary("one", &Spec::busybox(TICKS).member_of("pod", pod));
    bench.start(&member);
    let pid = shim.client.create(&member).unwrap();
    shim.client.start("one").unwrap();
    let net = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    goes_on(&member);

    shim.client.kill("pod", 15).unwrap();
    assert_eq!(shim.client.wait("pod"), Ok(143));
    shim.client.delete("pod").unwrap();
    shim.client.shutdown("pod");
    bench.delete(&sandbox).deleted();
    sandbox.remove();
    assert_eq!(shim.client.status("one"), Ok(Status::RUNNING));
    goes_on(&member);
    let exec = Executed::new(&member, "e1", &["/bin/sleep", "1000"]);
    let execs = shim.client.execute(&exec);
    assert_eq!(fs::read_link(format!("/proc/{execs}/ns/net")).unwrap(), net);
    shim.client.kill_exec(&exec, 9).unwrap();
    assert_eq!(shim.client.wait_exec(&exec), Ok(137));
    shim.client.delete_exec(&exec).unwrap();
    drop(exec);
    // Who comes late has nothing to join.
    let late = bench.ordinary("late", &Spec::busybox(TICKS).member_of("pod", pod)).without_stdio();
    bench.start(&late);
    shim.client.create(&late).unwrap_err();
    bench.delete(&late).deleted();
    late.remove();
    let members = bench.members("one");
    bench.end(&shim, member);
    assert!(members.iter().all(|m: &Proc| !m.is_alive()));
    assert!(shim.daemon.ends_within(SOON), "the daemon stays without a pod");
    assert_eq!(network.state(), before);
    bench.finish();
}
