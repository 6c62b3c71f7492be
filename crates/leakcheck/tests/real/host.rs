//! The operator's scope, settling, saving, what an ordinary user is told, and how long a look takes.

use std::process::Command;
use std::time::{Duration, Instant};

use leakcheck::{Kind, Scope, Snapshot, settle};

use crate::guards::{Ground, Running};

#[test]
fn the_whole_host_is_compared_without_markers() {
    let scope = Scope::host();
    let before = Snapshot::from_json(&Snapshot::take(&scope).to_json().unwrap()).unwrap();
    assert_eq!(before.scope(), &scope);
    let running = Running::stranger();
    let name = format!("{}@", running.pid());
    let leaks = before.diff(&Snapshot::take(&scope));
    assert!(leaks.of(Kind::Process).any(|entry| entry.name.starts_with(&name)), "{}", leaks.table());
    drop(running);
    let after = Snapshot::take(&scope);
    assert!(!after.entries().iter().any(|entry| entry.name.starts_with(&name)));

    let processes: Vec<_> = after.entries().iter().filter(|entry| entry.kind == Kind::Process).collect();
    let me = format!("{}@", std::process::id());
    assert!(!processes.iter().any(|entry| entry.name.starts_with(&me)), "the caller is nobody's leak");
    assert!(
        !processes.iter().any(|entry| entry.detail.starts_with("kthreadd:")),
        "kernel threads do not count"
    );
    for kind in [Kind::Mount, Kind::Cgroup] {
        assert!(after.entries().iter().any(|entry| entry.kind == kind), "{kind:?}");
    }
}

#[test]
fn what_was_there_and_is_gone_is_told() {
    let mut ground = Ground::new();
    let canary = Running::start(Command::new("sleep").arg("1000").env("X", &ground.marker));
    ground.before = Snapshot::take(&ground.scope);
    let name = format!("{}@", canary.pid());
    drop(canary);
    let leaks = ground.is_clean();
    assert!(leaks.gone.len() == 1 && leaks.gone[0].name.starts_with(&name), "{}", leaks.table());
}

#[test]
fn settling_waits_for_the_dying_and_not_for_the_living() {
    let ground = Ground::new();
    let dying = Running::start(Command::new("sleep").arg("1000").env("X", &ground.marker));
    assert!(!settle(&ground.before, &ground.scope, Duration::ZERO).is_clean());
    // It is killed, and a zombie until we wait for it, while somebody settles.
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(dying);
    });
    ground.is_clean();
    killer.join().unwrap();

    let _living = Running::start(Command::new("sleep").arg("1000").env("X", &ground.marker));
    let start = Instant::now();
    let leaks = settle(&ground.before, &ground.scope, Duration::from_millis(300));
    assert_eq!(leaks.of(Kind::Process).count(), 1);
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[test]
fn an_ordinary_user_is_told_what_was_not_read() {
    let ground = Ground::new();
    let _running = Running::start(Command::new("sleep").arg("1000").env("X", &ground.marker));
    let scope = ground.scope.clone();
    let nobody = std::thread::spawn(move || {
        let id = rustix::process::Uid::from_raw(65534);
        // Only this thread changes, and it ends.
        rustix::thread::set_thread_res_uid(id, id, id).unwrap();
        Snapshot::take(&scope)
    });
    let leaks = ground.before.diff(&nobody.join().unwrap());
    assert!(!leaks.is_clean());
    assert!(leaks.unreadable.iter().any(|missed| missed.reason.contains("/environ: Permission denied")));
    assert!(!leaks.table().contains("nothing was left behind"));
}

#[test]
fn a_look_is_quick() {
    let ground = Ground::new();
    let _running = Running::shell(&ground.marker, "exec unshare -n -m sleep 1000").asleep();
    // The quickest, for the others tell how busy the machine is.
    let look = |_| {
        let start = Instant::now();
        ground.look();
        start.elapsed()
    };
    let quickest = (0..10).map(look).min().unwrap();
    println!("a look in a scope takes {quickest:?}");
    assert!(quickest < Duration::from_millis(500), "{quickest:?}");
}
