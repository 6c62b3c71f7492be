//! The contract of the Task service: codes, states, waits, events, deadlines.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use containerd_shim_protos::{
    api::{
        CheckpointTaskRequest, CreateTaskRequest, CreateTaskResponse, DeleteRequest, Empty,
        ExecProcessRequest, KillRequest, StartRequest, StartResponse, StateRequest, StateResponse, Status,
        WaitRequest, WaitResponse,
    },
    ttrpc::Code,
};
use protobuf::Message;
use rustix::process::Signal;
use urunc_tests::direct::{Bench, Bundle, Client, Event, Failure, Mode, Proc, SOON, Shim, Spec, eventually};

/// A shim with one container that is Created.
fn created(bench: &Bench, id: &str, words: &str) -> (Shim, Bundle, u32) {
    bench.created(id, &Spec::tiny(words))
}

#[track_caller]
fn assert_code<T: std::fmt::Debug>(result: Result<T, Failure>, code: Code) -> String {
    match result {
        Err(failure) if failure.code == Some(code) => failure.message,
        other => panic!("{code:?} was expected: {other:?}"),
    }
}

fn id<T>(id: &str, set: impl FnOnce(&mut T, String)) -> T
where
    T: Default,
{
    let mut request = T::default();
    set(&mut request, id.to_owned());
    request
}

#[test]
fn what_is_not_built_answers_at_once_with_a_sentence() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle, _) = created(&bench, "c1", "hang");
    let refused = |method: &str, request: &dyn Fn(&Client) -> Result<(), Failure>| {
        let began = Instant::now();
        let message = assert_code(request(&shim.client), Code::UNIMPLEMENTED);
        assert!(began.elapsed() < Duration::from_millis(500), "{method} took {:?}", began.elapsed());
        assert!(message.split(' ').count() > 3, "{method}: a sentence, not {message:?}");
    };
    macro_rules! refused {
        ($method:literal, $request:ty) => {
            let request = id::<$request>("c1", |r, id| r.id = id);
            refused($method, &|client| client.send::<Empty>($method, &request).wait().map(drop));
        };
    }
    refused!("Checkpoint", CheckpointTaskRequest);
    refused!("Exec", ExecProcessRequest);
    let mut request = id::<CreateTaskRequest>("c2", |r, id| r.id = id);
    request.checkpoint = "/checkpoint".to_owned();
    refused("Create", &|client| client.send::<CreateTaskResponse>("Create", &request).wait().map(drop));
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn an_id_that_nobody_knows_is_not_found() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle, _) = created(&bench, "c1", "hang");
    let client = &shim.client;
    assert_code(client.start("c2"), Code::NOT_FOUND);
    assert_code(client.state("c2"), Code::NOT_FOUND);
    assert_code(client.wait("c2"), Code::NOT_FOUND);
    assert_code(client.kill("c2", 9), Code::NOT_FOUND);
    assert_code(client.delete("c2"), Code::NOT_FOUND);
    assert_code(client.pids("c2"), Code::NOT_FOUND);
    assert_eq!(client.connect_task("c2"), (shim.daemon.pid().unsigned_abs(), 0));
    // A process in the guest that nobody knows, either.
    let exec = || "e1".to_owned();
    let (c1, none) = (|| "c1".to_owned(), Default::default);
    let start = StartRequest { id: c1(), exec_id: exec(), special_fields: none() };
    assert_code(client.send::<StartResponse>("Start", &start).wait(), Code::NOT_FOUND);
    let state = StateRequest { id: c1(), exec_id: exec(), special_fields: none() };
    assert_code(client.send::<StateResponse>("State", &state).wait(), Code::NOT_FOUND);
    let wait = WaitRequest { id: c1(), exec_id: exec(), special_fields: none() };
    assert_code(client.send::<WaitResponse>("Wait", &wait).wait(), Code::NOT_FOUND);
    let kill = KillRequest { id: c1(), exec_id: exec(), signal: 9, ..KillRequest::default() };
    assert_code(client.send::<Empty>("Kill", &kill).wait(), Code::NOT_FOUND);
    let delete = DeleteRequest { id: c1(), exec_id: exec(), special_fields: none() };
    assert_code(client.send::<Empty>("Delete", &delete).wait(), Code::NOT_FOUND);
    assert_eq!(client.status("c1"), Ok(Status::CREATED), "the container is as it was");
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn every_state_answers_as_containerd_expects() {
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.bundle("c1", &Spec::tiny("hang"));
    let shim = bench.start(&bundle);
    let client = &shim.client;
    let pid = client.create(&bundle).unwrap();
    assert!(Proc::of(pid.cast_signed()).is_alive(), "Create answers a pid of the host");

    let check = |status: Status, exit: u32| {
        let state = client.state("c1").unwrap();
        assert_eq!(state.status.enum_value(), Ok(status));
        assert_eq!((state.id.as_str(), state.pid, state.exit_status), ("c1", pid, exit));
        assert_eq!(
            (&state.stdout, &state.stderr, &state.stdin),
            (&bundle.stdout, &bundle.stderr, &bundle.stdin)
        );
        assert_eq!((state.bundle.as_str(), state.terminal), (bundle.path.to_str().unwrap(), false));
        assert_eq!(state.exited_at.is_some(), status == Status::STOPPED);
        assert_eq!(client.pids("c1"), Ok(vec![pid]));
        assert_eq!(client.connect_task("c1"), (shim.daemon.pid().unsigned_abs(), pid));
    };
    check(Status::CREATED, 0);
    let early = [client.send_wait("c1"), client.send_wait("c1")];
    let message = assert_code(client.create(&bundle), Code::ALREADY_EXISTS);
    assert!(message.contains("c1"), "{message}");
    check(Status::CREATED, 0);

    assert_eq!(client.start("c1"), Ok(pid), "the pid of Create is the monitor's");
    check(Status::RUNNING, 0);
    let late = [client.send_wait("c1"), client.send_wait("c1")];
    assert_code(client.start("c1"), Code::FAILED_PRECONDITION);
    assert_code(client.create(&bundle), Code::ALREADY_EXISTS);
    let message = assert_code(client.delete("c1"), Code::FAILED_PRECONDITION);
    assert!(message.contains("running"), "{message}");
    for signal in [0, Signal::USR1.as_raw(), Signal::WINCH.as_raw(), Signal::CHILD.as_raw()] {
        assert_eq!(client.kill("c1", signal), Ok(()), "signal {signal} does nothing");
    }
    for name in ["SIGUSR1", "SIGWINCH", "SIGCHLD"] {
        bundle.wait_for_log(&format!("signal={name}"));
    }
    assert_code(client.kill("c1", 65), Code::INVALID_ARGUMENT);
    check(Status::RUNNING, 0);
    assert!(
        early.iter().chain(&late).all(|wait| wait.within(Duration::ZERO).is_none()),
        "nobody waits in vain"
    );

    assert_eq!(client.kill("c1", Signal::TERM.as_raw()), Ok(()), "this guest hears no button");
    for wait in early.into_iter().chain(late) {
        let answer = wait.wait().unwrap();
        assert_eq!(answer.exit_status, 143);
        assert!(answer.exited_at.is_some());
    }
    assert_eq!(client.wait("c1"), Ok(143), "after the exit, too");
    check(Status::STOPPED, 143);
    let message = assert_code(client.kill("c1", 9), Code::NOT_FOUND);
    assert!(message.contains("has ended already"), "{message}");
    assert_code(client.start("c1"), Code::FAILED_PRECONDITION);
    assert_code(client.create(&bundle), Code::ALREADY_EXISTS);
    bundle.output();

    let deleted = client.delete("c1").unwrap();
    assert_eq!((deleted.pid, deleted.exit_status, deleted.exited_at.is_some()), (pid, 143, true));
    assert_code(client.delete("c1"), Code::NOT_FOUND);
    assert_code(client.wait("c1"), Code::NOT_FOUND);
    assert_code(client.state("c1"), Code::NOT_FOUND);
    assert_code(client.pids("c1"), Code::NOT_FOUND);
    assert_eq!(client.connect_task("c1").1, 0);
    assert!(!bench.run_directory("c1").exists());

    // The id is free again, in the same daemon.
    client.create(&bundle).unwrap();
    assert_eq!(client.status("c1"), Ok(Status::CREATED));
    client.delete("c1").unwrap();
    client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

#[test]
fn events_come_in_order_and_say_what_happened() {
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.bundle("c1", &Spec::tiny("exit=7"));
    let shim = bench.start(&bundle);
    let pid = shim.client.create(&bundle).unwrap();
    shim.client.start("c1").unwrap();
    assert_eq!(shim.client.wait("c1"), Ok(7));
    bench.events.expect("c1", &["create", "start", "exit"]);
    shim.client.delete("c1").unwrap();
    bench.events.expect("c1", &["create", "start", "exit", "delete"]);
    let events = bench.events.all();
    let [Event::Create(create), Event::Start(start), Event::Exit(exit), Event::Delete(delete)] =
        events.as_slice()
    else {
        panic!("{events:?}");
    };
    assert_eq!((create.container_id.as_str(), create.pid), ("c1", pid));
    assert_eq!(create.bundle, bundle.path.to_string_lossy());
    assert_eq!(create.rootfs, bundle.rootfs);
    let io = create.io.clone().unwrap();
    assert_eq!(
        (io.stdin.as_str(), io.stdout, io.stderr, io.terminal),
        ("", bundle.stdout.clone(), bundle.stderr.clone(), false)
    );
    assert_eq!((start.container_id.as_str(), start.pid), ("c1", pid));
    assert_eq!(
        (exit.container_id.as_str(), exit.id.as_str(), exit.pid, exit.exit_status),
        ("c1", "c1", pid, 7)
    );
    assert_eq!(
        (delete.container_id.as_str(), delete.id.as_str(), delete.pid, delete.exit_status),
        ("c1", "", pid, 7)
    );
    assert!(exit.exited_at.is_some());
    assert_eq!(exit.exited_at, delete.exited_at);
    assert!(bench.events.namespaces().iter().all(|n| *n == bench.namespace));
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

#[test]
fn events_wait_for_a_containerd_that_is_away() {
    let Some(bench) = Bench::released() else { return };
    // Each in its own way; side by side, for each takes its time.
    for (round, away) in ["gone", "refusing", "hanging"].into_iter().enumerate() {
        let id = format!("c{round}");
        match away {
            "gone" => bench.events.go(),
            "refusing" => bench.events.set(Mode::Refuse),
            _ => bench.events.set(Mode::Hang),
        }
        let (shim, bundle, _) = created(&bench, &id, "exit=5");
        let began = Instant::now();
        shim.client.start(&id).unwrap();
        assert_eq!(shim.client.wait(&id), Ok(5));
        shim.client.delete(&id).unwrap();
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{away}: verbs do not wait for events: {:?}",
            began.elapsed()
        );
        assert!(bench.events.of(&id).is_empty());
        thread::sleep(
            Duration::from_secs(if away == "gone" { 3 } else { 1 }).saturating_sub(began.elapsed()),
        );
        match away {
            "gone" => bench.events.come(),
            _ => bench.events.set(Mode::Take),
        }
        bench.events.expect(&id, &["create", "start", "exit", "delete"]);
        shim.client.shutdown(&id);
        bench.delete(&bundle).deleted();
        bundle.remove();
    }
    bench.finish();
}

#[test]
fn a_daemon_that_leaves_does_not_wait_for_ever_for_its_events() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle, _) = created(&bench, "c1", "hang");
    bench.events.set(Mode::Hang);
    shim.client.delete("c1").unwrap();
    let began = Instant::now();
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    assert!(shim.daemon.ends_within(SOON), "it stays for {:?}", began.elapsed());
    bench.events.set(Mode::Take);
    bundle.remove();
    bench.finish();
}

#[test]
fn a_created_container_can_be_killed() {
    let Some(bench) = Bench::released() else { return };
    for (id, signal, status) in [("c1", Signal::KILL, 137), ("c2", Signal::TERM, 143)] {
        let (shim, bundle, pid) = created(&bench, id, "hang");
        let wait = shim.client.send_wait(id);
        shim.client.kill(id, signal.as_raw()).unwrap();
        assert_eq!(wait.wait().unwrap().exit_status, status);
        assert_eq!(shim.client.status(id), Ok(Status::STOPPED));
        assert_code(shim.client.start(id), Code::FAILED_PRECONDITION);
        let deleted = shim.client.delete(id).unwrap();
        assert_eq!((deleted.pid, deleted.exit_status), (pid, status));
        bench.events.expect(id, &["create", "exit", "delete"]);
        shim.client.shutdown(id);
        bench.delete(&bundle).deleted();
        bundle.remove();
    }
    bench.finish();
}

#[test]
fn a_created_container_can_be_deleted() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle, pid) = created(&bench, "c1", "hang");
    let process = Proc::of(pid.cast_signed());
    let wait = shim.client.send_wait("c1");
    let deleted = shim.client.delete("c1").unwrap();
    assert_eq!((deleted.pid, deleted.exit_status), (pid, 137));
    assert!(!process.is_alive());
    assert_eq!(wait.wait().unwrap().exit_status, 137, "who waits is told");
    bench.events.expect("c1", &["create", "exit", "delete"]);
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

#[test]
fn the_exit_of_a_guest_that_ends_at_once_comes_after_its_start() {
    let Some(bench) = Bench::released() else { return };
    let first = bench.bundle("c0", &Spec::tiny("hang").in_pod("c0")).without_stdio();
    let shim = bench.start(&first);
    for round in 0..20 {
        let id = format!("c{round}");
        let bundle = bench.bundle(&id, &Spec::tiny(&format!("exit={round}")).in_pod("c0")).without_stdio();
        shim.client.create(&bundle).unwrap();
        let wait = shim.client.send_wait(&id);
        shim.client.start(&id).unwrap_or_else(|e| panic!("round {round}: Start never fails: {e:?}"));
        assert_eq!(wait.wait().unwrap().exit_status, round);
        shim.client.delete(&id).unwrap();
        bench.events.expect(&id, &["create", "start", "exit", "delete"]);
        bundle.remove();
    }
    shim.client.shutdown("c0");
    assert!(shim.daemon.ends_within(urunc_tests::direct::SOON));
    bench.finish();
}

#[test]
fn the_exit_status_is_the_guests_own_or_tells_its_end() {
    let Some(bench) = Bench::released() else { return };
    for (words, status) in [("exit=0", 0), ("exit=42", 42), ("exit=127", 127), ("say=x", 0)] {
        let (shim, bundle, _) = created(&bench, "c1", words);
        shim.client.start("c1").unwrap();
        assert_eq!(shim.client.wait("c1"), Ok(status), "{words}");
        bench.end(&shim, bundle);
    }
    // A stranger kills the monitor: the kernel's OOM killer, an operator.
    let (shim, bundle, pid) = created(&bench, "c1", "hang");
    shim.client.start("c1").unwrap();
    Proc::of(pid.cast_signed()).kill();
    assert_eq!(shim.client.wait("c1"), Ok(137));
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn a_create_that_nobody_waits_for_any_more_is_undone_by_delete() {
    let Some(bench) = Bench::with_faults() else { return };
    let bundle = bench.bundle("c1", &Spec::tiny("hang"));
    let shim = bench.start(&bundle);
    bench.faults.set(&["launcher.root=delay:1500"]);
    // With less time than this the request might not even be sent.
    let create = shim.client.send_create(&bundle, Duration::from_secs(1));
    let failure = create.wait().unwrap_err();
    assert_ne!(failure.code, Some(Code::OK), "{failure:?}");
    assert_code(shim.client.delete("c1"), Code::NOT_FOUND);
    assert_code(shim.client.pids("c1"), Code::NOT_FOUND);
    assert!(!bench.run_directory("c1").exists());
    assert!(bench.processes("c1").is_empty());
    bundle.output();

    // Nobody asks for it to be undone, as after the end of a containerd that never asks again: it is all the same.
    let address = shim.address.strip_prefix("unix://").unwrap();
    for (gone, point) in
        [("deadline", "plan.made"), ("connection", "plan.made"), ("connection", "commit.after")]
    {
        // The deadline passes during the delay, and not before: a disk may take half a second for a sync.
        let (deadline, delay) = if gone == "deadline" { (2000, 2300) } else { (60_000, 300) };
        bench.faults.set(&[&format!("{point}=delay:{delay}")]);
        let stream = std::os::unix::net::UnixStream::connect(address).unwrap();
        let client = Client::over(stream.try_clone().unwrap());
        let create = client.send_create(&bundle, Duration::from_millis(deadline));
        eventually("Create is at work", || bench.faults.has_fired(point));
        if gone == "connection" {
            stream.shutdown(std::net::Shutdown::Both).unwrap();
        }
        create.wait().unwrap_err();
        eventually("it is given up", || !bench.run_directory("c1").exists());
        assert!(bench.processes("c1").is_empty());
        // It is forgotten a moment after its files are gone; a Delete waits for the end of a Create.
        assert_code(shim.client.delete("c1"), Code::NOT_FOUND);
        let is_known = || shim.client.pids("c1").map_err(|e| e.code) != Err(Some(Code::NOT_FOUND));
        eventually("it is forgotten", || !is_known());
    }
    bundle.wait_for_log("nobody waits for this create any more");
    bench.faults.set(&[]);
    shim.client.create(&bundle).unwrap();
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn a_delete_at_any_moment_of_create_leaves_a_container_or_nothing() {
    let Some(bench) = Bench::released() else { return };
    let first = bench.bundle("c0", &Spec::tiny("hang")).without_stdio();
    let shim = bench.start(&first);
    shim.client.create(&first).unwrap();
    let (mut undone, mut committed) = (0, 0);
    // How long a Create takes here and now, in microseconds: learned, for then the two meet.
    let mut meeting = 10_000;
    for round in 0..60u64 {
        let bundle = bench.bundle("c1", &Spec::tiny("hang").in_pod("c0")).without_stdio();
        let create = shim.client.send_create(&bundle, Duration::from_secs(10));
        thread::sleep(Duration::from_micros(meeting * (round % 15) / 10));
        let deleted = shim.client.delete("c1");
        let created = create.wait();
        match (&created, &deleted) {
            // Cancelled; or asked before the id was even registered.
            (Err(_), Err(e)) => {
                assert_eq!(e.code, Some(Code::NOT_FOUND), "{e:?}");
                undone += 1;
            }
            (Ok(_), Ok(_)) => committed += 1,
            (Ok(_), Err(e)) => {
                assert_eq!(e.code, Some(Code::NOT_FOUND), "{e:?}");
                // The commit was faster than the cancellation; or Delete came first of all.
                committed += 1;
                shim.client.delete("c1").ok();
            }
            (Err(e), Ok(_)) => panic!("round {round}: {e:?}, but something was deleted"),
        }
        meeting = if created.is_ok() { meeting * 4 / 5 } else { meeting * 6 / 5 }.clamp(1000, 1_000_000);
        assert_code(shim.client.state("c1"), Code::NOT_FOUND);
        assert!(!bench.run_directory("c1").exists(), "round {round}");
        assert!(bench.processes("c1").is_empty(), "round {round}");
        bundle.remove();
    }
    assert!(
        undone > 0 && committed > 0,
        "{undone} undone, {committed} committed: the moments were chosen badly"
    );
    bench.end(&shim, first);
    bench.finish();
}

#[test]
fn shutdown_never_ends_a_daemon_that_is_at_work() {
    let Some(bench) = Bench::with_faults() else { return };
    let bundle = bench.bundle("c1", &Spec::tiny("hang")).without_stdio();
    let shim = bench.start(&bundle);
    bench.faults.set(&["plan.before=hold"]);
    let create = shim.client.send_create(&bundle, Duration::from_secs(30));
    eventually("Create is at work", || bench.faults.has_fired("plan.before"));
    shim.client.shutdown("c1");
    assert_code(shim.client.pids("c1"), Code::NOT_FOUND);
    bench.faults.set(&[]);
    create.wait().unwrap();
    assert_eq!(shim.client.status("c1"), Ok(Status::CREATED));
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn state_is_answered_while_verbs_are_at_work() {
    let Some(bench) = Bench::with_faults() else { return };
    let (shim, bundle, pid) = created(&bench, "c1", "hang");
    // While the verb is held: there is no answer behind it.
    let answer = |expected: Status| {
        assert_eq!(shim.client.status("c1"), Ok(expected));
        assert_eq!(shim.client.pids("c1"), Ok(vec![pid]));
    };
    bench.faults.set(&["start.ready=hold"]);
    let start = shim.client.send_start("c1");
    eventually("Start is at work", || bench.faults.has_fired("start.ready"));
    answer(Status::CREATED);
    bench.faults.set(&[]);
    start.wait().unwrap();
    answer(Status::RUNNING);
    bench.faults.set(&["launcher.undo=hold"]);
    shim.client.kill("c1", 9).unwrap();
    shim.client.wait("c1").unwrap();
    let delete = shim.client.send_delete("c1");
    eventually("Delete is at work", || bench.faults.has_fired("launcher.undo"));
    answer(Status::STOPPED);
    bench.faults.set(&[]);
    delete.wait().unwrap();
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

#[test]
fn a_kill_during_start_ends_it() {
    let Some(bench) = Bench::with_faults() else { return };
    for (n, point) in
        ["gate.before-intent", "launcher.gate", "launcher.exec", "start.ready"].into_iter().enumerate()
    {
        for signal in [Signal::KILL, Signal::TERM] {
            let id = format!("c{n}-{}", signal.as_raw());
            let (shim, bundle, _) = created(&bench, &id, "hang");
            bench.faults.set(&[&format!("{point}=hold")]);
            let start = shim.client.send_start(&id);
            eventually("Start is at work", || bench.faults.has_fired(point));
            // Kill never queues behind Start: then there would be no answer.
            shim.client.kill(&id, signal.as_raw()).unwrap();
            bench.faults.set(&[]);
            let status = 128 + signal.as_raw().unsigned_abs();
            assert_eq!(shim.client.wait(&id), Ok(status), "{point}");
            // Whether Start still made it or not, its caller gets an answer, and the exit comes last.
            start.wait().ok();
            assert_eq!(shim.client.status(&id), Ok(Status::STOPPED), "{point}");
            assert_eq!(shim.client.delete(&id).unwrap().exit_status, status);
            eventually("its events", || bench.events.of(&id).last().is_some_and(|e| e == "delete"));
            let events = bench.events.of(&id).join(" ");
            assert!(
                ["create exit delete", "create start exit delete"].contains(&events.as_str()),
                "{point}: {events}"
            );
            shim.client.shutdown(&id);
            bench.delete(&bundle).deleted();
            bundle.remove();
        }
    }
    bench.finish();
}

#[test]
fn many_clients_at_once_meet_one_truth() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle, _) = created(&bench, "c1", "hang");
    let starts: Vec<_> = (0..6).map(|_| shim.client.send_start("c1")).collect();
    let started: Vec<_> = starts.into_iter().map(urunc_tests::direct::Pending::wait).collect();
    assert_eq!(started.iter().filter(|s| s.is_ok()).count(), 1, "{started:?}");
    let stop = Arc::new(AtomicBool::new(false));
    let (asking, client) = (stop.clone(), shim.client.clone());
    let asker = thread::spawn(move || {
        while !asking.load(Ordering::SeqCst) {
            if let Err(e) = client.state("c1") {
                assert_eq!(e.code, Some(Code::NOT_FOUND), "{e:?}");
            }
        }
    });
    shim.client.kill("c1", 9).unwrap();
    shim.client.wait("c1").unwrap();
    let deletes: Vec<_> = (0..6).map(|_| shim.client.send_delete("c1")).collect();
    let deleted: Vec<_> = deletes.into_iter().map(urunc_tests::direct::Pending::wait).collect();
    assert_eq!(deleted.iter().filter(|d| d.is_ok()).count(), 1, "{deleted:?}");
    for failure in deleted.into_iter().filter_map(Result::err) {
        assert_eq!(failure.code, Some(Code::NOT_FOUND), "{failure:?}");
    }
    stop.store(true, Ordering::SeqCst);
    asker.join().unwrap();
    bench.events.expect("c1", &["create", "start", "exit", "delete"]);
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

#[test]
fn other_services_are_not_there() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle, _) = created(&bench, "c1", "hang");
    // A containerd that believes in version 3 finds out by any error but OK.
    let request = id::<StateRequest>("c1", |r, id| r.id = id);
    let answer =
        shim.client.send_to::<StateResponse>("containerd.task.v3.Task", "State", &request, None).wait();
    assert!(matches!(&answer, Err(Failure { code: Some(_), .. })), "{answer:?}");
    // A message that is none.
    let garbage = id::<StateRequest>(&"x".repeat(100_000), |r, id| r.id = id);
    assert_code(shim.client.send::<StateResponse>("State", &garbage).wait(), Code::NOT_FOUND);
    assert!(!garbage.write_to_bytes().unwrap().is_empty());
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn many_containers_in_one_daemon() {
    const MANY: usize = 70;
    let Some(bench) = Bench::released() else { return };
    let spec = Spec::tiny("hang").in_pod("c0");
    let bundles: Vec<_> = (0..MANY).map(|n| bench.bundle(&format!("c{n}"), &spec).without_stdio()).collect();
    let shim = bench.start(&bundles[0]);
    // More at once than the daemon has threads.
    let began = Instant::now();
    let creates: Vec<_> =
        bundles.iter().map(|b| shim.client.send_create(b, Duration::from_secs(60))).collect();
    for create in creates {
        create.wait().unwrap();
        // State asserts that it is answered in time.
        shim.client.state("c0").ok();
    }
    let waits: Vec<_> = bundles.iter().map(|b| shim.client.send_wait(&b.id)).collect();
    let deletes: Vec<_> = bundles.iter().map(|b| shim.client.send_delete(&b.id)).collect();
    for answer in deletes {
        answer.wait().unwrap();
    }
    for answer in waits {
        assert_eq!(answer.wait().unwrap().exit_status, 137);
    }
    for bundle in &bundles {
        bench.events.expect(&bundle.id, &["create", "exit", "delete"]);
    }
    shim.client.shutdown("c0");
    assert!(shim.daemon.ends_within(urunc_tests::direct::SOON), "after {:?}", began.elapsed());
    bundles.into_iter().for_each(Bundle::remove);
    bench.finish();
}

#[test]
fn the_monitor_has_nothing_that_it_does_not_need() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle, pid) = created(&bench, "c1", "hang");
    shim.client.start("c1").unwrap();
    let proc = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let txid = bench.record("c1").unwrap()["txid"].as_str().unwrap().to_owned();
    assert_eq!(proc("environ"), format!("URUNC_TX={txid}\0"));
    let status = proc("status");
    for line in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{line}:\t0000000000000000\n")), "{line} in {status}");
    }
    assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    // Nothing of the daemon's: with its owner lock open a guest would keep a dead daemon alive.
    for fd in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        // It may have closed one since.
        let Ok(target) = fs::read_link(fd.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        let its_own = [
            "/dev/null",
            "/guest/",
            "pipe:",
            "socket:",
            "anon_inode:",
            "/dev/urandom",
            "/memfd:",
            "/dev/kvm",
        ];
        assert!(its_own.iter().any(|own| target.starts_with(own)), "fd {:?} is {target}", fd.file_name());
    }
    // Its own root: nothing of the host but its programs, nothing of anybody else's container.
    let mounts = proc("mountinfo");
    for line in mounts.lines() {
        let point = line.split(' ').nth(4).unwrap();
        let known =
            ["/", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/run", "/guest/kernel"];
        assert!(known.contains(&point) || point.starts_with("/etc/ld.so."), "{line}");
        assert!(
            point == "/run" || line.split(' ').nth(5).unwrap().split(',').any(|o| o == "ro"),
            "writable: {line}"
        );
    }
    // What is written down is its user's alone.
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let directory = bench.run_directory("c1");
    assert_eq!(mode(&directory), 0o700);
    for file in fs::read_dir(&directory).unwrap().flatten() {
        assert_eq!(mode(&file.path()) & 0o077, 0, "{:?}", file.path());
    }
    bench.end(&shim, bundle);
    bench.finish();
}
