//! What a daemon holds itself: after many containers no more than after the first one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use leakcheck::{Scope, Snapshot, settle};
use urunc_tests::direct::{Bench, Bundle, Client, SOON, Spec};

/// For how long a daemon must have been the same to be quiet: its pool keeps a thread for a second after its last work,
/// and what watches the end of a container ends with it.
const QUIET: Duration = Duration::from_millis(1500);
/// Together 100 guests and 30 failures: so many at once, so often.
const GUESTS: usize = 5;
const BATCHES: usize = 20;
const FAILURES: [usize; 2] = [1, 2];

/// Create, Start, the guest's own exit, Delete.
fn cycle(client: &Client, bundle: &Bundle) {
    client.create(bundle).unwrap();
    client.start(&bundle.id).unwrap();
    assert_eq!(client.wait(&bundle.id), Ok(7));
    client.delete(&bundle.id).unwrap();
}

/// A Create that fails when the launcher is ready: the kernel that the image names is not in it.
fn failure(client: &Client, bundle: &Bundle) {
    let failure = client.create(bundle).unwrap_err();
    assert!(failure.message.contains("no-such-kernel"), "{failure:?}");
}

/// So many of each at the same time, by one daemon, which another container of the pod keeps alive.
fn batch(bench: &Bench, client: &Client, name: &str, guests: usize, failures: usize) {
    let bundle = |what: &str, n: usize, spec: Spec| {
        bench.bundle(&format!("{name}-{what}{n}"), &spec.in_pod("pod")).without_stdio()
    };
    let good: Vec<_> = (0..guests).map(|n| bundle("c", n, Spec::tiny("exit=7"))).collect();
    let bad = |n| bundle("f", n, Spec::tiny("exit=7").key("binary", "/no-such-kernel"));
    let bad: Vec<_> = (0..failures).map(bad).collect();
    thread::scope(|scope| {
        good.iter().for_each(|bundle| drop(scope.spawn(|| cycle(client, bundle))));
        bad.iter().for_each(|bundle| drop(scope.spawn(|| failure(client, bundle))));
    });
    good.into_iter().chain(bad).for_each(Bundle::remove);
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
    batch(&bench, &shim.client, "first", 1, 1);
    let scope = Scope::new().only_marked().inside(shim.daemon.pid());
    let before = once_quiet(&scope);
    let fds =
        || fs::read_dir(Path::new("/proc").join(shim.daemon.pid().to_string()).join("fd")).unwrap().count();
    // It looks into the daemon indeed.
    let seen = before.entries().iter().filter(|entry| entry.kind == leakcheck::Kind::Fd).count();
    assert_eq!(seen, fds());

    for n in 0..BATCHES {
        batch(&bench, &shim.client, &n.to_string(), GUESTS, FAILURES[n % 2]);
    }
    // Threads of the pool end a second after their last work.
    let leaks = settle(&before, &scope, QUIET + SOON);
    assert!(leaks.is_clean(), "the daemon holds more than after its first container:\n{}", leaks.table());
    bench.end(&shim, sandbox);
    bench.finish();
}
