//! Further processes in a container.

use oci_runtime::{Case, Streams};
use proc_id::Process;
use rustix::process::Signal;

use crate::ground::{Ended, Ground, all_of, eventually, on_both, process, reap, soon, with_stdout};

on_both!(statuses, what_it_is_given, no_such_program, with_a_created_one);

fn statuses(ground: &Ground) {
    let init = ground.run("c1", &["sleep", "1000"], Streams::default());
    for n in [0, 1, 42] {
        let started = ground.exec("c1", &process(&["sh", "-c", &format!("exit {n}")]), Streams::default());
        assert_eq!(reap(&started.unwrap()), Ended::With(n));
    }
    // Two at a time, one of them killed.
    let long = ground.exec("c1", &process(&["sleep", "1000"]), Streams::default()).unwrap();
    let short = ground.exec("c1", &process(&["false"]), Streams::default()).unwrap();
    assert_eq!(reap(&short), Ended::With(1));
    assert!(ground.members("c1").contains(&long.pid()));
    long.signal(Signal::KILL).unwrap();
    assert_eq!(reap(&long), Ended::Killed(9));
    ground.end("c1", &init);
}

fn what_it_is_given(ground: &Ground) {
    let init = ground.run("c1", &["sleep", "1000"], Streams::default());
    let (stdout, streams) = with_stdout();
    let mut what = process(&["sh", "-c", "echo $A; id -u; ls /proc/$$/fd; pwd"]);
    what["env"] = serde_json::json!(["PATH=/bin", "A=value of a"]);
    what["user"]["uid"] = 1234.into();
    what["cwd"] = "/etc".into();
    let started = ground.exec("c1", &what, streams).unwrap();
    // No descriptor but the three.
    assert_eq!(all_of(stdout), "value of a\n1234\n0\n1\n2\n/etc\n");
    assert_eq!(reap(&started), Ended::With(0));
    ground.end("c1", &init);
}

fn no_such_program(ground: &Ground) {
    let init = ground.run("c1", &["sleep", "1000"], Streams::default());
    let error = ground.exec("c1", &process(&["nosuch"]), Streams::default()).unwrap_err();
    assert_eq!(error.case(), Some(Case::Other));
    let text = error.to_string();
    assert!(text.contains("exec c1: ") && text.contains("nosuch") && text.contains("not found"), "{text}");
    let error = ground.exec("c1", &process(&["/etc/plain"]), Streams::default()).unwrap_err();
    assert_eq!(error.case(), Some(Case::Denied), "{error}");
    assert_eq!(ground.members("c1"), [init.pid()]);
    // crun leaves what it could not make a program of to the sub-reaper, and init cannot end before that is reaped.
    init.signal(Signal::KILL).unwrap();
    eventually("init ends", || {
        reap_strays("crun");
        init.is_dead().unwrap()
    });
    assert_eq!(reap(&init), Ended::Killed(9));
    ground.runtime.delete("c1", false, soon()).unwrap();
}

/// Reaps children of ours that have ended under a runtime's own name: nothing that any test waits for has that.
fn reap_strays(name: &str) {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((pid, rest)) = stat.split_once(&format!(" ({name}) Z ")) else { continue };
        if rest.split(' ').next() == Some(&std::process::id().to_string()) {
            reap(&Process::of_child(pid.parse().unwrap()).unwrap());
        }
    }
}

fn with_a_created_one(ground: &Ground) {
    let spec = ground.spec("c1", &["sleep", "1000"]);
    let init = ground.create("c1", &spec, Streams::default(), soon()).unwrap();
    let started = ground.exec("c1", &process(&["true"]), Streams::default()).unwrap();
    assert_eq!(reap(&started), Ended::With(0));
    ground.end("c1", &init);
}
