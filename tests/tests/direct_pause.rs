//! Pause and Resume: the guest really stands still, whatever else is asked for meanwhile; and what fails is taken back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::PathBuf, time::Duration};

use containerd_shim_protos::{
    api::{Empty, PauseRequest, ResumeRequest, Status},
    ttrpc::Code,
};
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, mknodat},
    process::Signal,
};
use urunc_tests::direct::{Bench, Bundle, Failure, Proc, Shim, Spec};

/// So long a guest that stands still must say nothing. It answers within a millisecond.
const SILENCE: Duration = Duration::from_millis(300);

/// A guest that answers to each line of its input.
struct Echo {
    shim: Shim,
    bundle: Bundle,
    stdin: PathBuf,
    pid: u32,
}

impl Echo {
    fn run(bench: &Bench, id: &str) -> Self {
        let mut bundle = bench.bundle(id, &Spec::tiny("echo exit=3"));
        let stdin = bundle.path.join("stdin");
        mknodat(CWD, &stdin, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        bundle.stdin = stdin.to_string_lossy().into_owned();
        let shim = bench.start(&bundle);
        let pid = shim.client.create(&bundle).unwrap();
        shim.client.start(id).unwrap();
        let echo = Self { shim, bundle, stdin, pid };
        // What comes before its serial line is set up is lost.
        echo.answers("tiny: echo");
        echo.hears("hello");
        echo
    }

    fn pause(&self) -> Result<(), Failure> {
        let request = PauseRequest { id: self.bundle.id.clone(), ..PauseRequest::default() };
        self.shim.client.send::<Empty>("Pause", &request).wait().map(drop)
    }

    fn resume(&self) -> Result<(), Failure> {
        let request = ResumeRequest { id: self.bundle.id.clone(), ..ResumeRequest::default() };
        self.shim.client.send::<Empty>("Resume", &request).wait().map(drop)
    }

    fn say(&self, word: &str) {
        let mut options = OpenOptions::new();
        let nonblock = OFlags::NONBLOCK.bits().cast_signed();
        let mut stdin = options.write(true).custom_flags(nonblock).open(&self.stdin).unwrap();
        stdin.write_all(format!("{word}\n").as_bytes()).unwrap();
    }

    #[track_caller]
    fn hears(&self, word: &str) {
        self.say(word);
        self.answers(word);
    }

    #[track_caller]
    fn answers(&self, word: &str) {
        self.bundle.output.as_ref().unwrap().wait_for(&format!("{word}\n"));
    }

    #[track_caller]
    fn stands_still(&self, word: &str) {
        self.say(word);
        std::thread::sleep(SILENCE);
        let said = String::from_utf8_lossy(&self.bundle.output.as_ref().unwrap().so_far()).into_owned();
        assert!(!said.contains(word), "it says {said:?}");
    }

    #[track_caller]
    fn is(&self, bench: &Bench, status: Status, in_record: &str) {
        let state = self.shim.client.state(&self.bundle.id).unwrap();
        assert_eq!((state.status.enum_value(), state.pid), (Ok(status), self.pid));
        assert_eq!(bench.record(&self.bundle.id).unwrap()["state"], in_record);
    }
}

fn code(result: Result<(), Failure>) -> Option<Code> {
    result.expect_err("it was to fail").code
}

#[test]
fn a_paused_guest_stands_still_and_goes_on() {
    let Some(bench) = Bench::released() else { return };
    let echo = Echo::run(&bench, "c1");
    echo.pause().unwrap();
    echo.is(&bench, Status::PAUSED, "paused");
    echo.stands_still("first");
    assert_eq!(code(echo.pause()), Some(Code::FAILED_PRECONDITION), "twice");
    // A connection that comes anew, as after a restart of containerd, finds it so.
    let again = bench.connect(&echo.shim.address);
    assert_eq!(again.client.status("c1"), Ok(Status::PAUSED));
    assert_eq!(again.client.connect_task("c1").1, echo.pid);
    echo.resume().unwrap();
    echo.is(&bench, Status::RUNNING, "running");
    echo.answers("first");
    assert_eq!(code(echo.resume()), Some(Code::FAILED_PRECONDITION), "twice");
    echo.pause().unwrap();
    echo.resume().unwrap();
    echo.hears("second");
    echo.say("quit");
    assert_eq!(echo.shim.client.wait("c1"), Ok(3));
    assert_eq!(code(echo.pause()), Some(Code::FAILED_PRECONDITION), "after its end");
    assert_eq!(code(echo.resume()), Some(Code::FAILED_PRECONDITION), "after its end");
    bench.end(&echo.shim, echo.bundle);
    bench
        .events
        .expect("c1", &["create", "start", "paused", "resumed", "paused", "resumed", "exit", "delete"]);
    bench.finish();
}

#[test]
fn a_paused_guest_is_killed_and_deleted_as_any_other() {
    let Some(bench) = Bench::released() else { return };
    for (id, signal, status) in [("c1", Signal::TERM, 143), ("c2", Signal::KILL, 137)] {
        let echo = Echo::run(&bench, id);
        echo.pause().unwrap();
        let failure = echo.shim.client.delete(id).unwrap_err();
        assert_eq!(failure.code, Some(Code::FAILED_PRECONDITION));
        assert!(failure.message.contains("paused"), "{failure:?}");
        for harmless in [0, Signal::USR1.as_raw()] {
            echo.shim.client.kill(id, harmless).unwrap();
        }
        echo.is(&bench, Status::PAUSED, "paused");
        echo.shim.client.kill(id, signal.as_raw()).unwrap();
        assert_eq!(echo.shim.client.wait(id), Ok(status));
        bench.events.expect(id, &["create", "start", "paused", "exit"]);
        bench.end(&echo.shim, echo.bundle);
    }
    // By its `delete` alone, and by that of one whose daemon is dead.
    for (id, dies) in [("c3", false), ("c4", true)] {
        let echo = Echo::run(&bench, id);
        echo.pause().unwrap();
        if dies {
            echo.shim.daemon.kill();
        }
        bench.delete(&echo.bundle).deleted();
        assert!(bench.record(id).is_none());
        echo.bundle.remove();
        if !dies {
            echo.shim.client.shutdown(id);
        }
    }
    bench.finish();
}

#[test]
fn a_pause_that_fails_leaves_the_guest_running() {
    let Some(bench) = Bench::with_faults() else { return };
    let echo = Echo::run(&bench, "c1");
    // The guest is halted already, and the record cannot be written.
    for point in ["pause.halted", "record.write"] {
        bench.faults.set(&[&format!("{point}=error")]);
        assert_eq!(code(echo.pause()), Some(Code::INTERNAL), "{point}");
        assert!(bench.faults.has_fired(point), "{point}");
        bench.faults.set(&[]);
        echo.is(&bench, Status::RUNNING, "running");
        echo.hears(point);
    }
    // A resume that cannot be recorded: it stays paused.
    echo.pause().unwrap();
    bench.faults.set(&["record.write=error"]);
    assert_eq!(code(echo.resume()), Some(Code::INTERNAL));
    bench.faults.set(&[]);
    echo.is(&bench, Status::PAUSED, "paused");
    echo.stands_still("third");
    echo.resume().unwrap();
    echo.answers("third");
    bench.end(&echo.shim, echo.bundle);
    bench.finish();
}

#[test]
fn a_monitor_that_does_not_answer_is_no_hang_and_its_guest_is_not_lost() {
    let Some(bench) = Bench::with_faults() else { return };
    let echo = Echo::run(&bench, "c1");
    bench.faults.set(&["deadline.pause=200"]);
    let monitor = Proc::of(echo.pid.cast_signed());
    monitor.signal(Signal::STOP);
    assert_eq!(code(echo.pause()), Some(Code::DEADLINE_EXCEEDED));
    echo.is(&bench, Status::RUNNING, "running");
    // It reads now that it was to halt, and that it was to go on.
    monitor.signal(Signal::CONT);
    echo.hears("late");
    // And what it answered then is not taken for the next answer.
    echo.pause().unwrap();
    echo.stands_still("fourth");
    monitor.signal(Signal::STOP);
    assert_eq!(code(echo.resume()), Some(Code::DEADLINE_EXCEEDED));
    echo.is(&bench, Status::PAUSED, "paused");
    monitor.signal(Signal::CONT);
    bench.faults.set(&[]);
    echo.resume().unwrap();
    echo.answers("fourth");
    bench.end(&echo.shim, echo.bundle);
    bench.finish();
}

#[test]
fn a_sandbox_cannot_be_paused() {
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.bundle("pod", &Spec::sandbox()).without_stdio();
    let shim = bench.start(&bundle);
    shim.client.create(&bundle).unwrap();
    shim.client.start("pod").unwrap();
    let request = PauseRequest { id: "pod".to_owned(), ..PauseRequest::default() };
    let failure = shim.client.send::<Empty>("Pause", &request).wait().unwrap_err();
    assert_eq!(failure.code, Some(Code::UNIMPLEMENTED));
    assert!(failure.message.contains("sandbox"), "{failure:?}");
    assert_eq!(shim.client.status("pod"), Ok(Status::RUNNING));
    bench.end(&shim, bundle);
    bench.finish();
}
