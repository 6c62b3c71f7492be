//! One hook: spawned, fed, waited for, and ended when its time is over.
//!
//! It is known by its pidfd and dies with the thread that waits for it, which lives as long as it does, and hence with
//! us. Its stdin is a file in memory, so that one that does not read cannot hold us up; what it says on stderr is read
//! as it comes.

use std::{
    fs::File,
    io::{self, Seek, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use proc_id::Process;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, memfd_create},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{Signal, getpid, getppid, set_parent_process_death_signal, setsid},
};

use super::{Hook, State, end_strays, strays::MARK};
use crate::{Error, last_words::LastWords, launcher::MARKER};

/// How often a hook's caller is asked whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);
/// How long one that was killed may take to be dead.
const DYING: Duration = Duration::from_secs(2);

/// Until when a hook may go on.
pub struct Stop<'a> {
    /// At the latest.
    pub deadline: Instant,
    /// Asked now and then: an error ends the hook.
    pub wanted: &'a dyn Fn() -> Result<(), Error>,
}

/// Runs a hook to its end: it has ended well, or it has failed, with all that it started.
pub fn run(hook: &Hook, txid: &str, state: &State<'_>, stop: &Stop<'_>) -> Result<(), Error> {
    let failed = |problem: String, words: &str| Error::Hook {
        hook: hook.name.clone(),
        path: hook.path.clone(),
        problem,
        words: words.lines().last().unwrap_or_default().to_owned(),
    };
    let began = Instant::now();
    let deadline = stop.deadline.min(began + hook.wait);
    let (words, stderr) =
        pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(Error::system("make a pipe"))?;
    rustix::fs::fcntl_setfl(&stderr, rustix::fs::OFlags::empty()).map_err(Error::system("set up a pipe"))?;
    let words = LastWords::new(words);
    let stdin = stdin(state, &hook.path)?;
    let spawned = command(hook, txid, state.bundle, stdin, stderr.into()).spawn();
    let mut child = spawned.map_err(|e| failed(format!("cannot be started ({e})"), ""))?;
    let process = match Process::of_child(child.id()) {
        Ok(process) => process,
        Err(e) => {
            // Not waited for yet, so the number is its own.
            child.kill().ok();
            child.wait().ok();
            return Err(e.into());
        }
    };
    let mut running = Running { child, process, txid, ended: None };
    fault::point("hook.running")?;
    loop {
        if let Some(status) = running.wait(&words, LOOK)? {
            tracing::debug!(txid, hook = hook.name, us = began.elapsed().as_micros(), "a hook has run");
            return match status.success() {
                true => Ok(()),
                false => Err(failed(describe(status), &words.text())),
            };
        }
        (stop.wanted)()?;
        if Instant::now() >= deadline {
            running.end();
            let waited = (deadline - began).as_secs_f32();
            return Err(failed(format!("did not end within {waited:.1} s and was killed"), &words.text()));
        }
    }
}

/// A hook that was spawned. When this goes, it is dead, with all that it started.
struct Running<'a> {
    child: Child,
    process: Process,
    txid: &'a str,
    ended: Option<ExitStatus>,
}

impl Running<'_> {
    /// Waits for its end, at most so long, and hears what it says meanwhile.
    fn wait(&mut self, words: &LastWords, time: Duration) -> Result<Option<ExitStatus>, Error> {
        let fds = &mut [PollFd::new(&self.process, PollFlags::IN), PollFd::new(words, PollFlags::IN)];
        // Once nobody has the pipe any more it is always ready.
        let count = if words.drain() { 2 } else { 1 };
        let time = Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() };
        match poll(&mut fds[..count], Some(&time)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(Error::system("wait for a hook")(e)),
        }
        if fds[0].revents().is_empty() {
            return Ok(None);
        }
        let status = self.child.wait().map_err(Error::system("wait for a hook"))?;
        self.ended = Some(status);
        words.drain();
        Ok(Some(status))
    }

    fn end(&mut self) {
        if self.ended.is_some() {
            return;
        }
        let killed = self.process.signal(Signal::KILL).and_then(|_| self.process.wait(Some(DYING)));
        match killed {
            Ok(true) => self.ended = self.child.wait().ok(),
            Ok(false) => tracing::error!(pid = self.process.pid(), "a hook does not die"),
            Err(e) => tracing::error!(pid = self.process.pid(), error = %e, "a hook was not ended"),
        }
        if let Err(e) = end_strays(self.txid, Instant::now() + DYING) {
            tracing::error!(error = e.chain(), "what a hook started was not ended");
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// The state, as a file that is at its beginning.
fn stdin(state: &State<'_>, path: &Path) -> Result<File, Error> {
    let text = serde_json::to_vec(state).map_err(|e| Error::Message { message: e.to_string() })?;
    let mut file = File::from(
        memfd_create("oci-state", MemfdFlags::CLOEXEC).map_err(Error::system("make a file in memory"))?,
    );
    file.write_all(&text).and_then(|()| file.rewind()).map_err(Error::file("write the state for", path))?;
    Ok(file)
}

fn command(hook: &Hook, txid: &str, bundle: &Path, stdin: File, stderr: Stdio) -> Command {
    let mut command = Command::new(&hook.path);
    let mut args = hook.args.iter();
    if let Some(own) = args.next() {
        command.arg0(own);
    }
    command.args(args).stdin(stdin).stdout(Stdio::null()).stderr(stderr);
    if let Some(env) = &hook.env {
        command.env_clear().envs(env.iter().filter_map(|pair| pair.split_once('=')));
    }
    command.env(MARKER, txid).env(MARK, txid);
    // Where the bundle is gone, as it may be for poststop, anywhere will do.
    command.current_dir(if bundle.is_dir() { bundle } else { Path::new("/") });
    let parent = getpid();
    let prepare = move || {
        setsid()?;
        fd_limit::restore()?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It has died before that was set.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from(Errno::SRCH)) }
    };
    // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
    unsafe { command.pre_exec(prepare) };
    command
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
