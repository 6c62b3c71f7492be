//! A container's life, from create to delete.

use std::{fs, io::Write, os::fd::AsFd};

use oci_runtime::{Case, Status, Streams};
use proc_id::Process;
use rustix::process::{Signal, WaitId, WaitIdOptions, waitid};

use crate::ground::{Ended, Ground, all_of, eventually, line_of, on_both, pipe, reap, soon, with_stdout};

on_both!(whole_life, streams, early_exits, created_and_deleted, what_init_has_left, limits, paused);

const READY: [&str; 3] = ["sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done"];

fn whole_life(ground: &Ground) {
    let runtime = &ground.runtime;
    let (mut stdout, streams) = with_stdout();
    // Left by a call that was killed: runc's own temporary one would stop it.
    for name in ["c1.pid", ".c1.pid"] {
        fs::write(ground.dir.path().join(name), "1").unwrap();
    }
    let init = ground.create("c1", &ground.spec("c1", &READY), streams, soon()).unwrap();
    let state = runtime.state("c1", soon()).unwrap();
    assert_eq!(state.status, Status::Created);
    assert_eq!(state.bundle, ground.dir.path().join("bundle-c1"));
    assert_eq!(ground.members("c1"), [init.pid()]);
    assert!(!init.is_dead().unwrap());

    runtime.start("c1", soon()).unwrap();
    assert_eq!(line_of(&mut stdout), "ready");
    assert_eq!(runtime.state("c1", soon()).unwrap().status, Status::Running);
    assert!(ground.members("c1").contains(&init.pid()));

    init.signal(Signal::TERM).unwrap();
    assert_eq!(reap(&init), Ended::With(7));
    assert_eq!(runtime.state("c1", soon()).unwrap().status, Status::Stopped);

    runtime.delete("c1", false, soon()).unwrap();
    assert_eq!(runtime.state("c1", soon()).unwrap_err().case(), Some(Case::Absent));
    assert!(fs::read_dir(&runtime.root).unwrap().next().is_none());
    assert!(ground.cgroups("c1").is_empty());
}

fn streams(ground: &Ground) {
    let (stdin, mut write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map(|(read, write)| (read, fs::File::from(write)))
        .unwrap();
    let ((out, stdout), (err, stderr)) = (pipe(), pipe());
    let streams = Streams { stdin: Some(stdin), stdout: Some(stdout), stderr: Some(stderr) };
    let init = ground.run("c1", &["sh", "-c", "cat; echo error >&2; exit 3"], streams);
    write.write_all(b"through").unwrap();
    drop(write);
    // Both end: nobody else has them, no runtime and no copy of ours.
    assert_eq!((all_of(out).as_str(), all_of(err).as_str()), ("through", "error\n"));
    assert_eq!(reap(&init), Ended::With(3));
    ground.runtime.delete("c1", false, soon()).unwrap();
}

fn early_exits(ground: &Ground) {
    for n in 0..5 {
        let id = format!("c{n}");
        let init = ground.run(&id, &["sh", "-c", &format!("exit {n}")], Streams::default());
        // It waits for us, however long ago it has ended.
        assert_eq!(reap(&init), Ended::With(n));
        ground.runtime.delete(&id, false, soon()).unwrap();
    }
}

fn created_and_deleted(ground: &Ground) {
    let init = ground.create("c1", &ground.spec("c1", &READY), Streams::default(), soon()).unwrap();
    ground.runtime.delete("c1", false, soon()).unwrap();
    assert_eq!(reap(&init), Ended::Killed(9));
    let init = ground.run("c1", &READY, Streams::default());
    ground.runtime.delete("c1", true, soon()).unwrap();
    assert_eq!(reap(&init), Ended::Killed(9));
    assert!(fs::read_dir(&ground.runtime.root).unwrap().next().is_none());
}

/// Without a pid namespace of its own a container's processes do not end with its init, but with its delete.
fn what_init_has_left(ground: &Ground) {
    let mut spec = ground.spec("c1", &["sh", "-c", "sleep 1000 & echo started; wait"]);
    spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|space| space["type"] != "pid");
    // /proc of the host's pid namespace can be mounted by nobody but the host.
    spec["mounts"][0] =
        serde_json::json!({"type": "bind", "source": "/proc", "destination": "/proc", "options": ["rbind"]});
    let (mut stdout, streams) = with_stdout();
    let init = ground.create("c1", &spec, streams, soon()).unwrap();
    ground.runtime.start("c1", soon()).unwrap();
    assert_eq!(line_of(&mut stdout), "started");
    let members = ground.members("c1");
    let other = members.iter().find(|pid| **pid != init.pid()).unwrap();
    init.signal(Signal::KILL).unwrap();
    assert_eq!(reap(&init), Ended::Killed(9));
    let other = Process::of_child(u32::try_from(*other).unwrap()).unwrap();
    assert!(!other.is_dead().unwrap());
    ground.runtime.delete("c1", false, soon()).unwrap();
    assert_eq!(reap(&other), Ended::Killed(9));
}

fn limits(ground: &Ground) {
    let init = ground.run("c1", &READY, Streams::default());
    let limit = || ground.cgroup_file("c1", &["memory.limit_in_bytes", "memory.max"]);
    assert_ne!(limit(), "33554432");
    ground.runtime.update("c1", br#"{"memory":{"limit":33554432}}"#, soon()).unwrap();
    assert_eq!(limit(), "33554432");
    ground.end("c1", &init);
}

fn paused(ground: &Ground) {
    let runtime = &ground.runtime;
    let (mut stdout, streams) = with_stdout();
    let init = ground.run("c1", &READY, streams);
    assert_eq!(line_of(&mut stdout), "ready");
    runtime.pause("c1", soon()).unwrap();
    assert_eq!(runtime.state("c1", soon()).unwrap().status, Status::Paused);
    init.signal(Signal::TERM).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    assert!(waitid(WaitId::PidFd(init.as_fd()), look).unwrap().is_none(), "it acts while it is paused");
    runtime.resume("c1", soon()).unwrap();
    assert_eq!(reap(&init), Ended::With(7));
    eventually("it is stopped", || runtime.state("c1", soon()).unwrap().status == Status::Stopped);
    runtime.delete("c1", false, soon()).unwrap();
}
