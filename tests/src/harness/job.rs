//! A command that runs: its output as it comes, its end within a deadline.

use std::{
    fmt,
    io::{Read, Write},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::direct::Proc;

use super::SOON;

/// How long after its end a command's pipes may stay open.
const PIPES: Duration = Duration::from_secs(5);

/// A command that runs. Dropped, it is killed.
#[derive(Debug)]
pub struct Job {
    what: String,
    child: Child,
    process: Proc,
    stdout: Arc<Stream>,
    stderr: Arc<Stream>,
    began: Instant,
}

/// A command that ended.
#[derive(Debug)]
pub struct Done {
    /// Its exit status; `None`: a signal.
    pub status: Option<i32>,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it said on stderr.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
    what: String,
}

impl Job {
    /// Starts a command, without input.
    #[track_caller]
    pub fn start(command: Command) -> Self {
        Self::with_input(command, Stdio::null())
    }

    /// Starts a command that is to be given input.
    #[track_caller]
    pub fn to_type_in(command: Command) -> Self {
        Self::with_input(command, Stdio::piped())
    }

    #[track_caller]
    fn with_input(mut command: Command, input: Stdio) -> Self {
        let words: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
        let program = command.get_program().to_string_lossy().into_owned();
        let what = format!("{} {}", program.rsplit('/').next().unwrap_or_default(), words.join(" "));
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{what}: {e}"));
        // A child that was not reaped keeps its number.
        let process = Proc::of(child.id().cast_signed());
        let stdout = Stream::collect(child.stdout.take().unwrap());
        let stderr = Stream::collect(child.stderr.take().unwrap());
        Self { what, child, process, stdout, stderr, began: Instant::now() }
    }

    /// What it printed so far.
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&self.stdout.state.lock().unwrap().bytes).into_owned()
    }

    /// Gives it input.
    #[track_caller]
    pub fn type_in(&mut self, text: &str) {
        let input = self.child.stdin.as_mut().expect("it was to be given input");
        input.write_all(text.as_bytes()).and_then(|()| input.flush()).unwrap();
    }

    /// No more input.
    pub fn close_input(&mut self) {
        self.child.stdin = None;
    }

    /// Waits until it has printed this text; fails if it ends before, or after `timeout`.
    #[track_caller]
    pub fn wait_for(&self, text: &str, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let found = self.stdout.until(deadline, |state| state.bytes_contain(text) || state.ended);
        let printed = self.printed();
        let stderr = self.stderr.text();
        assert!(found, "{}: no {text:?} within {timeout:?}; it printed {printed:?} {stderr:?}", self.what);
        assert!(printed.contains(text), "{}: ended without {text:?}: {printed:?} {stderr:?}", self.what);
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.process.is_alive()
    }

    /// Its pid: its own until [`Job::wait`] or [`Job::kill`].
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// The command.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Whether it ends within this time.
    pub fn ends_within(&self, time: Duration) -> bool {
        self.process.ends_within(time)
    }

    /// SIGKILL, and its end.
    pub fn kill(mut self) {
        self.end();
    }

    /// Waits for its end; fails after `timeout`.
    #[track_caller]
    pub fn wait(mut self, timeout: Duration) -> Done {
        if !self.process.ends_within(timeout) {
            let (out, err) = (self.printed(), self.stderr.text());
            panic!("{}: not ended within {timeout:?}; it printed {out:?} {err:?}", self.what);
        }
        let took = self.began.elapsed();
        let status = self.child.wait().unwrap().code();
        let deadline = Instant::now() + PIPES;
        let closed = [&self.stdout, &self.stderr].iter().all(|s| s.until(deadline, |state| state.ended));
        assert!(closed, "{}: somebody still holds its output", self.what);
        let stdout = std::mem::take(&mut self.stdout.state.lock().unwrap().bytes);
        Done { status, stdout, stderr: self.stderr.text(), took, what: self.what.clone() }
    }

    fn end(&mut self) {
        // Not reaped yet, so the number still is its own.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs a command as [`Job::to_type_in`], on a terminal of its own, whose other side is the job's input and output; the
/// command's exit status is the job's.
#[track_caller]
pub fn on_terminal(command: &Command) -> Job {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted: Vec<_> = words.map(|w| format!("'{}'", w.to_string_lossy().replace('\'', r"'\''"))).collect();
    let mut script = Command::new("script");
    script.args(["--quiet", "--flush", "--return", "--command", &quoted.join(" "), "/dev/null"]);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    script.env("TERM", "dumb");
    Job::to_type_in(script)
}

impl Drop for Job {
    fn drop(&mut self) {
        self.end();
    }
}

impl Done {
    /// What it printed, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// It must have ended with this status.
    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{self}");
        self
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text();
        let tail = text.char_indices().rev().nth(2000).map_or(0, |(at, _)| at);
        let (status, took) = (self.status, self.took);
        write!(f, "{}: status {status:?} after {took:?}; printed {:?}", self.what, &text[tail..])?;
        write!(f, "; said {:?}", self.stderr)
    }
}

/// What comes out of a pipe.
#[derive(Debug, Default)]
struct Stream {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    ended: bool,
}

impl State {
    fn bytes_contain(&self, text: &str) -> bool {
        self.bytes.windows(text.len()).any(|w| w == text.as_bytes())
    }
}

impl Stream {
    fn collect(mut pipe: impl Read + Send + 'static) -> Arc<Self> {
        let stream = Arc::new(Self::default());
        let filled = stream.clone();
        thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            loop {
                let read = pipe.read(&mut buffer);
                let mut state = filled.state.lock().unwrap();
                match read {
                    Ok(n @ 1..) => state.bytes.extend_from_slice(&buffer[..n]),
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    _ => state.ended = true,
                }
                filled.more.notify_all();
                if state.ended {
                    return;
                }
            }
        });
        stream
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.state.lock().unwrap().bytes).into_owned()
    }

    /// Waits until the condition holds; `false`: it does not by the deadline.
    fn until(&self, deadline: Instant, condition: impl Fn(&State) -> bool) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let state = self.state.lock().unwrap();
        let (state, _) = self.more.wait_timeout_while(state, left, |s| !condition(s)).unwrap();
        condition(&state)
    }
}

/// Ends a daemon of the test's own by SIGTERM, or if it does not hear that, by SIGKILL. Whether it heard.
pub(super) fn end_in_order(mut child: Child) -> bool {
    let process = Proc::of(child.id().cast_signed());
    process.signal(Signal::TERM);
    let heard = process.ends_within(SOON);
    if !heard {
        child.kill().unwrap();
    }
    child.wait().unwrap();
    heard
}
