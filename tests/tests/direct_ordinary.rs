//! Ordinary containers: given to the host's OCI runtime, their life is as under its own shim, and nothing stays of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    fs,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use containerd_shim_protos::{api::Status, ttrpc::Code};
use serde_json::json;
use urunc_tests::direct::{
    A_WHILE, Bench, Bundle, Executed, Proc, Reader, SOON, Shim, Spec, assert_same, double, eventually,
    killed_after, process,
};

const SLEEPS: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";

#[test]
fn a_life_with_its_output_and_its_exit_status() {
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.ordinary("c1", &Spec::busybox("echo out; echo err >&2; exit 7"));
    let shim = bench.start(&bundle);
    let pid = shim.client.create(&bundle).unwrap();
    assert_eq!(shim.client.status("c1"), Ok(Status::CREATED));
    assert!(bench.is_mounted(&bundle));
    let record = bench.record("c1").unwrap();
    assert_eq!(record["process"]["pid"], pid);
    assert_eq!(record["oci"]["root"].as_str(), bench.run_directory("c1").join("oci").to_str());
    let waiting = shim.client.send_wait("c1");
    shim.client.start("c1").unwrap();
    assert_eq!(waiting.wait().unwrap().exit_status, 7);
    assert_eq!(bundle.output(), "out\n");
    assert_eq!(bundle.errors.as_ref().unwrap().to_end(), "err\n");
    assert_eq!(shim.client.status("c1"), Ok(Status::STOPPED));
    assert_eq!(shim.client.kill("c1", 9).unwrap_err().code, Some(Code::NOT_FOUND));
    assert_eq!(shim.client.delete("c1").unwrap().exit_status, 7);
    assert!(!bench.is_mounted(&bundle) && !bench.run_directory("c1").exists());
    bench.events.expect("c1", &["create", "start", "exit", "delete"]);
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

#[test]
fn one_that_is_gone_at_once_is_never_lost() {
    let Some(bench) = Bench::released() else { return };
    for n in 0..10 {
        let id = format!("c{n}");
        let bundle = bench.ordinary(&id, &Spec::ordinary(&["/bin/true"])).without_stdio();
        let (shim, _) = bench.running(&bundle);
        assert_eq!(shim.client.wait(&id), Ok(0));
        bench.events.expect(&id, &["create", "start", "exit"]);
        bench.end(&shim, bundle);
    }
    bench.finish();
}

#[test]
fn signals_are_its_own_to_answer() {
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.ordinary("c1", &Spec::busybox(SLEEPS));
    let (shim, _) = bench.running(&bundle);
    bundle.output.as_ref().unwrap().wait_for("ready");
    shim.client.kill("c1", 10).unwrap_err_or_running(&shim);
    shim.client.kill("c1", 15).unwrap();
    assert_eq!(shim.client.wait("c1"), Ok(3));
    bench.end(&shim, bundle);

    let bundle = bench.ordinary("c2", &Spec::busybox(SLEEPS));
    let (shim, _) = bench.running(&bundle);
    bundle.output.as_ref().unwrap().wait_for("ready");
    assert_eq!(shim.client.delete("c2").unwrap_err().code, Some(Code::FAILED_PRECONDITION));
    shim.client.kill("c2", 9).unwrap();
    assert_eq!(shim.client.wait("c2"), Ok(137));
    // As CRI does, when it has ended.
    assert_eq!(shim.client.kill_all("c2", 9).unwrap_err().code, Some(Code::NOT_FOUND));
    bench.end(&shim, bundle);

    // One that was only created.
    let bundle = bench.ordinary("c3", &Spec::busybox(SLEEPS));
    let shim = bench.start(&bundle);
    shim.client.create(&bundle).unwrap();
    shim.client.kill("c3", 9).unwrap();
    assert_eq!(shim.client.wait("c3"), Ok(137));
    bench.end(&shim, bundle);
    bench.finish();
}

/// USR1 ends a shell that does not expect it, unless it is the first of its pid namespace.
trait Answered {
    fn unwrap_err_or_running(self, shim: &Shim);
}

impl Answered for Result<(), urunc_tests::direct::Failure> {
    #[track_caller]
    fn unwrap_err_or_running(self, shim: &Shim) {
        self.unwrap();
        assert_eq!(shim.client.status("c1"), Ok(Status::RUNNING));
    }
}

#[test]
fn what_it_leaves_without_a_pid_namespace_ends_with_it() {
    let Some(bench) = Bench::released() else { return };
    let spec = Spec::busybox("sleep 1000 & sleep 1000 & echo ready; read x; exit 4").edit(|s| {
        s["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "network"}]);
    });
    let mut bundle = bench.ordinary("c1", &spec);
    bundle.stdin = stdin(&bundle);
    let (shim, _) = bench.running(&bundle);
    bundle.output.as_ref().unwrap().wait_for("ready");
    let members = bench.members("c1");
    assert_eq!(members.len(), 3);
    assert_eq!(shim.client.processes("c1").len(), 3);
    shim.client.close_stdin("c1", "");
    assert_eq!(shim.client.wait("c1"), Ok(4));
    assert!(members.iter().all(|m| !m.is_alive()), "it has left something behind");
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn a_signal_for_all_is_heard_once_by_each() {
    let Some(bench) = Bench::released() else { return };
    let hears = "trap 'echo heard by $NAME' USR1; echo ready: $NAME; while :; do sleep 0.05; done";
    let script = format!("NAME=child; ({hears}) & NAME=first; {hears}");
    let spec = Spec::busybox(&script).edit(|s| {
        s["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "network"}]);
    });
    let bundle = bench.ordinary("c1", &spec);
    let (shim, _) = bench.running(&bundle);
    let output = bundle.output.as_ref().unwrap();
    output.wait_for("ready: child\n");
    output.wait_for("ready: first\n");
    // The sleeps of both hear it, too, and end of it.
    shim.client.kill_all("c1", 10).unwrap();
    output.wait_for("heard by child\n");
    output.wait_for("heard by first\n");
    std::thread::sleep(A_WHILE);
    shim.client.kill_all("c1", 9).unwrap();
    assert_eq!(shim.client.wait("c1"), Ok(137));
    let text = bundle.output();
    assert_eq!(text.matches("heard by first\n").count(), 1, "{text}");
    assert_eq!(text.matches("heard by child\n").count(), 1, "{text}");
    bench.end(&shim, bundle);
    bench.finish();
}

/// What is left of it may be a zombie in the container's pid namespace, whose first process ends only after that.
#[test]
fn an_exec_that_fails_does_not_keep_its_container() {
    let Some(mut bench) = Bench::released() else { return };
    for millis in [0, 5, 10, 15, 20, 25, 30, 40] {
        let double = double(&bench, "exec", &killed_after(millis));
        bench.set_variable("URUNC_OCI_RUNTIME", &double);
        let bundle = bench.ordinary("c1", &Spec::busybox(SLEEPS));
        let (shim, _) = bench.running(&bundle);
        for n in 0..3 {
            let exec = Executed::new(&bundle, &format!("e{n}"), &["/bin/sleep", "1000"]);
            shim.client.exec(&exec).unwrap();
            shim.client.start_exec(&exec).unwrap_err();
            shim.client.delete_exec(&exec).unwrap();
        }
        let began = Instant::now();
        shim.client.kill("c1", 9).unwrap();
        assert_eq!(shim.client.wait("c1"), Ok(137));
        assert!(began.elapsed() < SOON / 2, "killed after {millis} ms: it took {:?}", began.elapsed());
        bench.end(&shim, bundle);
        bench.check();
    }
    bench.finish();
}

fn stdin(bundle: &Bundle) -> String {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let stdin = bundle.path.join("stdin");
    mknodat(CWD, &stdin, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    stdin.to_string_lossy().into_owned()
}

#[test]
fn stdin_is_the_clients_and_ends_with_closeio() {
    let Some(bench) = Bench::released() else { return };
    let mut bundle = bench.ordinary("c1", &Spec::busybox("cat; exit 5"));
    bundle.stdin = stdin(&bundle);
    let (shim, _) = bench.running(&bundle);
    for word in ["one\n", "two\n"] {
        // A client that comes and goes is no end of it.
        let mut client = fs::OpenOptions::new().write(true).open(&bundle.stdin).unwrap();
        client.write_all(word.as_bytes()).unwrap();
        drop(client);
        bundle.output.as_ref().unwrap().wait_for(word);
    }
    assert!(shim.client.send_wait("c1").within(A_WHILE).is_none());
    shim.client.close_stdin("c1", "");
    assert_eq!(shim.client.wait("c1"), Ok(5));
    assert_eq!(bundle.output(), "one\ntwo\n");
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn a_terminal_is_the_oci_runtimes_own() {
    let Some(bench) = Bench::released() else { return };
    let spec = Spec::busybox("echo ready; read line; stty size; echo got $line; exit 6").on_a_terminal();
    let mut bundle = bench.ordinary("c1", &spec);
    bundle.stdin = stdin(&bundle);
    (bundle.stderr, bundle.errors) = (String::new(), None);
    bundle.terminal = true;
    let (shim, _) = bench.running(&bundle);
    bundle.output.as_ref().unwrap().wait_for("ready");
    shim.client.resize("c1", "", (132, 43));
    fs::OpenOptions::new().write(true).open(&bundle.stdin).unwrap().write_all(b"hello\n").unwrap();
    assert_eq!(shim.client.wait("c1"), Ok(6));
    let said = bundle.output();
    assert!(said.contains("43 132") && said.ends_with("got hello\r\n"), "{said:?}");
    bench.end(&shim, bundle);
    bench.finish();
}

/// What the OCI runtime passes over, or is alone to know, is not ours to refuse.
#[test]
fn a_spec_that_is_newer_than_we_are_is_the_oci_runtimes() {
    let Some(bench) = Bench::released() else { return };
    let spec = Spec::busybox("exit 4").edit(|spec| {
        spec["process"]["capabilities"]["bounding"] = json!(["CAP_KILL", "CAP_OF_TOMORROW"]);
        spec["linux"]["tomorrow"] = json!({"any": ["thing"]});
    });
    let bundle = bench.ordinary("c1", &spec).without_stdio();
    let (shim, _) = bench.running(&bundle);
    assert_eq!(shim.client.wait("c1"), Ok(4));
    bench.end(&shim, bundle);
    bench.finish();
}

/// As systemd has it, which opens its console for each message: nobody has the terminal open meanwhile.
#[test]
fn a_terminal_that_nobody_has_open_is_not_at_its_end() {
    let Some(bench) = Bench::released() else { return };
    let again = "for n in 1 2 3; do sleep 0.2; seq 1000 >/dev/console; done; exit 3";
    let spec =
        Spec::busybox(&format!("echo first; exec </dev/null >/dev/null 2>&1; {again}")).on_a_terminal();
    let mut bundle = bench.ordinary("c1", &spec);
    (bundle.stderr, bundle.errors) = (String::new(), None);
    bundle.terminal = true;
    let (shim, _) = bench.running(&bundle);
    assert_eq!(shim.client.wait("c1"), Ok(3));
    let numbers: String = (1..=1000).map(|n| format!("{n}\r\n")).collect();
    assert_same(&bundle.output(), &format!("first\r\n{}", numbers.repeat(3)));
    bench.end(&shim, bundle);
    bench.finish();
}

/// Its client comes, or goes on reading, long after its end: as long as that has not deleted it, all of it is kept.
#[test]
fn what_a_terminal_has_said_waits_for_its_reader() {
    let Some(bench) = Bench::released() else { return };
    let numbers: String = (1..=11_700).map(|n| format!("{n}\r\n")).collect();
    let spec = Spec::busybox("seq 11700; exit 3").on_a_terminal();
    let mut bundle = bench.ordinary("c1", &spec);
    (bundle.stderr, bundle.errors) = (String::new(), None);
    bundle.terminal = true;
    // More than its FIFO takes, and less than that and the terminal.
    assert!((66_000..80_000).contains(&numbers.len()), "{}", numbers.len());
    bundle.output = None;
    let (shim, _) = bench.running(&bundle);
    assert_eq!(shim.client.wait("c1"), Ok(3));
    std::thread::sleep(Duration::from_secs(2));
    let reader = Reader::open(Path::new(&bundle.stdout));
    assert_same(&reader.to_end(), &numbers);
    drop(reader);
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn processes_are_executed_in_it_and_waited_for() {
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.ordinary("c1", &Spec::busybox(SLEEPS));
    let (shim, pid) = bench.running(&bundle);
    let client = &shim.client;

    let mut spec = process(&["/bin/sh", "-c", "echo $WORD; pwd; id -u; echo err >&2; exit 9"]);
    spec["env"] = json!(["PATH=/bin", "WORD=word"]);
    spec["cwd"] = "/tmp".into();
    spec["user"] = json!({"uid": 1000, "gid": 1000});
    let exec = Executed::of(&bundle, "e1", spec);
    client.exec(&exec).unwrap();
    assert_eq!(client.exec(&exec).unwrap_err().code, Some(Code::ALREADY_EXISTS));
    assert_eq!(client.kill_exec(&exec, 9).unwrap_err().code, Some(Code::FAILED_PRECONDITION));
    assert_eq!(client.state_exec(&exec).unwrap().status.enum_value(), Ok(Status::CREATED));
    let waiting = client.send_wait_exec("c1", "e1");
    client.start_exec(&exec).unwrap();
    assert_eq!(waiting.wait().unwrap().exit_status, 9);
    assert_eq!(exec.output.to_end(), "word\n/tmp\n1000\n");
    assert_eq!(exec.errors.as_ref().unwrap().to_end(), "err\n");
    assert_eq!(client.start_exec(&exec).unwrap_err().code, Some(Code::FAILED_PRECONDITION));
    assert_eq!(client.delete_exec(&exec).unwrap().exit_status, 9);
    assert_eq!(client.delete_exec(&exec).unwrap_err().code, Some(Code::NOT_FOUND));

    // Gone at once.
    for n in 0..10 {
        let exec = Executed::new(&bundle, &format!("at-once-{n}"), &["/bin/true"]);
        client.execute(&exec);
        assert_eq!(client.wait_exec(&exec), Ok(0));
        assert_eq!(exec.output.to_end(), "");
        client.delete_exec(&exec).unwrap();
    }

    // Its own input; and what cannot be executed.
    let cat = Executed::new(&bundle, "cat", &["/bin/cat"]).with_stdin();
    let cats = client.execute(&cat);
    let state = client.state_exec(&cat).unwrap();
    assert_eq!((state.pid, state.status.enum_value()), (cats, Ok(Status::RUNNING)));
    assert!(client.processes("c1").contains(&(cats, Some("cat".to_owned()))));
    assert_eq!(client.processes("c1")[0], (pid, None));
    assert_eq!(bench.record("c1").unwrap()["execs"]["cat"]["pid"], cats);
    fs::OpenOptions::new().write(true).open(&cat.stdin).unwrap().write_all(b"meow\n").unwrap();
    cat.output.wait_for("meow\n");
    assert_eq!(client.delete_exec(&cat).unwrap_err().code, Some(Code::FAILED_PRECONDITION));
    client.close_stdin("c1", "cat");
    assert_eq!(client.wait_exec(&cat), Ok(0));
    let none = Executed::new(&bundle, "none", &["/nonexistent"]);
    client.exec(&none).unwrap();
    let waiting = client.send_wait_exec("c1", "none");
    let refused = client.start_exec(&none).unwrap_err();
    assert!(refused.message.contains("/nonexistent"), "{refused:?}");
    assert_ne!(waiting.wait().unwrap().exit_status, 0);
    client.delete_exec(&none).unwrap();

    // One of them is killed; others go on.
    let one = Executed::new(&bundle, "one", &["/bin/sleep", "1000"]);
    let two = Executed::new(&bundle, "two", &["/bin/sleep", "1000"]);
    let (ones, twos) = (client.execute(&one), client.execute(&two));
    client.kill_exec(&one, 15).unwrap();
    assert_eq!(client.wait_exec(&one), Ok(143));
    assert_eq!(client.kill_exec(&one, 15).unwrap_err().code, Some(Code::NOT_FOUND));
    assert!(Proc::find(twos.cast_signed()).is_some() && ones != twos);

    // The container's end is that of the others, and told after it.
    client.kill("c1", 9).unwrap();
    assert_eq!(client.wait("c1"), Ok(137));
    assert_eq!(client.wait_exec(&two), Ok(137));
    eventually("the end is told", || bench.events.of("c1").last().is_some_and(|last| last == "exit"));
    let events = bench.events.of("c1");
    assert_eq!(events.iter().filter(|e| e.starts_with("exec-added")).count(), 15);
    assert_eq!(events[events.len() - 2..], ["exec-exit two".to_owned(), "exit".to_owned()], "{events:?}");
    let late = Executed::new(&bundle, "late", &["/bin/true"]);
    assert_eq!(client.exec(&late).unwrap_err().code, Some(Code::FAILED_PRECONDITION));
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn an_exec_has_a_terminal_with_a_size() {
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.ordinary("c1", &Spec::busybox(SLEEPS));
    let (shim, _) = bench.running(&bundle);
    let script = "tty; read line; stty size; echo got $line; exit 8";
    let exec = Executed::on_a_terminal(&bundle, "e1", &["/bin/sh", "-c", script]).with_stdin();
    shim.client.execute(&exec);
    exec.output.wait_for("/dev/pts/");
    shim.client.resize("c1", "e1", (100, 30));
    fs::OpenOptions::new().write(true).open(&exec.stdin).unwrap().write_all(b"hello\n").unwrap();
    assert_eq!(shim.client.wait_exec(&exec), Ok(8));
    let said = exec.output.to_end();
    assert!(said.contains("30 100") && said.ends_with("got hello\r\n"), "{said:?}");
    shim.client.delete_exec(&exec).unwrap();
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn it_pauses_and_its_limits_change() {
    use containerd_shim_protos::api::{Empty, PauseRequest, ResumeRequest, UpdateTaskRequest};
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.ordinary("c1", &Spec::busybox("while :; do echo tick; sleep 0.02; done"));
    let (shim, _) = bench.running(&bundle);
    let output = bundle.output.as_ref().unwrap();
    output.wait_for("tick");
    let pause = PauseRequest { id: "c1".to_owned(), ..PauseRequest::default() };
    shim.client.send::<Empty>("Pause", &pause).wait().unwrap();
    assert_eq!(shim.client.status("c1"), Ok(Status::PAUSED));
    let grows = || {
        let before = output.so_far().len();
        std::thread::sleep(A_WHILE);
        output.so_far().len() > before
    };
    // What it has said before is on its way.
    eventually("it is silent", || !grows());
    assert!(!grows(), "it goes on");
    let silent = output.so_far().len();
    let resume = ResumeRequest { id: "c1".to_owned(), ..ResumeRequest::default() };
    shim.client.send::<Empty>("Resume", &resume).wait().unwrap();
    eventually("it goes on", || output.so_far().len() > silent + 20);
    let update = UpdateTaskRequest {
        id: "c1".to_owned(),
        resources: protobuf::MessageField::some(protobuf::well_known_types::any::Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".to_owned(),
            value: json!({"pids": {"limit": 77}}).to_string().into_bytes(),
            ..Default::default()
        }),
        ..UpdateTaskRequest::default()
    };
    shim.client.send::<Empty>("Update", &update).wait().unwrap();
    let limits: Vec<_> = urunc_tests::direct::hierarchies()
        .iter()
        .filter_map(|h| fs::read_to_string(h.join(&bench.namespace).join("c1/pids.max")).ok())
        .collect();
    assert_eq!(limits, ["77\n"]);
    // One that is paused can be killed.
    shim.client.send::<Empty>("Pause", &pause).wait().unwrap();
    shim.client.kill("c1", 9).unwrap();
    assert_eq!(shim.client.wait("c1"), Ok(137));
    bench.events.expect("c1", &["create", "start", "paused", "resumed", "paused", "exit"]);
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn what_it_uses_is_told_to_the_end() {
    use containerd_shim_protos::api::{StatsRequest, StatsResponse};
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.ordinary("c1", &Spec::busybox(SLEEPS));
    let (shim, _) = bench.running(&bundle);
    bundle.output.as_ref().unwrap().wait_for("ready");
    let stats = || {
        let request = StatsRequest { id: "c1".to_owned(), ..StatsRequest::default() };
        shim.client.send::<StatsResponse>("Stats", &request).wait().unwrap().stats.unwrap().value.len()
    };
    assert!(stats() > 50);
    shim.client.kill("c1", 15).unwrap();
    shim.client.wait("c1").unwrap();
    assert!(stats() > 50);
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn that_the_kernel_kills_in_it_is_told_while_it_runs() {
    let Some(bench) = Bench::released() else { return };
    // It allocates all of it at once.
    let script = "dd if=/dev/zero of=/dev/null bs=256M count=1; echo status $?; read x; exit 4";
    let spec = Spec::busybox(script).edit(|s| s["linux"]["resources"]["memory"] = json!({"limit": 32 << 20}));
    let mut bundle = bench.ordinary("c1", &spec);
    bundle.stdin = stdin(&bundle);
    let (shim, _) = bench.running(&bundle);
    bundle.output.as_ref().unwrap().wait_for("status 137");
    eventually("it is told", || bench.events.of("c1").last().is_some_and(|last| last == "oom"));
    assert_eq!(shim.client.status("c1"), Ok(Status::RUNNING));
    shim.client.close_stdin("c1", "");
    // Its own end is another thing, and what was told is not told again.
    assert_eq!(shim.client.wait("c1"), Ok(4));
    bench.events.expect("c1", &["create", "start", "oom", "exit"]);
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn members_of_a_pod_join_its_namespaces_and_go_one_by_one() {
    let Some(bench) = Bench::released() else { return };
    let sandbox = bench.bundle("pod", &Spec::sandbox()).without_stdio();
    let (shim, pid) = bench.running(&sandbox);
    let member = |id: &str, script: &str| {
        bench.ordinary(id, &Spec::busybox(script).member_of("pod", pid)).without_stdio()
    };
    let guest = bench.bundle("guest", &Spec::tiny("hang").member_of("pod", pid)).without_stdio();
    let (one, two) = (member("one", SLEEPS), member("two", SLEEPS));
    for bundle in [&one, &guest, &two] {
        let again = bench.start(bundle);
        assert_eq!(again.daemon.pid(), shim.daemon.pid());
        let first = shim.client.create(bundle).unwrap();
        shim.client.start(&bundle.id).unwrap();
        for kind in ["net", "ipc", "uts"] {
            let of = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
            assert_eq!(of(first), of(pid), "{kind} of {}", bundle.id);
        }
    }
    let failure = shim.client.exec(&Executed::new(&guest, "e1", &["/bin/true"])).unwrap_err();
    assert_eq!(failure.code, Some(Code::UNIMPLEMENTED));
    assert!(failure.message.contains("container guest is a guest"), "{failure:?}");
    for bundle in [one, guest, two] {
        shim.client.kill(&bundle.id, 9).unwrap();
        shim.client.wait(&bundle.id).unwrap();
        shim.client.delete(&bundle.id).unwrap();
        shim.client.shutdown(&bundle.id);
        bench.delete(&bundle).deleted();
        bundle.remove();
    }
    bench.end(&shim, sandbox);
    bench.finish();
}

#[test]
fn a_sandboxs_delete_takes_its_ordinary_members_along() {
    let Some(bench) = Bench::released() else { return };
    let sandbox = bench.bundle("pod", &Spec::sandbox()).without_stdio();
    let (shim, pid) = bench.running(&sandbox);
    let member =
        bench.ordinary("one", &Spec::ordinary(&["/bin/sleep", "1000"]).member_of("pod", pid)).without_stdio();
    bench.start(&member);
    shim.client.create(&member).unwrap();
    shim.client.start("one").unwrap();
    let exec = Executed::new(&member, "e1", &["/bin/sleep", "1000"]);
    shim.client.execute(&exec);
    let members = bench.members("one");
    shim.daemon.kill();
    assert!(members.iter().all(Proc::is_alive), "they do not die with the daemon");
    bench.delete(&sandbox).deleted();
    assert!(members.iter().all(|m| !m.is_alive()) && !bench.is_mounted(&member));
    bench.delete(&member).deleted();
    drop(exec);
    member.remove();
    sandbox.remove();
    bench.finish();
}

#[test]
fn a_dead_daemons_container_is_unwound_by_delete_by_the_sweep_and_by_its_id() {
    let Some(bench) = Bench::released() else { return };
    for how in ["delete", "sweep", "create"] {
        let bundle = bench.ordinary("c1", &Spec::ordinary(&["/bin/sleep", "1000"])).without_stdio();
        let (shim, _) = bench.running(&bundle);
        let exec = Executed::new(&bundle, "e1", &["/bin/sleep", "1000"]);
        shim.client.execute(&exec);
        let members = bench.members("c1");
        assert!(members.len() >= 2);
        shim.daemon.kill();
        assert!(members.iter().all(Proc::is_alive), "they do not die with the daemon");
        drop(exec);
        match how {
            "delete" => {
                let answer = bench.delete(&bundle).deleted();
                assert_eq!(answer.exit_status, 137);
            }
            "sweep" => {
                bench.run("other", 3);
                eventually("it is swept", || members.iter().all(|m| !m.is_alive()));
                bench.delete(&bundle).deleted();
            }
            _ => {
                bundle.remove();
                let bundle = bench.ordinary("c1", &Spec::busybox("exit 3")).without_stdio();
                let (shim, _) = bench.running(&bundle);
                assert_eq!(shim.client.wait("c1"), Ok(3));
                assert!(members.iter().all(|m| !m.is_alive()));
                bench.end(&shim, bundle);
                continue;
            }
        }
        assert!(members.iter().all(|m| !m.is_alive()) && !bench.is_mounted(&bundle));
        bundle.remove();
        bench.check();
    }
    bench.finish();
}

#[test]
fn an_oci_runtime_that_is_killed_in_the_midst_leaves_nothing() {
    let Some(mut bench) = Bench::released() else { return };
    for millis in [0, 5, 10, 15, 20, 25, 30, 40, 60] {
        let double = double(&bench, "create", &killed_after(millis));
        bench.set_variable("URUNC_OCI_RUNTIME", &double);
        let bundle = bench.ordinary("c1", &Spec::busybox(SLEEPS)).without_stdio();
        let shim = bench.start(&bundle);
        let failure = shim.client.create(&bundle).unwrap_err();
        assert!(failure.message.contains("create"), "{failure:?}");
        assert!(bench.members("c1").is_empty() && !bench.is_mounted(&bundle));
        assert!(!bench.run_directory("c1").exists(), "{failure:?}");
        shim.client.shutdown("c1");
        bench.delete(&bundle).deleted();
        bundle.remove();
        bench.check();
    }
    for verb in ["start", "exec", "delete"] {
        let double = double(&bench, verb, "kill -9 $$");
        bench.set_variable("URUNC_OCI_RUNTIME", &double);
        let bundle = bench.ordinary("c1", &Spec::ordinary(&["/bin/sleep", "1000"])).without_stdio();
        let shim = bench.start(&bundle);
        shim.client.create(&bundle).unwrap();
        if verb == "start" {
            shim.client.start("c1").unwrap_err();
            assert_eq!(shim.client.status("c1"), Ok(Status::CREATED), "nothing has happened");
        } else {
            shim.client.start("c1").unwrap();
        }
        if verb == "exec" {
            let exec = Executed::new(&bundle, "e1", &["/bin/sleep", "1000"]);
            shim.client.exec(&exec).unwrap();
            shim.client.start_exec(&exec).unwrap_err();
            let members = bench.members("c1");
            assert!(!members.is_empty() && members.iter().all(Proc::is_alive), "{members:?}");
        }
        bench.end(&shim, bundle);
        bench.check();
    }
    bench.finish();
}

#[test]
fn an_oci_runtime_that_is_gone_is_done_without() {
    let Some(mut bench) = Bench::released() else { return };
    let double = double(&bench, "nothing", ":");
    bench.set_variable("URUNC_OCI_RUNTIME", &double);
    let bundle = bench.ordinary("c1", &Spec::busybox(SLEEPS)).without_stdio();
    let (shim, _) = bench.running(&bundle);
    fs::remove_file(&double).unwrap();
    bench.end(&shim, bundle);
    bench.check();
    let double = urunc_tests::direct::double(&bench, "nothing", ":");
    let bundle = bench.ordinary("c1", &Spec::busybox(SLEEPS)).without_stdio();
    let (shim, _) = bench.running(&bundle);
    fs::remove_file(&double).unwrap();
    shim.daemon.kill();
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.check();
    // And none to begin with.
    let bundle = bench.ordinary("c1", &Spec::busybox(SLEEPS)).without_stdio();
    let shim = bench.start(&bundle);
    let failure = shim.client.create(&bundle).unwrap_err();
    assert_eq!(failure.code, Some(Code::FAILED_PRECONDITION));
    assert!(failure.message.contains(&double) && failure.message.contains("install"), "{failure:?}");
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

#[test]
fn what_its_spec_asks_for_wrongly_is_the_oci_runtimes_to_refuse() {
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.ordinary("c1", &Spec::ordinary(&["/nonexistent"])).without_stdio();
    let shim = bench.start(&bundle);
    let failure = shim.client.create(&bundle).unwrap_err();
    assert!(
        failure.message.contains("/nonexistent") && failure.message.contains("undone: oci, rootfs"),
        "{failure:?}"
    );
    assert_eq!(shim.client.delete("c1").unwrap_err().code, Some(Code::NOT_FOUND));
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

#[test]
fn one_whose_first_process_nobody_knows_is_found_by_its_cgroup() {
    let Some(mut bench) = Bench::with_faults() else { return };
    let double = double(&bench, "nothing", ":");
    bench.set_variable("URUNC_OCI_RUNTIME", &double);
    let bundle = bench.ordinary("c1", &Spec::busybox(SLEEPS)).without_stdio();
    let shim = bench.start(&bundle);
    // It would end the container when the daemon dies.
    bench.end_gc();
    // It is there, and its identity is not in the record yet.
    bench.faults.set(&["oci.created=kill"]);
    shim.client.create(&bundle).unwrap_err();
    let members = bench.members("c1");
    assert!(!members.is_empty() && bench.record("c1").unwrap()["process"].is_null());
    // Nor does anybody else know it.
    fs::remove_file(&double).unwrap();
    bench.delete(&bundle).deleted();
    assert!(members.iter().all(|m| !m.is_alive()) && !bench.is_mounted(&bundle));
    bundle.remove();
    bench.finish();
}
