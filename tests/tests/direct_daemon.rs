//! What a daemon holds itself: after many containers no more than after the first one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use leakcheck::{Scope, Snapshot, settle};
use urunc_tests::direct::{Bench, Bundle, SOON, Shim, Spec};

/// For how long a daemon must have been the same to be quiet: its pool keeps a thread for a second after its last work,
/// and what watches the end of a container ends with it.
const QUIET: Duration = Duration::from_millis(1500);
const CYCLES: usize = 100;
const FAILURES: usize = 30;

/// Create, Start, the guest's own exit, Delete: by one daemon, which other containers of the pod keep alive.
fn cycle(bench: &Bench, shim: &Shim, id: &str) {
    let bundle = bench.bundle(id, &Spec::tiny("exit=7").in_pod("pod")).without_stdio();
    shim.client.create(&bundle).unwrap();
    shim.client.start(id).unwrap();
    assert_eq!(shim.client.wait(id), Ok(7));
    shim.client.delete(id).unwrap();
    forget(bench, bundle);
}

/// A Create that fails when the launcher is ready: the kernel that the image names is not in it.
fn failure(bench: &Bench, shim: &Shim, id: &str) {
    let spec = Spec::tiny("exit=7").in_pod("pod").key("binary", "/no-such-kernel");
    let bundle = bench.bundle(id, &spec).without_stdio();
    let failure = shim.client.create(&bundle).unwrap_err();
    assert!(failure.message.contains("no-such-kernel"), "{failure:?}");
    forget(bench, bundle);
}

fn forget(bench: &Bench, bundle: Bundle) {
    bench.delete(&bundle).deleted();
    bundle.remove();
}

/// The inside of a process once nothing in it has changed for a while.
fn once_quiet(scope: &Scope) -> Snapshot {
    let deadline = Instant::now() + 2 * SOON;
    let (mut last, mut since) = (Snapshot::take(scope), Instant::now());
    while since.elapsed() < QUIET {
        assert!(Instant::now() < deadline, "the daemon does not become quiet");
        thread::sleep(Duration::from_millis(100));
        let now = Snapshot::take(scope);
        let difference = last.diff(&now);
        if !difference.is_clean() || !difference.gone.is_empty() {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

#[test]
fn a_daemon_holds_no_more_after_many_containers_than_after_the_first() {
    let Some(bench) = Bench::released() else { return };
    // As a pod's sandbox: the daemon stays for it.
    let sandbox = bench.bundle("pod", &Spec::sandbox()).without_stdio();
    let shim = bench.start(&sandbox);
    shim.client.create(&sandbox).unwrap();
    shim.client.start("pod").unwrap();
    cycle(&bench, &shim, "first");
    failure(&bench, &shim, "first-failure");
    let scope = Scope::new().only_marked().inside(shim.daemon.pid());
    let before = once_quiet(&scope);
    let fds =
        || fs::read_dir(Path::new("/proc").join(shim.daemon.pid().to_string()).join("fd")).unwrap().count();
    // It looks into the daemon indeed.
    let seen = before.entries().iter().filter(|entry| entry.kind == leakcheck::Kind::Fd).count();
    assert_eq!(seen, fds());

    for n in 0..CYCLES {
        cycle(&bench, &shim, &format!("c{n}"));
        if n * FAILURES / CYCLES != (n + 1) * FAILURES / CYCLES {
            failure(&bench, &shim, &format!("f{n}"));
        }
    }
    // Threads of the pool end a second after their last work.
    let leaks = settle(&before, &scope, QUIET + SOON);
    assert!(leaks.is_clean(), "the daemon holds more than after its first container:\n{}", leaks.table());
    bench.end(&shim, sandbox);
    bench.finish();
}
