//! Processes.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use leakcheck::{Kind, Scope, Snapshot};

use crate::guards::{Folder, Ground, Running, unique, wait_for};

/// The marker is in one place only, and the process is found by it.
fn is_found(ground: &Ground, running: Running) {
    let pid = running.pid();
    let entry = ground.one(Kind::Process);
    assert!(entry.name.starts_with(&format!("{pid}@")), "{entry:?}");
    drop(running);
    ground.is_clean();
}

#[test]
fn by_its_arguments() {
    let ground = Ground::new();
    let running = Running::start(Command::new("sleep").arg0(&ground.marker).arg("1000"));
    assert!(ground.one(Kind::Process).detail.contains(&ground.marker));
    is_found(&ground, running);
}

#[test]
fn by_its_environment() {
    let ground = Ground::new();
    let running = Running::start(Command::new("sleep").arg("1000").env("X", &ground.marker));
    is_found(&ground, running);
}

#[test]
fn by_its_working_directory() {
    let ground = Ground::new();
    let running = Running::start(Command::new("sleep").arg("1000").env_clear().current_dir(&ground.folder));
    is_found(&ground, running);
}

#[test]
fn by_its_program() {
    let ground = Ground::new();
    let program = ground.folder.join("sleep");
    fs::copy("/bin/sleep", &program).unwrap();
    // By way of a shell, since a file that was written a moment ago may still be busy in a child of another test.
    let code = format!("until exec -a sleep {} 1000; do sleep 0.01; done 2>&-", program.display());
    let running = Running::start(Command::new("bash").args(["-c", &code]).env_clear().current_dir("/"));
    wait_for("the program", || fs::read_link(format!("/proc/{}/exe", running.pid())).unwrap() == program);
    is_found(&ground, running);
}

#[test]
fn by_its_cgroup() {
    let ground = Ground::new();
    let Some(tree) = crate::cgroup::mounted("cgroup2").or_else(|| crate::cgroup::mounted("cgroup")) else {
        return crate::guards::skip("a process by its cgroup", "no hierarchy is mounted");
    };
    let folder = Folder::make(tree.join(&ground.marker)).unwrap();
    let running = Running::stranger();
    fs::write(folder.0.join("cgroup.procs"), running.pid().to_string()).unwrap();
    assert!(ground.one(Kind::Cgroup).detail.contains(&running.pid().to_string()));
    assert_eq!(ground.look().of(Kind::Process).count(), 1);
    drop(running);
    drop(folder);
    ground.is_clean();
}

#[test]
fn descendants_and_zombies_of_a_marked_process() {
    let ground = Ground::new();
    let code = "env -i sleep 1000 & env -i sleep 2000 & exec -a $0 sleep 1000";
    let running =
        Running::start(Command::new("bash").args(["-c", code, &ground.marker]).current_dir("/")).asleep();
    let find = |detail: &str| {
        let leaks = ground.look();
        assert!(leaks.of(Kind::Process).count() <= 3, "{}", leaks.table());
        leaks.of(Kind::Process).find(|entry| entry.detail.contains(detail)).cloned()
    };
    wait_for("the first child", || find(": sleep 1000").is_some());
    wait_for("the second child", || find(": sleep 2000").is_some());
    assert!(find(&ground.marker).is_some());
    let second = find(": sleep 2000").unwrap();
    // Its parent never waits, so its pid cannot go to anybody else.
    drop(Orphan(second.name.split('@').next().unwrap().parse().unwrap()));
    wait_for("the zombie", || find("a zombie, child of").is_some_and(|zombie| zombie.name == second.name));
    drop(running);
    ground.is_clean();
}

#[test]
fn a_stranger_is_not_reported() {
    let ground = Ground::new();
    let _stranger = Running::stranger();
    let _other = Running::start(Command::new("sleep").arg("1000").env("X", unique("other")));
    ground.is_clean();
}

#[test]
fn an_orphan_in_a_leaf_of_ours_is_found_without_a_marker() {
    let scope = Scope::new().marker(unique("leakcheck"));
    let Some(tree) = crate::cgroup::mounted("cgroup2").or_else(|| crate::cgroup::mounted("cgroup")) else {
        return crate::guards::skip("an orphan in a leaf", "no hierarchy is mounted");
    };
    let leaf = Folder::make(tree.join(crate::cgroup::leaf())).unwrap();
    let code = format!("echo $$ > {}/cgroup.procs; sleep 1000 & echo $!", leaf.0.display());
    // The pipe is the sleeper's stdout too, so the pid is read as a line and not to the end.
    let mut command = Command::new("sh");
    command.args(["-c", &code]).stderr(Stdio::null()).stdout(Stdio::piped());
    let mut shell = command.spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(shell.stdout.take().unwrap()), &mut line)
        .unwrap();
    shell.wait().unwrap();
    let orphan = Orphan(line.trim().parse().unwrap());

    let parent = fs::read_to_string(format!("/proc/{}/status", orphan.0)).unwrap();
    let has = |kind: Kind, name: &str| {
        Snapshot::take(&scope)
            .entries()
            .iter()
            .any(|entry| entry.kind == kind && entry.name.starts_with(name))
    };
    if parent.contains("\nPPid:\t1\n") {
        assert!(has(Kind::Process, &format!("{}@", orphan.0)));
        assert!(has(Kind::Cgroup, &leaf.0.to_string_lossy()));
    } else {
        crate::guards::skip("an orphan in a leaf", "a process above us adopts orphans");
    }
    let name = format!("{}@", orphan.0);
    drop(orphan);
    wait_for("the orphan to be gone", || !has(Kind::Process, &name));
}

/// A process that is not our child: killed by way of a pidfd, opened while it is surely there.
struct Orphan(i32);

impl Drop for Orphan {
    fn drop(&mut self) {
        use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
        if let Some(Ok(fd)) = Pid::from_raw(self.0).map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
            let _ = pidfd_send_signal(fd, Signal::KILL);
        }
    }
}
