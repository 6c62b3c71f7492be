//! The contract of the Task service, cell by cell: 17 calls in each state of a container, over a real socket, and what
//! containerd may rely on in each.
//!
//! The table is the test: a cell that the shim answers otherwise is told with its row and column, all of them at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    time::{Duration, Instant},
};

use containerd_shim_protos::{
    api::{
        CheckpointTaskRequest, CloseIORequest, ConnectRequest, CreateTaskRequest, CreateTaskResponse,
        DeleteRequest, Empty, ExecProcessRequest, KillRequest, PauseRequest, PidsRequest, ResizePtyRequest,
        ResumeRequest, ShutdownRequest, StartRequest, StateRequest, StatsRequest, Status, UpdateTaskRequest,
        WaitRequest,
    },
    ttrpc::Code,
};
use protobuf::well_known_types::any::Any;
use urunc_tests::direct::{Bench, Bundle, Client, Failure, Pending, Shim, Spec, eventually};

/// How long a call may take that has nothing to wait for. A busy machine is slow, a hang is for ever.
const AT_ONCE: Duration = Duration::from_secs(5);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// So long a Wait must stay open to count as waiting.
const OPEN: Duration = Duration::from_millis(100);
/// The pod that all of them are in: one daemon, and thus one socket.
const POD: &str = "pod";

/// What a call answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// It succeeds.
    Ok,
    /// It waits for the end.
    Waits,
    /// NOT_FOUND: containerd takes it for gone.
    Nf,
    /// FAILED_PRECONDITION: not in this state.
    Fp,
    /// ALREADY_EXISTS.
    Ae,
    /// UNIMPLEMENTED, with a sentence.
    Un,
    /// DEADLINE_EXCEEDED: what was begun goes on.
    De,
    /// Anything else.
    Other(Option<Code>),
}

use Answer::{Ae, De, Fp, Nf, Ok as Yes, Un, Waits};

impl From<&Failure> for Answer {
    fn from(failure: &Failure) -> Self {
        match failure.code {
            Some(Code::NOT_FOUND) => Nf,
            Some(Code::FAILED_PRECONDITION) => Fp,
            Some(Code::ALREADY_EXISTS) => Ae,
            Some(Code::UNIMPLEMENTED) => Un,
            Some(Code::DEADLINE_EXCEEDED) => De,
            other => Self::Other(other),
        }
    }
}

/// The states of a container as a client meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Unknown,
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
    Deleted,
}

const STATES: [State; 7] = [
    State::Unknown,
    State::Creating,
    State::Created,
    State::Running,
    State::Paused,
    State::Stopped,
    State::Deleted,
];

/// The table. A call that changes a container stands behind those that do not.
#[rustfmt::skip]
const TABLE: [(&str, [Answer; 7]); 17] = [
    //              unknown creating created running paused stopped deleted
    ("State",      [Nf,     Nf,      Yes,    Yes,    Yes,   Yes,    Nf ]),
    ("Connect",    [Yes,    Yes,     Yes,    Yes,    Yes,   Yes,    Yes]),
    ("Pids",       [Nf,     Nf,      Yes,    Yes,    Yes,   Yes,    Nf ]),
    ("Stats",      [Nf,     Nf,      Yes,    Yes,    Yes,   Yes,    Nf ]),
    ("Wait",       [Nf,     Nf,      Waits,  Waits,  Waits, Yes,    Nf ]),
    ("Exec",       [Nf,     Nf,      Un,     Un,     Un,    Un,     Nf ]),
    ("Checkpoint", [Nf,     Nf,      Un,     Un,     Un,    Un,     Nf ]),
    ("ResizePty",  [Nf,     Nf,      Yes,    Yes,    Yes,   Yes,    Nf ]),
    ("CloseIO",    [Nf,     Nf,      Yes,    Yes,    Yes,   Yes,    Nf ]),
    ("Update",     [Nf,     Nf,      Yes,    Yes,    Yes,   Nf,     Nf ]),
    ("Shutdown",   [Yes,    Yes,     Yes,    Yes,    Yes,   Yes,    Yes]),
    ("Create",     [Yes,    Ae,      Ae,     Ae,     Ae,    Ae,     Yes]),
    ("Pause",      [Nf,     Nf,      Fp,     Yes,    Fp,    Fp,     Nf ]),
    ("Resume",     [Nf,     Nf,      Fp,     Fp,     Yes,   Fp,     Nf ]),
    ("Start",      [Nf,     Nf,      Yes,    Fp,     Fp,    Fp,     Nf ]),
    ("Kill",       [Nf,     Nf,      Yes,    Yes,    Yes,   Nf,     Nf ]),
    ("Delete",     [Nf,     De,      Yes,    Fp,     Fp,    Yes,    Nf ]),
];

/// The calls that may name a process in the container. No such process was ever made, whatever the container's state.
const OF_A_PROCESS: [&str; 7] = ["State", "Wait", "ResizePty", "CloseIO", "Start", "Kill", "Delete"];

/// One daemon, and containers in it, made as they are needed.
struct Stage<'a> {
    bench: &'a Bench,
    shim: Shim,
    bundles: RefCell<HashMap<String, Bundle>>,
    current: RefCell<HashMap<State, String>>,
    creating: RefCell<Option<Pending<CreateTaskResponse>>>,
    next: Cell<u32>,
}

impl<'a> Stage<'a> {
    fn new(bench: &'a Bench) -> Self {
        bench.faults.set(&["deadline.cancel=200"]);
        // It keeps the daemon from leaving.
        let bundle = bench.bundle(POD, &Spec::tiny("hang")).without_stdio();
        let shim = bench.start(&bundle);
        shim.client.create(&bundle).unwrap();
        let bundles = RefCell::new(HashMap::from([(POD.to_owned(), bundle)]));
        Self {
            bench,
            shim,
            bundles,
            current: RefCell::default(),
            creating: RefCell::default(),
            next: Cell::new(0),
        }
    }

    fn client(&self) -> &Client {
        &self.shim.client
    }

    /// A bundle of the pod. No `start`: the daemon is known, and would wait for the Create that was promised to it.
    fn bundle(&self) -> String {
        let id = format!("c{}", self.next.replace(self.next.get() + 1));
        let bundle = self.bench.bundle(&id, &Spec::tiny("hang").in_pod(POD)).without_stdio();
        self.bundles.borrow_mut().insert(id.clone(), bundle);
        id
    }

    /// The id of a container that is in this state now.
    fn container(&self, state: State) -> String {
        if let Some(id) = self.current.borrow().get(&state).filter(|id| self.is(id, state)) {
            return id.clone();
        }
        let id = self.bundle();
        let client = self.client();
        if state == State::Creating {
            self.hold(&id);
        } else if state != State::Unknown {
            client.create(&self.bundles.borrow()[&id]).unwrap();
        }
        if [State::Running, State::Paused, State::Stopped, State::Deleted].contains(&state) {
            client.start(&id).unwrap();
        }
        if state == State::Paused {
            client
                .send::<Empty>("Pause", &PauseRequest { id: id.clone(), ..Default::default() })
                .wait()
                .unwrap();
        }
        if [State::Stopped, State::Deleted].contains(&state) {
            client.kill(&id, 9).unwrap();
            client.wait(&id).unwrap();
        }
        if state == State::Deleted {
            client.delete(&id).unwrap();
        }
        assert!(self.is(&id, state), "{id} was to be {state:?}");
        self.current.borrow_mut().insert(state, id.clone());
        id
    }

    fn is(&self, id: &str, state: State) -> bool {
        let status = self.client().status(id);
        match state {
            State::Unknown | State::Deleted => status.is_err() && self.client().connect_task(id).1 == 0,
            State::Creating => status.is_err() && self.creating.borrow().is_some(),
            State::Created => status == Ok(Status::CREATED),
            State::Running => status == Ok(Status::RUNNING),
            State::Paused => status == Ok(Status::PAUSED),
            State::Stopped => status == Ok(Status::STOPPED),
        }
    }

    /// Begins a Create that stands still in its middle.
    fn hold(&self, id: &str) {
        self.bench.faults.set(&["deadline.cancel=200", "plan.before=hold"]);
        let bundle = &self.bundles.borrow()[id];
        let pending = self.client().send_create(bundle, Duration::from_secs(60));
        *self.creating.borrow_mut() = Some(pending);
        eventually("Create is held", || self.bench.faults.has_fired("plan.before"));
    }

    /// Lets it go on, to whatever end, and nothing is left of it.
    fn release(&self) {
        let Some(pending) = self.creating.take() else { return };
        self.bench.faults.set(&["deadline.cancel=200"]);
        let id = self.current.borrow_mut().remove(&State::Creating);
        if pending.wait().is_ok() {
            self.client().delete(&id.unwrap()).unwrap();
        }
    }

    fn end(self) {
        self.release();
        for id in self.bundles.borrow().keys() {
            self.client().kill(id, 9).ok();
            if self.client().wait(id).is_ok() {
                self.client().delete(id).unwrap();
            }
        }
        self.client().shutdown(POD);
        for (_, bundle) in self.bundles.take() {
            self.bench.delete(&bundle).deleted();
            bundle.remove();
        }
    }

    /// Makes one call, and waits for its answer so long. `Err`: none has come.
    fn call(
        &self,
        method: &str,
        id: &str,
        exec_id: &str,
        patience: Duration,
    ) -> Result<Result<(), Failure>, ()> {
        macro_rules! send {
            ($request:ident { $($field:ident: $value:expr),* $(,)? }) => {
                self.client().send::<Empty>(method, &$request { id: id.to_owned(), $($field: $value,)* ..Default::default() })
            };
        }
        let exec_id = || exec_id.to_owned();
        let sent = match method {
            "State" => send!(StateRequest { exec_id: exec_id() }),
            "Connect" => send!(ConnectRequest {}),
            "Pids" => send!(PidsRequest {}),
            "Stats" => send!(StatsRequest {}),
            "Wait" => send!(WaitRequest { exec_id: exec_id() }),
            "Exec" => send!(ExecProcessRequest { exec_id: "e1".to_owned() }),
            "Checkpoint" => send!(CheckpointTaskRequest {}),
            "ResizePty" => send!(ResizePtyRequest { exec_id: exec_id(), width: 80, height: 24 }),
            "CloseIO" => send!(CloseIORequest { exec_id: exec_id(), stdin: true }),
            "Update" => {
                let resources = Any {
                    type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".to_owned(),
                    value: br#"{"pids": {"limit": 50}, "devices": null, "not-yet-known": {}}"#.to_vec(),
                    ..Any::default()
                };
                send!(UpdateTaskRequest { resources: Some(resources).into() })
            }
            "Shutdown" => send!(ShutdownRequest {}),
            "Create" => {
                let bundles = self.bundles.borrow();
                let bundle = &bundles[id];
                send!(CreateTaskRequest {
                    bundle: bundle.path.to_string_lossy().into_owned(),
                    rootfs: bundle.rootfs.clone(),
                })
            }
            "Pause" => send!(PauseRequest {}),
            "Resume" => send!(ResumeRequest {}),
            "Start" => send!(StartRequest { exec_id: exec_id() }),
            "Kill" => send!(KillRequest { exec_id: exec_id(), signal: 9 }),
            "Delete" => send!(DeleteRequest { exec_id: exec_id() }),
            other => panic!("{other}"),
        };
        sent.within(patience).map(|answer| answer.map(drop)).ok_or(())
    }
}

#[test]
fn each_call_answers_as_the_table_says_in_each_state() {
    let Some(bench) = Bench::with_faults() else { return };
    let stage = Stage::new(&bench);
    let mut wrong = Vec::new();
    // By states, for only one Create can be held at a time.
    for (column, state) in STATES.into_iter().enumerate() {
        for (method, expected) in TABLE.iter().map(|(method, row)| (*method, row[column])) {
            let id = stage.container(state);
            let began = Instant::now();
            let answer = stage.call(method, &id, "", if expected == Waits { OPEN } else { PATIENCE });
            let took = began.elapsed();
            let got = match &answer {
                Ok(Ok(())) => Yes,
                Ok(Err(failure)) => failure.into(),
                Err(()) => Waits,
            };
            if (method, got) == ("Kill", Yes) {
                // It is answered when the signal is out.
                stage.client().wait(&id).unwrap();
            }
            let cell = format!("{method} in {state:?}");
            if got != expected {
                wrong.push(format!("{cell}: {answer:?} instead of {expected:?}"));
            }
            if took > AT_ONCE {
                wrong.push(format!("{cell} took {took:?}"));
            }
            if let Ok(Err(failure)) = answer
                && failure.message.split(' ').count() < 3
            {
                wrong.push(format!("{cell}: no sentence: {failure:?}"));
            }
        }
        if state == State::Creating {
            stage.release();
        }
    }
    assert!(wrong.is_empty(), "{} cells:\n{}", wrong.len(), wrong.join("\n"));
    stage.end();
    bench.finish();
}

#[test]
fn a_process_that_nobody_made_is_not_found_in_any_state() {
    let Some(bench) = Bench::with_faults() else { return };
    let stage = Stage::new(&bench);
    for state in STATES {
        let id = stage.container(state);
        for method in OF_A_PROCESS {
            let failure =
                stage.call(method, &id, "e1", PATIENCE).expect("an answer").expect_err("nobody made it");
            assert_eq!(Answer::from(&failure), Nf, "{method} in {state:?}: {failure:?}");
        }
        assert!(stage.is(&id, state), "{state:?} is as it was");
        if state == State::Creating {
            stage.release();
        }
    }
    stage.end();
    bench.finish();
}

#[test]
fn a_daemon_that_has_left_answers_nothing_and_nobody_waits_for_it() {
    let Some(bench) = Bench::with_faults() else { return };
    let stage = Stage::new(&bench);
    let bundle = stage.bundles.borrow_mut().remove(POD).unwrap();
    stage.client().delete(POD).unwrap();
    let id = stage.bundle();
    stage.client().create(&stage.bundles.borrow()[&id]).unwrap();
    stage.client().delete(&id).unwrap();
    stage.client().shutdown(POD);
    eventually("the daemon has left", || !stage.shim.daemon.is_alive());
    for (method, _) in TABLE {
        let answer = stage.call(method, &id, "", PATIENCE);
        assert!(
            matches!(&answer, Ok(Err(failure)) if failure.code.is_none()),
            "{method} of a daemon that has left: {answer:?}"
        );
    }
    for (_, other) in stage.bundles.take() {
        bench.delete(&other).deleted();
        other.remove();
    }
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}
