//! What cannot be done, in the words of both runtimes.

use std::path::Path;

use oci_runtime::{Cancel, Case, Error, Runtime, Status, Streams, probe};

use crate::ground::{Ended, Ground, double, on_both, process, reap, soon, with_stdout};

on_both!(absent, there_already, stopped, in_the_wrong_state, told_by_the_log, versions);

fn case<T: std::fmt::Debug>(result: Result<T, Error>) -> Case {
    let error = result.unwrap_err();
    error.case().unwrap_or_else(|| panic!("{error}"))
}

fn absent(ground: &Ground) {
    let runtime = &ground.runtime;
    assert_eq!(case(runtime.state("c1", soon())), Case::Absent);
    assert_eq!(case(runtime.start("c1", soon())), Case::Absent);
    assert_eq!(case(runtime.pause("c1", soon())), Case::Absent);
    assert_eq!(case(runtime.resume("c1", soon())), Case::Absent);
    assert_eq!(case(runtime.update("c1", b"{}", soon())), Case::Absent);
    assert_eq!(case(ground.exec("c1", &process(&["true"]), Streams::default())), Case::Absent);
    assert_eq!(case(runtime.delete("c1", false, soon())), Case::Absent);
    runtime.delete("c1", true, soon()).unwrap();
    let error = runtime.state("-c1", soon()).unwrap_err();
    assert!(matches!(error, Error::Id { .. }), "{error}");
}

fn there_already(ground: &Ground) {
    let init = ground.run("c1", &["sleep", "1000"], Streams::default());
    let again = ground.create("c1", &ground.spec("c1", &["true"]), Streams::default(), soon());
    assert_eq!(case(again), Case::Exists);
    assert!(!init.is_dead().unwrap());
    assert_eq!(ground.runtime.state("c1", soon()).unwrap().status, Status::Running);
    ground.end("c1", &init);
}

fn stopped(ground: &Ground) {
    let runtime = &ground.runtime;
    let init = ground.run("c1", &["true"], Streams::default());
    assert_eq!(reap(&init), Ended::With(0));
    assert_eq!(case(runtime.start("c1", soon())), Case::NotRunning);
    assert_eq!(case(ground.exec("c1", &process(&["true"]), Streams::default())), Case::NotRunning);
    assert_eq!(case(runtime.pause("c1", soon())), Case::NotRunning);
    // crun has nothing against it.
    if ground.is_runc() {
        assert_eq!(case(runtime.update("c1", b"{}", soon())), Case::NotRunning);
    }
    runtime.delete("c1", false, soon()).unwrap();
}

fn in_the_wrong_state(ground: &Ground) {
    let runtime = &ground.runtime;
    let init = ground.run("c1", &["sleep", "1000"], Streams::default());
    assert_eq!(case(runtime.start("c1", soon())), Case::WrongState);
    assert_eq!(case(runtime.delete("c1", false, soon())), Case::WrongState);
    runtime.pause("c1", soon()).unwrap();
    assert_eq!(case(ground.exec("c1", &process(&["true"]), Streams::default())), Case::WrongState);
    runtime.resume("c1", soon()).unwrap();
    if ground.is_runc() {
        assert_eq!(case(runtime.resume("c1", soon())), Case::WrongState);
    }
    ground.end("c1", &init);
}

/// The message is the log's, whole, and the container's stderr is not needed for it.
fn told_by_the_log(ground: &Ground) {
    let (stdout, streams) = with_stdout();
    let error = ground.create("c1", &ground.spec("c1", &["nosuch"]), streams, soon()).unwrap_err();
    let Error::Refused { verb: "create", id, case: Case::Other, message, status, .. } = error else {
        panic!("{error}");
    };
    assert!(message.contains("nosuch") && message.contains("not found in $PATH"), "{message}");
    assert!(id == "c1" && !status.success());
    assert_eq!(crate::ground::all_of(stdout), "");
    // It has undone itself.
    assert_eq!(case(ground.runtime.state("c1", soon())), Case::Absent);
    let bundle = ground.dir.path().join("bundle-c1");
    std::fs::remove_file(bundle.join("config.json")).unwrap();
}

fn versions(ground: &Ground) {
    let own = Path::new("/run").join(&ground.name);
    let was_there = own.exists();
    let version = probe(&ground.runtime.program, soon()).unwrap();
    assert_eq!(own.exists(), was_there, "a question has made {}", own.display());
    assert_eq!(version.name, ground.name);
    assert!(version.version.starts_with(|c: char| c.is_ascii_digit()), "{version:?}");
    assert!(version.spec.starts_with("1."), "{version:?}");
    match ground.runtime.features(soon()) {
        Ok(json) => assert!(json.contains("ociVersionMin"), "{json}"),
        Err(error) => assert_eq!(error.case(), Some(Case::Other), "{error}"),
    }
}

#[test]
fn what_is_no_runtime_says_what_to_do() {
    let said = |program: &Path| probe(program, soon()).unwrap_err().to_string();
    let text = said(Path::new("/bin/echo"));
    assert!(text.contains("/bin/echo cannot serve") && text.contains("name runc or crun"), "{text}");
    let text = said(Path::new("/bin/false"));
    assert!(text.contains("`--version` fails"), "{text}");
    assert!(matches!(probe(Path::new("/nowhere"), soon()), Err(Error::Spawn { .. })));
}

/// A pid file can name anybody: only a child is taken for the container's.
#[test]
fn a_stranger_is_not_taken_for_init() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime {
        program: double("stranger.sh"),
        root: dir.path().to_owned(),
        systemd_cgroup: false,
        cancel: Cancel::default(),
    };
    let pid_file = dir.path().join("pid");
    let what = oci_runtime::Create {
        id: "c1",
        bundle: dir.path(),
        pid_file: &pid_file,
        console: None,
        streams: Streams::default(),
        no_pivot: false,
        no_new_keyring: false,
    };
    let error = runtime.create(what, soon()).unwrap_err();
    let own = i32::try_from(std::process::id()).unwrap();
    assert!(matches!(error, Error::NotOurs { pid, .. } if pid == own), "{error}");
}
