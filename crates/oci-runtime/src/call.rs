//! One call of a runtime: spawned, waited for by its pidfd, ended when its time is over.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use proc_id::Process;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::Mode,
    io::Errno,
    process::{
        Signal, WaitId, WaitIdOptions, getpid, getppid, set_parent_process_death_signal, setsid, umask,
        waitid,
    },
};

use crate::{Cancel, Error, Runtime, cancel::Bell, classify::classify, classify::errors_of, handed::Handed};

/// What service managers tell a process about itself: a runtime would take it for its own.
const NOT_ITS_OWN: [&str; 7] = [
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "MAINPID",
];
/// How long one that was killed may take to be dead.
const DYING: Duration = Duration::from_secs(2);
/// How long what is in its session is looked for.
const LOOKING: Duration = Duration::from_secs(1);

/// What a process in the container has as stdin, stdout and stderr: `None` is /dev/null. Our copies are closed when the
/// call returns.
#[derive(Debug, Default)]
pub struct Streams {
    /// Read by it.
    pub stdin: Option<OwnedFd>,
    /// Written by it. Of a runtime that fails before there is a process, too.
    pub stdout: Option<OwnedFd>,
    /// Written by it. Of a runtime that fails before there is a process, too.
    pub stderr: Option<OwnedFd>,
}

/// A call that is being put together.
pub(crate) struct Call {
    runtime: String,
    verb: &'static str,
    id: String,
    /// For messages: where the container's state is.
    state: String,
    command: Command,
    cancel: Cancel,
    log: Option<Handed>,
    out: Handed,
    err: Handed,
    /// What it reads, open until it has ended.
    parts: Vec<Handed>,
}

impl Runtime {
    /// A call of `verb` for the container `id`, empty for verbs that have none.
    pub(crate) fn call(&self, verb: &'static str, id: &str) -> Result<Call, Error> {
        // Else it would be taken for an option. All else the runtimes refuse themselves.
        if id.starts_with('-') {
            return Err(Error::Id { id: id.to_owned() });
        }
        let mut call = Call::new(&self.program, verb)?;
        call.cancel = self.cancel.clone();
        let log = Handed::empty()?;
        call.command.arg("--root").arg(&self.root).args(["--log", &log.path(), "--log-format", "json"]);
        if self.systemd_cgroup {
            call.command.arg("--systemd-cgroup");
        }
        call.command.arg(verb);
        call.log = Some(log);
        id.clone_into(&mut call.id);
        call.state = self.root.join(id).to_string_lossy().into_owned();
        Ok(call)
    }
}

impl Call {
    /// A call without options.
    pub(crate) fn new(program: &Path, verb: &'static str) -> Result<Self, Error> {
        let (out, err) = (Handed::empty()?, Handed::empty()?);
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).stdout(out.stream()?).stderr(err.stream()?);
        // A folder that is always there, and that nobody wants to be rid of.
        command.current_dir("/");
        for name in NOT_ITS_OWN {
            command.env_remove(name);
        }
        // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
        unsafe { command.pre_exec(prepare) };
        let runtime = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
        let (id, state) = (String::new(), String::new());
        let cancel = Cancel::default();
        Ok(Self { runtime, verb, id, state, command, cancel, log: None, out, err, parts: vec![] })
    }

    pub(crate) fn runtime(&self) -> &str {
        &self.runtime
    }

    pub(crate) fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// An option whose value is a file that holds these bytes.
    pub(crate) fn part(&mut self, option: &str, bytes: &[u8]) -> Result<(), Error> {
        let part = Handed::holding(bytes)?;
        self.command.arg(option).arg(part.path());
        self.parts.push(part);
        Ok(())
    }

    /// Its stdio becomes that of a process in the container.
    pub(crate) fn streams(&mut self, streams: Streams) {
        let stdio = |fd: Option<OwnedFd>| fd.map_or_else(Stdio::null, Stdio::from);
        let Streams { stdin, stdout, stderr } = streams;
        self.command.stdin(stdio(stdin)).stdout(stdio(stdout)).stderr(stdio(stderr));
    }

    /// It dies with this thread.
    pub(crate) fn dies_with_us(&mut self) {
        let parent = getpid();
        let prepare = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // We have died before that was set.
            if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from(Errno::SRCH)) }
        };
        // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
        unsafe { self.command.pre_exec(prepare) };
    }

    /// Adds the container as the last argument and runs it to its end; what it said on stdout.
    pub(crate) fn run(mut self, deadline: Instant) -> Result<String, Error> {
        if !self.id.is_empty() {
            self.command.arg(&self.id);
        }
        self.run_as_it_is(deadline)
    }

    /// The same without a further argument.
    pub(crate) fn run_as_it_is(mut self, deadline: Instant) -> Result<String, Error> {
        let began = Instant::now();
        let bell = self.cancel.bell()?;
        let program = self.command.get_program().into();
        let child = self.command.spawn().map_err(|source| Error::Spawn { program, source })?;
        let mut running = Running::new(child)?;
        match running.wait(deadline, &bell)? {
            Waited::Ended(status) if status.success() => self.out.text(),
            Waited::Ended(status) => {
                drop(bell);
                Err(self.refused(status)?)
            }
            Waited::GivenUp => {
                running.end();
                drop(bell);
                Err(Error::GivenUp { runtime: self.runtime, verb: self.verb, id: self.id })
            }
            Waited::TooLong => Err(Error::Hung {
                dead: running.end(),
                runtime: self.runtime,
                verb: self.verb,
                id: self.id,
                seconds: (deadline.saturating_duration_since(began)).as_secs_f32(),
            }),
        }
    }

    fn refused(self, status: ExitStatus) -> Result<Error, Error> {
        let mut message = match &self.log {
            Some(log) => errors_of(&log.text()?),
            None => String::new(),
        };
        // Not every error finds its way into the log, least of all one of the dynamic loader.
        if message.is_empty() {
            let said = self.err.text()?;
            said.trim().lines().next().unwrap_or_default().trim().clone_into(&mut message);
        }
        if message.is_empty() {
            message = describe(status);
        }
        let case = classify(&message, &self.id, &self.state);
        Ok(Error::Refused { runtime: self.runtime, verb: self.verb, id: self.id, case, message, status })
    }
}

/// A session of its own, and no descriptor but the three: what we have inherited ourselves from who knows whom need not
/// be close-on-exec, and has no business in a runtime that enters containers. The umask is the usual one, not that of a
/// daemon whose files are nobody's business: a runtime makes mount points with it, which the container's users must get
/// through.
fn prepare() -> io::Result<()> {
    setsid()?;
    fd_limit::restore()?;
    umask(Mode::from_raw_mode(0o022));
    // SAFETY: a flag is set on descriptors, none is closed. Linux 5.10 does not know the flag yet (EINVAL): there the
    // runtimes' own care for what gets into a container has to do.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Ok(())
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit status {code} and said nothing"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// How waiting for it ended.
enum Waited {
    Ended(ExitStatus),
    GivenUp,
    TooLong,
}

/// A runtime that was spawned. When this goes, it is dead, with what was in its session.
struct Running {
    child: Child,
    process: Process,
    ended: bool,
}

impl Running {
    fn new(mut child: Child) -> Result<Self, Error> {
        match Process::of_child(child.id()) {
            Ok(process) => Ok(Self { child, process, ended: false }),
            Err(e) => {
                // Not waited for yet, so the number is its own.
                child.kill().ok();
                child.wait().ok();
                Err(e.into())
            }
        }
    }

    /// Waits for its end, that it is given up, or for the deadline.
    fn wait(&mut self, deadline: Instant, bell: &Bell<'_>) -> Result<Waited, Error> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(|_| Errno::OVERFLOW);
            let left = left.map_err(Error::system("wait for an OCI runtime"))?;
            let mut fds = [
                PollFd::new(&self.process, PollFlags::IN),
                PollFd::from_borrowed_fd(bell.fd.as_fd(), PollFlags::IN),
            ];
            let woken = match poll(&mut fds, Some(&left)) {
                Err(Errno::INTR) => continue,
                woken => woken.map_err(Error::system("wait for an OCI runtime"))?,
            };
            if !fds[0].revents().is_empty() {
                break;
            }
            return Ok(if woken > 0 { Waited::GivenUp } else { Waited::TooLong });
        }
        self.ended = true;
        self.child.wait().map(Waited::Ended).map_err(Error::system("wait for an OCI runtime"))
    }

    /// Ends it; whether it is dead.
    fn end(&mut self) -> bool {
        if !self.ended {
            // Stopped first, so that it starts nothing while its session is emptied.
            let _ = self.process.signal(Signal::STOP);
            let members = self.empty_session();
            let _ = self.process.signal(Signal::KILL);
            self.ended = self.process.wait(Some(DYING)).unwrap_or(false);
            if self.ended {
                self.child.wait().ok();
                // Now they are children of the sub-reaper, which is us; of a stranger this only asks. One that has joined
                // a container must not stay: it keeps that one's init from ending.
                for member in members {
                    waitid(WaitId::PidFd(member.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok();
                }
            }
        }
        self.ended
    }

    /// Ends what it has started and not yet let go, and returns it. What escapes is in the container's cgroup, or is a
    /// hook's own.
    fn empty_session(&self) -> Vec<Process> {
        let (mut ended, until) = (vec![], Instant::now() + LOOKING);
        while Instant::now() < until {
            let mut members = self.process.session().unwrap_or_default();
            members.retain(|member| !member.is_dead().unwrap_or(true));
            if members.is_empty() {
                break;
            }
            for member in members {
                let _ = member.signal(Signal::KILL).and_then(|_| member.wait(Some(LOOKING)));
                ended.push(member);
            }
        }
        ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
