//! Runtimes that do not end, and callers that die.

use std::{
    env, fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use oci_runtime::{Cancel, Case, Create, Error, Runtime, Status, Streams};
use proc_id::Process;
use rustix::process::{getpid, set_child_subreaper};

use crate::ground::{Ended, Ground, double, eventually, on_both, reap, soon};

on_both!(a_hook_that_hangs);

fn hanging(root: &Path) -> Runtime {
    Runtime {
        program: double("hangs.sh"),
        root: root.to_owned(),
        systemd_cgroup: false,
        cancel: Cancel::default(),
    }
}

/// The double's own pid and that of what it started.
fn pids(root: &Path) -> (u32, u32) {
    eventually("the double runs", || root.join("pids").exists());
    let text = fs::read_to_string(root.join("pids")).unwrap();
    let (own, other) = text.trim().split_once(' ').unwrap();
    (own.parse().unwrap(), other.parse().unwrap())
}

fn create(runtime: &Runtime, deadline: Instant) -> Result<Process, Error> {
    let pid_file = runtime.root.join("pid");
    let what = Create {
        id: "c1",
        bundle: &runtime.root,
        pid_file: &pid_file,
        console: None,
        streams: Streams::default(),
        no_pivot: false,
        no_new_keyring: false,
    };
    runtime.create(what, deadline)
}

#[test]
fn it_is_ended_at_the_deadline_with_what_it_has_started() {
    set_child_subreaper(Some(getpid())).unwrap();
    type Verb = fn(&Runtime, Instant) -> Result<(), Error>;
    let verbs: [(&str, Verb); 2] = [
        ("create", |runtime, deadline| create(runtime, deadline).map(drop)),
        ("state", |runtime, deadline| runtime.state("c1", deadline).map(drop)),
    ];
    for (name, verb) in verbs {
        let dir = tempfile::tempdir().unwrap();
        let runtime = hanging(dir.path());
        let error = verb(&runtime, Instant::now() + Duration::from_millis(1500)).unwrap_err();
        let Error::Hung { verb, ref id, dead, .. } = error else { panic!("{error}") };
        assert_eq!((verb, id.as_str(), dead), (name, "c1", true));
        assert!(error.to_string().ends_with("c1 did not end within 1.5 s and was killed"), "{error}");
        let (own, other) = pids(dir.path());
        // Reaped, and so is what it had started and was killed with it.
        assert!(![own, other].iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()));
    }
}

/// Long before its deadline, by whoever does not want it any more; and what comes later is not begun.
#[test]
fn it_is_given_up_with_what_it_has_started() {
    set_child_subreaper(Some(getpid())).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let runtime = hanging(dir.path());
    std::thread::scope(|scope| {
        let creating = scope.spawn(|| create(&runtime, Instant::now() + Duration::from_secs(60)));
        let (own, other) = pids(dir.path());
        runtime.cancel.cancel();
        let error = creating.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::GivenUp { verb: "create", .. }), "{error}");
        assert_eq!(error.to_string(), "hangs.sh create c1 was given up");
        assert!(![own, other].iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()));
    });
    let error = create(&runtime, Instant::now() + Duration::from_secs(60)).unwrap_err();
    assert!(matches!(error, Error::GivenUp { .. }), "{error}");
}

/// A real runtime in the middle of a create: its hook is killed with it, and what is left is what the docs of `create`
/// say.
fn a_hook_that_hangs(ground: &Ground) {
    let mut spec = ground.spec("c1", &["sleep", "1000"]);
    spec["hooks"] = serde_json::json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1001"]}]});
    let error = ground.create("c1", &spec, Streams::default(), Instant::now() + Duration::from_secs(3));
    assert!(matches!(error, Err(Error::Hung { verb: "create", dead: true, .. })), "{error:?}");
    ground.empty("c1");
    ground.runtime.delete("c1", true, soon()).unwrap();
    let error = ground.runtime.state("c1", soon()).unwrap_err();
    assert_eq!(error.case(), Some(Case::Absent));
    // And the id can be used again.
    let init = ground.run("c1", &["sleep", "1000"], Streams::default());
    assert_eq!(ground.runtime.state("c1", soon()).unwrap().status, Status::Running);
    ground.end("c1", &init);
}

/// The other process of the test below: a caller of the double.
#[test]
fn caller() {
    let (Some(verb), Some(root)) =
        (env::var_os("OCI_RUNTIME_TEST_VERB"), env::var_os("OCI_RUNTIME_TEST_ROOT"))
    else {
        return;
    };
    let runtime = hanging(Path::new(&root));
    match verb.to_str().unwrap() {
        "create" => drop(create(&runtime, soon())),
        _ => drop(runtime.delete("c1", true, soon())),
    }
}

struct Caller(Child);

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_create_dies_with_its_caller_and_a_delete_goes_on() {
    set_child_subreaper(Some(getpid())).unwrap();
    for (verb, dies) in [("create", true), ("delete", false)] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "hung::caller"]).stdout(Stdio::null());
        command.env("OCI_RUNTIME_TEST_VERB", verb).env("OCI_RUNTIME_TEST_ROOT", dir.path());
        let mut caller = Caller(command.spawn().unwrap());
        let (own, other) = pids(dir.path());
        caller.0.kill().unwrap();
        caller.0.wait().unwrap();
        // They are ours now.
        let (own, other) = (Process::of_child(own).unwrap(), other);
        if dies {
            assert_eq!(reap(&own), Ended::Killed(9));
        } else {
            assert!(!own.wait(Some(Duration::from_millis(300))).unwrap());
            own.signal(rustix::process::Signal::KILL).unwrap();
            assert_eq!(reap(&own), Ended::Killed(9));
        }
        let other = Process::of_child(other).unwrap();
        other.signal(rustix::process::Signal::KILL).unwrap();
        reap(&other);
    }
}
