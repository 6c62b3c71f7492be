//! The contract of `start`, and of the daemon that `start` makes: grouping, re-use, leaving.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    fs,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use containerd_shim_protos::{
    api::{ConnectRequest, ConnectResponse, Status},
    bootstrap_api::{BootstrapParams, BootstrapResult},
};
use protobuf::{Message, well_known_types::any::Any};
use rustix::{
    process::{Signal, Uid},
    thread::{CapabilitySet, capabilities, set_capabilities, set_keep_capabilities, set_thread_res_uid},
};
use urunc_tests::direct::{
    A_WHILE, Bench, Bundle, Client, Proc, SOON, Shim, Spec, eventually, eventually_some,
};

/// A bundle of which no guest is to run.
fn idle(bench: &Bench, id: &str) -> Bundle {
    bench.bundle(id, &Spec::tiny("hang")).without_stdio()
}

/// Ends a shim that has no containers, as containerd does.
fn leave(bench: &Bench, shim: &Shim, bundle: Bundle) {
    shim.client.shutdown(&bundle.id);
    assert!(shim.daemon.ends_within(SOON), "the daemon does not leave");
    bench.delete(&bundle).deleted();
    bundle.remove();
}

/// Before containerd's first call it asks nobody to clean up.
#[test]
fn a_daemon_that_is_killed_before_it_is_called_leaves_nothing() {
    let Some(bench) = Bench::with_faults() else { return };
    for round in 0..5 {
        let bundle = idle(&bench, "c1");
        let started = bench.run_start(&bundle, b"").wait();
        assert_eq!(started.code, Some(0), "{}", started.stderr);
        // `start` does not wait for the end of its execve(2), before which it has no command line.
        eventually(&format!("round {round}: one stands by"), || bench.actions("gc").len() == 1);
        bench.actions("daemon").iter().for_each(Proc::kill);
        eventually("nothing is left", || !bench.socket("c1").exists() && !bench.pod_file("c1").exists());
        eventually("gc has ended", || bench.actions("gc").is_empty());
        bundle.remove();
        bench.check();
    }
    // A Create that is done dismisses it.
    let (shim, bundle, _) = bench.created("c1", &Spec::tiny("hang"));
    eventually("gc has ended", || bench.actions("gc").is_empty());
    // That of a `delete` that finds a daemon only, and is killed.
    bench.end(&shim, bundle);
    let bundle = idle(&bench, "c1");
    bench.start(&bundle).daemon.stop();
    bench.end_gc();
    let delete = bench.run_delete(&bundle);
    eventually("somebody stands by", || !bench.actions("gc").is_empty());
    delete.process().kill();
    delete.wait();
    bench.actions("daemon").iter().for_each(Proc::kill);
    eventually("nothing is left", || !bench.socket("c1").exists() && !bench.pod_file("c1").exists());
    eventually("gc has ended", || bench.actions("gc").is_empty());
    bundle.remove();
    bench.finish();
}

/// Of such a Create containerd knows nothing any more once it has asked for one `delete`, which may be killed as well.
#[test]
fn a_daemon_that_is_killed_in_its_first_create_leaves_nothing() {
    let Some(bench) = Bench::with_faults() else { return };
    for point in
        ["cgroup.before-intent", "cgroup.after-acting", "launcher.after-done", "plan.made", "commit.after"]
    {
        let bundle = bench.bundle("c1", &Spec::tiny("hang"));
        let shim = bench.start(&bundle);
        bench.faults.set(&[&format!("{point}=kill")]);
        shim.client.create(&bundle).expect_err("the connection breaks");
        assert!(bench.faults.has_fired(point) && shim.daemon.ends_within(SOON), "{point}");
        bench.faults.set(&[]);
        bundle.remove();
        eventually("gc has ended", || bench.actions("gc").is_empty());
        assert!(bench.run_directory("c1").read_dir().is_err(), "{point}");
        bench.check();
    }
    bench.finish();
}

/// The same of a pod's first member, whose bundle goes when all else is done: its tombstone waits for nobody.
#[test]
fn a_daemon_that_is_killed_in_a_members_first_create_leaves_nothing() {
    let Some(bench) = Bench::with_faults() else { return };
    let [pod, member] =
        ["p1", "c1"].map(|id| bench.bundle(id, &Spec::tiny("hang").in_pod("p1")).without_stdio());
    let shim = bench.start(&pod);
    assert_eq!(bench.run_start(&member, b"").wait().text(), shim.address);
    bench.faults.set(&["commit.after=kill"]);
    shim.client.create(&member).expect_err("the connection breaks");
    assert!(bench.faults.has_fired("commit.after") && shim.daemon.ends_within(SOON));
    bench.faults.set(&[]);
    eventually("it is undone", || bench.record("c1").is_some_and(|record| record["tombstone"] == true));
    // And all else that it has to do.
    thread::sleep(A_WHILE);
    member.remove();
    pod.remove();
    eventually("gc has ended", || bench.actions("gc").is_empty());
    assert!(bench.run_directory("c1").read_dir().is_err());
    bench.finish();
}

/// A daemon that cannot open a file can neither take a call nor leave.
#[test]
fn too_few_descriptors_are_refused_before_anything_is_made() {
    let Some(bench) = Bench::released() else { return };
    let bundle = idle(&bench, "c1");
    let start = bench.command("start", "c1", &bundle.path);
    let mut limited = Command::new("prlimit");
    limited.arg("--nofile=63:63").arg(start.get_program()).args(start.get_args()).current_dir(&bundle.path);
    limited.envs(start.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let refused = limited.output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("RLIMIT_NOFILE is 63") && said.contains("at least 64"), "{said}");
    assert_ne!(refused.status.code(), Some(0));
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

#[test]
fn start_prints_the_address_and_nothing_else() {
    let Some(bench) = Bench::released() else { return };
    let bundle = idle(&bench, "c1");
    let started = bench.run_start(&bundle, b"").wait();
    let socket = bench.socket("c1");
    // At once: nobody tries twice.
    let connected = UnixStream::connect(&socket);
    assert_eq!(started.code, Some(0));
    assert_eq!(started.text(), format!("unix://{}", socket.display()));
    assert_eq!(started.stderr, "");
    connected.expect("the socket listens when `start` has ended");
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&socket), 0o600);
    assert_eq!(mode(socket.parent().unwrap()) & 0o077, 0, "the socket's folder is its user's alone");
    assert_eq!(fs::read_to_string(bundle.path.join("address")).unwrap(), started.text());
    assert!(!bundle.path.join(".address").exists());

    let shim = bench.connect(&started.text());
    let link = |name: &str| fs::read_link(format!("/proc/{}/{name}", shim.daemon.pid())).unwrap();
    assert_eq!(link("cwd"), Path::new("/"), "the bundle is containerd's to remove");
    for fd in 0..3 {
        assert_eq!(link(&format!("fd/{fd}")), Path::new("/dev/null"));
    }
    leave(&bench, &shim, bundle);
    bench.finish();
}

#[test]
fn bootstrap_params_are_answered_with_a_result_that_says_version_2() {
    let Some(bench) = Bench::released() else { return };
    let bundle = idle(&bench, "c1");
    let folder = bench.scratch().join("s");
    for socket_dir in [None, Some(folder.to_string_lossy().into_owned())] {
        let params = BootstrapParams {
            instance_id: "c1".to_owned(),
            namespace: bench.namespace.clone(),
            containerd_grpc_address: bench.address().to_owned(),
            socket_dir: socket_dir.clone(),
            ..BootstrapParams::default()
        };
        let started = bench.run_start(&bundle, &params.write_to_bytes().unwrap()).wait();
        assert_eq!((started.code, started.stderr.as_str()), (Some(0), ""));
        let result = BootstrapResult::parse_from_bytes(&started.stdout).unwrap();
        assert_eq!((result.version, result.protocol.as_str()), (2, "ttrpc"));
        let name = bench.socket("c1").file_name().unwrap().to_owned();
        let socket =
            socket_dir.as_ref().map_or_else(|| bench.socket("c1"), |folder| Path::new(folder).join(name));
        assert_eq!(result.address, format!("unix://{}", socket.display()));
        let shim = bench.connect(&result.address);
        shim.client.shutdown("c1");
        assert!(shim.daemon.ends_within(SOON));
        assert!(!socket.exists(), "a socket in a folder of containerd's choice is removed, too");
    }
    bundle.remove();
    bench.finish();
}

#[test]
fn options_on_stdin_are_answered_with_the_plain_address() {
    let Some(bench) = Bench::released() else { return };
    let bundle = idle(&bench, "c1");
    // As a message of BootstrapParams this is an instance "runtimeoptions.v1.Options".
    let options = Any {
        type_url: "runtimeoptions.v1.Options".to_owned(),
        value: bench.namespace.clone().into_bytes(),
        ..Any::default()
    };
    let started = bench.run_start(&bundle, &options.write_to_bytes().unwrap()).wait();
    assert_eq!(started.text(), format!("unix://{}", bench.socket("c1").display()));
    leave(&bench, &bench.connect(&started.text()), bundle);
    bench.finish();
}

#[test]
fn a_start_that_cannot_work_says_why_and_leaves_nothing() {
    let Some(bench) = Bench::released() else { return };
    let bundle = idle(&bench, "c1");
    let fails = |what: &str, expected: &str| {
        let started = bench.run_start(&bundle, b"").wait();
        assert_eq!((started.code, started.stdout.len()), (Some(1), 0), "{what}: {started:?}");
        assert!(started.stderr.contains(expected), "{what}: {}", started.stderr);
        assert_eq!(started.stderr.lines().count(), 1, "one line for the user: {}", started.stderr);
        bench.check();
    };
    fs::write(bundle.path.join("config.json"), "{\"annotations\": [").unwrap();
    fails("a broken spec", "config.json is not a valid OCI spec");
    fs::remove_file(bundle.path.join("config.json")).unwrap();
    fails("no spec", "config.json");
    for (id, expected) in [("../c1", "-id"), ("-x", "-id"), ("", "-id")] {
        let output = bench.command("start", id, &bundle.path).output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty());
        assert!(String::from_utf8_lossy(&output.stderr).contains(expected), "{id}: {output:?}");
    }
    bundle.remove();
    bench.finish();
}

#[test]
fn a_pod_has_one_daemon() {
    let Some(bench) = Bench::released() else { return };
    let in_pod = Spec::tiny("hang").in_pod("pod");
    let (sandbox, member) =
        (bench.bundle("pod", &in_pod).without_stdio(), bench.bundle("c1", &in_pod).without_stdio());
    let first = bench.start(&sandbox);
    assert_eq!(first.client.create(&sandbox).map(drop), Ok(()));
    let second = bench.start(&member);
    assert_eq!((&second.address, second.daemon.pid()), (&first.address, first.daemon.pid()));
    assert_eq!(fs::read_to_string(member.path.join("address")).unwrap(), first.address);
    assert_eq!(bench.daemons().len(), 1);
    second.client.create(&member).unwrap();

    // containerd says Shutdown for every container; the daemon stays as long as it has one.
    second.client.delete("c1").unwrap();
    second.client.shutdown("c1");
    bench.delete(&member).deleted();
    member.remove();
    assert_eq!(first.client.status("pod"), Ok(Status::CREATED));
    first.client.delete("pod").unwrap();
    // A ping has promised the address to a Create; that is over after 10 s. A signal is faster.
    first.daemon.signal(Signal::TERM);
    assert!(first.daemon.ends_within(SOON));
    bench.delete(&sandbox).deleted();
    sandbox.remove();
    bench.finish();
}

#[test]
fn starts_at_once_make_one_daemon() {
    let Some(bench) = Bench::released() else { return };
    for round in 0..5 {
        let pod = format!("pod{round}");
        let spec = Spec::tiny("hang").in_pod(&pod);
        let bundles: Vec<_> = std::iter::once(pod.clone())
            .chain((0..7).map(|n| format!("c{n}")))
            .map(|id| bench.bundle(&id, &spec).without_stdio())
            .collect();
        let running: Vec<_> = bundles.iter().map(|bundle| bench.run_start(bundle, b"")).collect();
        for started in running.into_iter().map(urunc_tests::direct::Ran::wait) {
            assert_eq!((started.code, started.stderr.as_str()), (Some(0), ""));
            assert_eq!(started.text(), format!("unix://{}", bench.socket(&pod).display()));
        }
        let daemons = bench.daemons();
        assert_eq!(daemons.len(), 1, "one daemon for one pod");
        daemons[0].signal(Signal::TERM);
        assert!(daemons[0].ends_within(SOON));
        bundles.into_iter().for_each(Bundle::remove);
    }
    bench.finish();
}

#[test]
fn a_dead_daemon_is_replaced() {
    let Some(bench) = Bench::released() else { return };
    // With nobody left who would tidy, its socket is met; beside a `gc` that tidies, the next `start` may come before it,
    // in its middle or behind it.
    for beside_gc in [false, true, true, true] {
        let bundle = idle(&bench, "c1");
        let dead = bench.start(&bundle);
        if !beside_gc {
            bench.end_gc();
        }
        dead.daemon.kill();
        assert!(beside_gc || bench.socket("c1").exists(), "a killed daemon leaves its socket");
        let shim = bench.start(&bundle);
        assert_eq!(shim.address, dead.address);
        assert_ne!(shim.daemon.pid(), dead.daemon.pid());
        shim.client.create(&bundle).unwrap();
        bench.end(&shim, bundle);
    }
    bench.finish();
}

#[test]
fn a_socket_that_nobody_listens_at_is_replaced() {
    let Some(bench) = Bench::released() else { return };
    let bundle = idle(&bench, "c1");
    drop(UnixListener::bind(bench.socket("c1")).unwrap());
    let shim = bench.start(&bundle);
    leave(&bench, &shim, bundle);
    bench.finish();
}

#[test]
fn a_stranger_who_listens_at_the_socket_is_left_alone() {
    let Some(bench) = Bench::released() else { return };
    let bundle = idle(&bench, "c1");
    let stranger = UnixListener::bind(bench.socket("c1")).unwrap();
    let started = bench.run_start(&bundle, b"").wait();
    assert_eq!(started.code, Some(1));
    assert!(started.stderr.contains("in use by another program"), "{}", started.stderr);
    UnixStream::connect(bench.socket("c1")).expect("the stranger's socket is still there");
    drop(stranger);
    fs::remove_file(bench.socket("c1")).unwrap();
    bundle.remove();
    bench.finish();
}

#[test]
fn a_stopped_daemon_is_never_doubled() {
    let Some(bench) = Bench::released() else { return };
    let bundle = idle(&bench, "c1");
    let shim = bench.start(&bundle);
    shim.daemon.stop();
    let started = bench.run_start(&bundle, b"").wait();
    assert_eq!(started.code, Some(1));
    assert!(started.stderr.contains("does not answer"), "{}", started.stderr);
    assert!((2.5..6.0).contains(&started.took.as_secs_f64()), "it took {:?}", started.took);
    assert_eq!(bench.daemons().len(), 1, "never a second daemon beside a living one");
    shim.daemon.signal(Signal::CONT);
    let again = bench.start(&bundle);
    assert_eq!(again.daemon.pid(), shim.daemon.pid());
    shim.daemon.signal(Signal::TERM);
    assert!(shim.daemon.ends_within(SOON));
    bundle.remove();
    bench.finish();
}

#[test]
fn the_daemon_of_a_start_that_was_killed_leaves_by_itself() {
    let Some(bench) = Bench::with_faults() else { return };
    let bundle = idle(&bench, "c1");
    bench.faults.set(&["start.answer=stop"]);
    let start = bench.run_start(&bundle, b"");
    eventually("start is stopped", || bench.faults.has_fired("start.answer"));
    let daemon = eventually_some("the daemon", || bench.daemons().pop());
    start.process().kill();
    let killed = start.wait();
    assert_eq!((killed.code, killed.stdout.len()), (None, 0));
    assert!(daemon.ends_within(SOON), "the daemon stays though nobody knows its address");
    bench.faults.set(&[]);
    bundle.remove();
    bench.finish();
}

#[test]
fn a_start_that_was_killed_at_any_point_leaves_nothing() {
    let Some(bench) = Bench::with_faults() else { return };
    let spec = Spec::tiny("hang");
    // What a `start` passes.
    bench.faults.set(&["*=trace"]);
    let bundle = bench.bundle("dry", &spec).without_stdio();
    let start = bench.run_start(&bundle, b"");
    let pid = start.process().pid();
    assert_eq!(start.wait().code, Some(0));
    let passed: Vec<String> =
        bench.faults.fired().into_iter().filter(|f| f.pid == pid).map(|f| f.name).collect();
    bench.faults.set(&[]);
    let daemon = bench.daemons().pop().unwrap();
    daemon.signal(Signal::TERM);
    assert!(daemon.ends_within(SOON));
    bundle.remove();
    assert!(
        ["start.spawned", "start.locked", "start.pod", "start.bound", "start.answer", "record.torn"]
            .iter()
            .all(|must| passed.iter().any(|p| p == must)),
        "{passed:?}"
    );

    for (n, point) in passed.iter().enumerate() {
        let passage = passed[..=n].iter().filter(|p| *p == point).count();
        // Without somebody who stands by a daemon serves as well.
        let actions = if point == "standby.spawn" { &["kill"][..] } else { &["kill", "error"] };
        for action in actions {
            let id = format!("c{n}{action}");
            let bundle = bench.bundle(&id, &spec).without_stdio();
            bench.faults.set(&[&format!("{point}#{passage}={action}")]);
            let started = bench.run_start(&bundle, b"").wait();
            bench.faults.set(&[]);
            assert_ne!(started.code, Some(0), "{action} at {point}#{passage}: {started:?}");
            eventually("no daemon without a start", || bench.daemons().is_empty());
            if *action == "error" {
                assert!(started.stderr.contains("injected fault"), "{}", started.stderr);
            }
            // The daemon that was spawned first has seen to it: no later action is needed.
            bench.check();
            let shim = bench.start(&bundle);
            shim.client.create(&bundle).unwrap();
            bench.end(&shim, bundle);
            bench.check();
        }
    }
    bench.finish();
}

#[test]
fn a_peer_of_another_user_is_refused() {
    let Some(bench) = Bench::released() else { return };
    let bundle = idle(&bench, "c1");
    let shim = bench.start(&bundle);
    let socket = bench.socket("c1");
    let as_nobody = |keep: bool| {
        let socket = socket.clone();
        // A thread's credentials are its own; it takes them with it when it ends.
        thread::spawn(move || {
            let nobody = Uid::from_raw(65534);
            set_keep_capabilities(true).unwrap();
            set_thread_res_uid(nobody, nobody, nobody).unwrap();
            if keep {
                let mut sets = capabilities(None).unwrap();
                sets.effective =
                    sets.permitted & (CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
                set_capabilities(None, sets).unwrap();
            }
            UnixStream::connect(socket)
        })
        .join()
        .unwrap()
    };
    as_nobody(false).expect_err("the folder and the socket are their user's alone");
    // Whoever passes the folder all the same is asked who he is.
    let client = Client::over(as_nobody(true).expect("this one may connect anywhere"));
    let ask = |client: &Client| {
        let request = ConnectRequest { id: "c1".to_owned(), ..ConnectRequest::default() };
        client.send::<ConnectResponse>("Connect", &request).within(Duration::from_secs(5))
    };
    match ask(&client) {
        Some(Err(failure)) => assert_eq!(failure.code, None, "hung up on, not answered: {failure:?}"),
        other => panic!("a stranger was answered: {other:?}"),
    }
    assert!(matches!(ask(&shim.client), Some(Ok(_))), "others are served as before");
    leave(&bench, &shim, bundle);
    bench.finish();
}

#[test]
fn a_signal_ends_everything_in_order() {
    let Some(bench) = Bench::released() else { return };
    for signal in [Signal::TERM, Signal::INT] {
        let bundle = bench.bundle("c1", &Spec::tiny("hang"));
        let other = bench.bundle("c2", &Spec::tiny("hang").in_pod("c1"));
        let shim = bench.start(&bundle);
        shim.client.create(&bundle).unwrap();
        let pid = shim.client.start("c1").unwrap();
        bench.start(&other).client.create(&other).unwrap();
        // The last of what is told so far.
        eventually("it is told", || bench.events.of("c2").last().is_some_and(|event| event == "create"));
        let before = bench.events.all().len();
        let guest = Proc::of(pid.cast_signed());
        let waiting = shim.client.send_wait("c1");
        shim.daemon.signal(signal);
        assert!(shim.daemon.ends_within(SOON));
        assert!(!guest.is_alive(), "the guest ends before its daemon");
        if let Ok(answer) = waiting.wait() {
            assert_eq!(answer.exit_status, 137);
        }
        bundle.output();
        assert!(!bench.socket("c1").exists());
        let after =
            bench.events.all()[before..].iter().map(urunc_tests::direct::Event::brief).collect::<Vec<_>>();
        for id in ["c1", "c2"] {
            let of: Vec<_> = after.iter().filter(|e| e.ends_with(id)).cloned().collect();
            assert_eq!(of, [format!("exit {id}"), format!("delete {id}")], "told before the end");
        }
        // The tombstone waits for the id's own `delete`.
        let record = bench.record("c1").expect("a tombstone");
        assert_eq!((&record["tombstone"], &record["exit"]["status"]), (&true.into(), &137.into()));
        let deleted = bench.delete(&bundle).deleted();
        assert_eq!((deleted.pid, deleted.exit_status), (pid, 137));
        assert!(bench.record("c1").is_none());
        bench.delete(&other).deleted();
        bundle.remove();
        other.remove();
        bench.check();
    }
    bench.finish();
}

#[test]
fn a_daemon_without_containers_leaves_with_the_first_shutdown() {
    let Some(bench) = Bench::released() else { return };
    let bundle = idle(&bench, "c1");
    // Nothing was ever created: kata-containers#5087.
    let shim = bench.start(&bundle);
    leave(&bench, &shim, bundle);
    // A Create failed.
    let bundle = bench.bundle("c2", &Spec::tiny("hang").key("binary", "/no-such-kernel")).without_stdio();
    let shim = bench.start(&bundle);
    shim.client.create(&bundle).unwrap_err();
    leave(&bench, &shim, bundle);
    bench.finish();
}

#[test]
fn an_address_that_start_has_promised_serves_a_create() {
    let Some(bench) = Bench::released() else { return };
    // A daemon that is just leaving: `start` waits for its end, or keeps it; never the address of a dead one.
    for round in 0..40 {
        let spec = Spec::tiny("hang").in_pod("pod");
        let (first, second) =
            (bench.bundle("pod", &spec).without_stdio(), bench.bundle("c1", &spec).without_stdio());
        let old = bench.start(&first);
        let client = old.client.clone();
        let leaving = thread::spawn(move || {
            thread::sleep(Duration::from_micros(round % 10 * 400));
            client.shutdown("pod");
        });
        let shim = bench.start(&second);
        leaving.join().unwrap();
        shim.client.create(&second).unwrap_or_else(|e| panic!("round {round}: {e:?}"));
        shim.client.delete("c1").unwrap();
        for daemon in bench.daemons() {
            daemon.signal(Signal::TERM);
            assert!(daemon.ends_within(SOON));
        }
        bench.delete(&second).deleted();
        first.remove();
        second.remove();
    }
    bench.finish();
}

#[test]
fn a_daemon_that_is_ending_promises_nothing() {
    let Some(bench) = Bench::with_faults() else { return };
    let spec = Spec::tiny("hang").in_pod("pod");
    let (first, second) =
        (bench.bundle("pod", &spec).without_stdio(), bench.bundle("c1", &spec).without_stdio());
    let old = bench.start(&first);
    old.client.create(&first).unwrap();
    bench.faults.set(&["launcher.undo=delay:700"]);
    old.daemon.signal(Signal::TERM);
    eventually("it is ending", || bench.faults.has_fired("launcher.undo"));
    // It is waited for, and replaced.
    let shim = bench.start(&second);
    bench.faults.set(&[]);
    assert_ne!(shim.daemon.pid(), old.daemon.pid());
    shim.client.create(&second).unwrap();
    bench.delete(&first).deleted();
    bench.end(&shim, second);
    first.remove();
    bench.finish();
}
