//! Network namespaces.

use std::fs;

use leakcheck::Kind;

use crate::guards::{Ground, Running, mounted, wait_for};
use crate::holder;

/// `net:[INODE]` of a process.
fn of(pid: u32) -> String {
    fs::read_link(format!("/proc/{pid}/ns/net")).unwrap().to_string_lossy().into_owned()
}

fn unshared(ground: &Ground) -> Running {
    Running::shell(&ground.marker, "exec unshare -n sleep 1000").asleep()
}

#[test]
fn held_by_a_process() {
    let ground = Ground::new();
    let running = unshared(&ground);
    let entry = ground.one(Kind::NetNs);
    assert!(entry.name.starts_with(&of(running.pid())), "{entry:?}");
    assert!(entry.detail.contains(&format!("{}@", running.pid())), "{entry:?}");
    drop(running);
    ground.is_clean();
}

#[test]
fn held_by_a_mount_alone() {
    let ground = Ground::new();
    let point = ground.folder.join("ns");
    fs::write(&point, "").unwrap();
    let running = unshared(&ground);
    let name = of(running.pid());
    let mount = mounted(&["--bind", &format!("/proc/{}/ns/net", running.pid())], &point);
    drop(running);
    wait_for("the process to be gone", || ground.look().of(Kind::Process).count() == 0);
    let entry = ground.one(Kind::NetNs);
    assert!(entry.name.starts_with(&name), "{entry:?}");
    assert!(entry.detail.contains(point.to_str().unwrap()), "{entry:?}");
    drop(mount);
    ground.is_clean();
}

#[test]
fn held_by_a_thread_alone() {
    let ground = Ground::new();
    let running = holder::start(&ground, "thread");
    let entry = ground.one(Kind::NetNs);
    assert!(entry.detail.contains("held by thread"), "{entry:?}");
    assert!(!entry.name.starts_with(&of(running.pid())), "{entry:?}");
    drop(running);
    ground.is_clean();
}

#[test]
fn held_by_an_fd_alone_although_its_mount_is_gone() {
    let ground = Ground::new();
    let point = ground.folder.join("ns");
    fs::write(&point, "").unwrap();
    let first = unshared(&ground);
    let name = of(first.pid());
    let mount = mounted(&["--bind", &format!("/proc/{}/ns/net", first.pid())], &point);
    let code = format!("exec 7<{} 8</proc/self/ns/uts; exec sleep 1000", point.display());
    let second = Running::shell(&ground.marker, &code).asleep();
    drop(first);
    drop(mount);
    wait_for("the first process to be gone", || ground.look().of(Kind::Process).count() == 1);
    let entry = ground.one(Kind::NetNs);
    assert!(entry.name.starts_with(&name), "{entry:?}");
    assert!(entry.detail.starts_with("held by fd 7 of"), "{entry:?}");
    drop(second);
    ground.is_clean();
}

#[test]
fn a_strangers_is_not_reported() {
    let ground = Ground::new();
    let _stranger = Running::shell("", "exec unshare -n sleep 1000").asleep();
    ground.is_clean();
}

#[test]
fn the_caller_stays_where_it_is() {
    let link = || fs::read_link("/proc/thread-self/ns/net").unwrap();
    let ground = Ground::new();
    let _running = unshared(&ground);
    let here = link();
    assert_eq!(ground.look().of(Kind::NetNs).count(), 1);
    assert_eq!(link(), here);
}
