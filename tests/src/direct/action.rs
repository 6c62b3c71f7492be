//! The shim's actions, executed as containerd executes them.

use std::{
    io::{Read, Write},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use containerd_shim_protos::api::DeleteResponse;
use protobuf::Message;

use super::{PATIENCE, process::Proc};

/// More than any action may take.
const LONGEST: Duration = Duration::from_secs(20 * PATIENCE);
/// How long after its end an action's pipes may stay open: a daemon that inherited them would hold containerd.
const PIPES: Duration = Duration::from_secs(2 * PATIENCE);

/// An action that runs.
#[derive(Debug)]
pub struct Ran {
    child: Child,
    began: Instant,
    stdout: mpsc::Receiver<Vec<u8>>,
    stderr: mpsc::Receiver<Vec<u8>>,
}

/// An action that ended.
#[derive(Debug)]
pub struct Exited {
    /// The exit code; `None`: a signal.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it complained about.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Ran {
    pub(crate) fn spawn(mut command: Command, stdin: &[u8]) -> Self {
        let began = Instant::now();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().expect("the shim can be executed");
        // Small enough for a pipe, so this does not wait. The action may be gone already.
        child.stdin.take().unwrap().write_all(stdin).ok();
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        Self { child, began, stdout, stderr }
    }

    /// The process.
    #[track_caller]
    pub fn process(&self) -> Proc {
        Proc::of(self.child.id().cast_signed())
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> Exited {
        let process = self.process();
        let ended = process.ends_within(LONGEST.saturating_sub(self.began.elapsed()));
        if !ended {
            process.kill();
        }
        let took = self.began.elapsed();
        let status = self.child.wait().unwrap();
        let pipe = |pipe: &mpsc::Receiver<Vec<u8>>| {
            pipe.recv_timeout(PIPES).expect("the action's pipes are closed with it")
        };
        let (stdout, stderr) =
            (pipe(&self.stdout), String::from_utf8_lossy(&pipe(&self.stderr)).into_owned());
        assert!(ended, "the action did not end within {LONGEST:?}: {stderr}");
        Exited { code: status.code(), stdout, stderr, took }
    }
}

impl Exited {
    /// The answer of a `delete` that must have succeeded.
    #[track_caller]
    pub fn deleted(&self) -> DeleteResponse {
        assert_eq!(self.code, Some(0), "delete failed: {}", self.stderr);
        assert!(!self.stdout.is_empty(), "delete printed nothing");
        let answer = self.answer();
        assert!(answer.exited_at().seconds > 1_500_000_000, "an exit time: {answer:?}");
        answer
    }

    /// What `delete` printed.
    #[track_caller]
    pub fn answer(&self) -> DeleteResponse {
        DeleteResponse::parse_from_bytes(&self.stdout).expect("a DeleteResponse on stdout")
    }

    /// Its stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut data = Vec::new();
        pipe.read_to_end(&mut data).ok();
        sender.send(data).ok();
    });
    receiver
}
