//! The daemon takes the descriptors that it may have, and whom it executes has what it was given itself. One test alone:
//! the limit is the whole process's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use urunc_tests::direct::{Bench, Spec, double};

/// The soft limit of a process.
fn limit(pid: i32) -> u64 {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_daemon_takes_what_it_may_and_gives_what_it_was_given() {
    const GIVEN: u64 = 300;
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(GIVEN), maximum }).unwrap();
    let Some(mut bench) = Bench::released() else { return };
    let [called, hooked, logged] = ["called", "hooked", "logged"].map(|name| bench.scratch().join(name));
    let seen = |file: &Path| fs::read_to_string(file).unwrap();
    // What runc makes of it is its own: as a Go program it may pass on more.
    let notes = format!("ulimit -n >>{}", called.display());
    bench.set_variable("URUNC_OCI_RUNTIME", &double(&bench, "create", &notes));
    let bundle = bench.ordinary("c1", &Spec::busybox("exec sleep 1000")).without_stdio();
    let (shim, _) = bench.running(&bundle);
    assert_eq!(seen(&called), "300\n");
    assert_eq!(Some(limit(shim.daemon.pid())), maximum);
    bench.end(&shim, bundle);

    // A monitor, its hook and its logger.
    let logger = bench.scratch().join("logger");
    fs::write(
        &logger,
        format!("#!/bin/sh\nulimit -n >{}\nexec 5>&-\nexec cat <&3 >/dev/null\n", logged.display()),
    )
    .unwrap();
    fs::set_permissions(&logger, fs::Permissions::from_mode(0o700)).unwrap();
    let hook = format!("ulimit -n >{}", hooked.display());
    let spec = Spec::tiny("hang").edit(|spec| {
        spec["hooks"] =
            serde_json::json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", hook]}]});
    });
    let mut guest = bench.bundle("c2", &spec).without_stdio();
    guest.stdout = format!("binary://{}", logger.display());
    let (shim, pid) = bench.running(&guest);
    assert_eq!(limit(pid.cast_signed()), GIVEN);
    assert_eq!((seen(&hooked), seen(&logged)), ("300\n".to_owned(), "300\n".to_owned()));
    bench.end(&shim, guest);
    bench.finish();
}
