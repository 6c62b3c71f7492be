//! The fds, threads and zombies of one process that the scope looks into.

use std::fs;
use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use leakcheck::{Kind, Leaks, Scope, Snapshot, settle};

use crate::guards::{Ground, Running, skip, wait_for};

/// A program that does as it is told, a line at a time.
const PROGRAM: &str = "
import os, sys, threading
kept = []
print('ready', flush=True)
while True:
    exec(sys.stdin.readline())
    print('done', flush=True)
";

struct Told {
    running: Running,
    stdin: ChildStdin,
    said: std::path::PathBuf,
    lines: usize,
    scope: Scope,
    before: Snapshot,
}

impl Told {
    fn start(ground: &Ground) -> Option<Self> {
        if !std::path::Path::new("/usr/bin/python3").exists() {
            skip("the inside of a process", "there is no python3");
            return None;
        }
        let said = ground.folder.join("said");
        let mut command = Command::new("python3");
        command.args(["-u", "-c", PROGRAM]).current_dir("/").stdout(fs::File::create(&said).unwrap());
        let (running, stdin) = Running::start_with_stdin(&mut command, Stdio::piped());
        let mut told = Self {
            scope: Scope::new().only_marked(),
            before: ground.before.clone(),
            running,
            stdin: stdin.unwrap(),
            said,
            lines: 0,
        };
        told.answered();
        told.scope = told.scope.inside(told.running.pid() as i32);
        told.before = Snapshot::take(&told.scope);
        Some(told)
    }

    fn answered(&mut self) {
        self.lines += 1;
        wait_for("the answer", || fs::read_to_string(&self.said).unwrap().lines().count() == self.lines);
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
        self.answered();
    }

    fn look(&self) -> Leaks {
        let leaks = self.before.diff(&Snapshot::take(&self.scope));
        for entry in &leaks.leaked {
            assert!(leaks.table().contains(&entry.name) && leaks.to_json().unwrap().contains(&entry.name));
        }
        leaks
    }

    /// What is leaked is of one kind; names without the process, and details.
    #[track_caller]
    fn leaked(&self, kind: Kind) -> Vec<(String, String)> {
        let leaks = self.look();
        assert!(leaks.leaked.iter().all(|entry| entry.kind == kind), "{}", leaks.table());
        let name = |name: &str| name.split(" of ").next().unwrap().to_owned();
        leaks.leaked.iter().map(|entry| (name(&entry.name), entry.detail.clone())).collect()
    }

    #[track_caller]
    fn is_clean(&self) {
        let leaks = settle(&self.before, &self.scope, Duration::from_secs(10));
        assert!(leaks.is_clean(), "{}", leaks.table());
    }
}

#[test]
fn a_descriptor_more_by_what_it_is_open_on() {
    let ground = Ground::new();
    let Some(mut told) = Told::start(&ground) else { return };
    told.is_clean();
    // The standard input is a pipe, too, and it may have inherited more.
    let pipes = told.before.entries().iter().filter(|entry| entry.name.starts_with("pipe #")).count();
    told.tell("kept += os.pipe()");
    let leaked = told.leaked(Kind::Fd);
    let names: Vec<_> = leaked.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, [1, 2].map(|more| format!("pipe #{}", pipes + more)));
    assert!(leaked[0].1.starts_with("fds 0 "), "{leaked:?}");
    told.tell("[os.close(fd) for fd in kept]; kept = []");
    told.is_clean();
    told.tell("kept.append(os.open('/dev/zero', os.O_RDONLY))");
    assert_eq!(told.leaked(Kind::Fd)[0].0, "/dev/zero #1");
    // Closed and opened anew under another number is no difference.
    told.before = Snapshot::take(&told.scope);
    told.tell("kept.append(os.open('/dev/zero', os.O_RDONLY)); os.close(kept.pop(0))");
    told.is_clean();
    told.tell(
        "import socket; s = socket.socket(socket.AF_UNIX); s.bind(chr(0) + 'leakcheck ' + str(os.getpid()))",
    );
    assert_eq!(told.leaked(Kind::Fd)[0].0, format!("unix socket @leakcheck {} #1", told.running.pid()));
}

#[test]
fn a_thread_more() {
    let ground = Ground::new();
    let Some(mut told) = Told::start(&ground) else { return };
    told.tell("stop = threading.Event(); threading.Thread(target=stop.wait, daemon=True).start()");
    assert_eq!(told.leaked(Kind::Thread)[0].0, "python3 #2");
    told.tell("stop.set()");
    told.is_clean();
}

#[test]
fn a_child_that_nobody_waited_for() {
    let ground = Ground::new();
    let Some(mut told) = Told::start(&ground) else { return };
    told.tell("child = os.fork() or os._exit(0)");
    wait_for("the zombie", || told.look().of(Kind::Zombie).count() == 1);
    let (_, detail) = told.leaked(Kind::Zombie).remove(0);
    assert!(detail.starts_with(&format!("python3: not waited for by {}@", told.running.pid())), "{detail}");
    told.tell("os.waitpid(child, 0)");
    told.is_clean();
}

#[test]
fn that_of_a_stranger_is_not_reported_and_that_of_a_dead_process_is_not_clean() {
    let (ground, other) = (Ground::new(), Ground::new());
    let (Some(told), Some(mut stranger)) = (Told::start(&ground), Told::start(&other)) else { return };
    stranger.tell("kept += os.pipe(); threading.Thread(target=threading.Event().wait).start()");
    stranger.tell("child = os.fork() or os._exit(0)");
    wait_for("the stranger's zombie", || stranger.look().of(Kind::Zombie).count() == 1);
    told.is_clean();
    drop(told.running);
    let leaks = told.before.diff(&Snapshot::take(&told.scope));
    assert!(!leaks.is_clean() && leaks.unreadable[0].reason.contains("is gone"), "{}", leaks.table());
}
