//! A logger that does not end by itself is ended all the same, and so is what it started: whoever dies when.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use urunc_tests::direct::{Bench, Bundle, Proc, SOON, Spec, eventually, eventually_some};

/// Never reads, and never ends by itself.
const HANGS: &str = "echo $$ >\"$2.pid.new\"; mv \"$2.pid.new\" \"$2.pid\"; exec 5>&-; exec sleep 1000";
/// The same, and a child of it likewise. Both are started before it is ready.
const HANGS_WITH_CHILD: &str = "sleep 1000 5>&- & echo $! >\"$2.pid.new\"; mv \"$2.pid.new\" \"$2.pid\"; exec 5>&-; while :; do wait; done";

/// A bundle whose output goes to a logger of this script, and the file in which that writes a pid.
fn bundle(bench: &Bench, script: &str) -> (Bundle, PathBuf) {
    let path = bench.scratch().join("logger");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let log = bench.scratch().join("log");
    fs::remove_file(log.with_extension("pid")).ok();
    let mut bundle = bench.bundle("c1", &Spec::tiny("hang"));
    bundle.stdout = format!("binary://{}?to={}", path.display(), log.display());
    bundle.stderr.clone_from(&bundle.stdout);
    (bundle.output, bundle.errors) = (None, None);
    (bundle, log.with_extension("pid"))
}

fn written(file: &Path) -> Option<Proc> {
    Proc::find(fs::read_to_string(file).ok()?.trim().parse().ok()?)
}

/// The points that the daemon passes while the step of the logger acts, by name and passage.
fn points(bench: &Bench) -> Vec<String> {
    let (bundle, _) = bundle(bench, "exec 5>&-; exec cat <&3");
    bench.faults.set(&["*=trace"]);
    let shim = bench.start(&bundle);
    shim.client.create(&bundle).unwrap();
    let fired = bench.faults.fired();
    bench.faults.set(&[]);
    bench.end(&shim, bundle);
    let (mut passages, mut acts, mut points) = (HashMap::<String, usize>::new(), false, Vec::new());
    for point in fired.into_iter().filter(|f| f.pid == shim.daemon.pid()) {
        let passage = passages.entry(point.name.clone()).or_default();
        *passage += 1;
        acts &= point.name != "logger.after-acting";
        if acts {
            points.push(format!("{}#{passage}", point.name));
        }
        acts |= point.name == "logger.after-intent";
    }
    points
}

/// At no moment between its birth and the record that names it may the daemon's death set it free.
#[test]
fn a_daemon_that_dies_as_its_logger_is_born_leaves_none() {
    let Some(bench) = Bench::with_faults() else { return };
    let points = points(&bench);
    assert!(points.iter().any(|p| p.starts_with("record.write")), "it is recorded: {points:?}");
    for point in points {
        let (bundle, _) = bundle(&bench, HANGS);
        let shim = bench.start(&bundle);
        bench.faults.set(&[&format!("{point}=kill")]);
        shim.client.create(&bundle).unwrap_err();
        assert!(shim.daemon.ends_within(SOON), "{point}: the daemon lives");
        bench.faults.set(&[]);
        bench.delete(&bundle).deleted();
        bundle.remove();
        // A logger bears our namespace in its environment from its birth on.
        bench.check();
    }
    bench.finish();
}

#[test]
fn a_logger_that_is_ended_takes_its_children_with_it() {
    let Some(bench) = Bench::with_faults() else { return };
    bench.faults.set(&["deadline.logger.end=300"]);
    for way in ["delete", "never ready", "the daemon is killed"] {
        let script = match way {
            "never ready" => HANGS_WITH_CHILD.replace("exec 5>&-; ", ""),
            _ => HANGS_WITH_CHILD.to_owned(),
        };
        let (bundle, pid) = bundle(&bench, &script);
        bench.faults.set(&["deadline.logger.end=300", "deadline.logger=2000"]);
        let shim = bench.start(&bundle);
        let created = shim.client.send_create(&bundle, SOON);
        let child = eventually_some("its child", || written(&pid));
        match way {
            "delete" => {
                created.wait().unwrap();
                shim.client.delete("c1").unwrap();
            }
            "never ready" => drop(created.wait().unwrap_err()),
            _ => {
                created.wait().unwrap();
                shim.daemon.kill();
            }
        }
        if shim.daemon.is_alive() {
            shim.client.shutdown("c1");
        }
        bench.delete(&bundle).deleted();
        let ended = child.ends_within(SOON.min(Duration::from_secs(2)));
        if !ended {
            child.kill();
        }
        assert!(ended, "{way}: the logger's child lives on");
        bundle.remove();
    }
    eventually("no daemon is left", || bench.daemons().is_empty());
    bench.finish();
}
