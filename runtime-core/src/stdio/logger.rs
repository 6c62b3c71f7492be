//! `binary://`: a program of the client's that takes the output; containerd's contract for loggers.
//!
//! It is executed with the URI's query as its arguments, reads stdout from fd 3 and stderr from fd 4, and closes fd 5
//! (or writes to it) when it is ready. Nobody else has a read end: if it dies, monitors drop what they cannot write,
//! and the guest goes on. It ends by itself when the write ends are gone, those of a dead daemon too.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::PathBuf,
    process::{Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use proc_id::Process;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, open},
    io::{Errno, read},
    pipe::{PipeFlags, pipe_with},
    process::setsid,
};

use super::gated;
use crate::{Error, contract::invalid};

/// How often whoever waits is asked whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);
/// The numbers of the fds that it is given: stdout, stderr, and what it closes when it is ready.
const NUMBERS: [i32; 3] = [3, 4, 5];

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logger {
    /// The program.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Only a byte says that it is ready, an end without one that it is not (`binary-v2://`).
    pub has_to_say: bool,
}

impl Logger {
    /// With a URI's query as its arguments. Of a key that is repeated the first value counts.
    pub fn new(path: PathBuf, query: Vec<(String, String)>, has_to_say: bool) -> Self {
        let mut pairs: Vec<(String, String)> = vec![];
        for (key, value) in query {
            if pairs.iter().all(|(known, _)| *known != key) {
                pairs.push((key, value));
            }
        }
        Self { path, args: pairs.into_iter().flat_map(|(key, value)| [key, value]).collect(), has_to_say }
    }
}

/// The read ends that a logger gets.
#[derive(Debug)]
pub struct Streams {
    /// The logger.
    pub logger: Logger,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// Makes the pipes of a logger; the write ends of stdout and stderr beside it.
pub fn pipes(logger: Logger) -> Result<(Streams, OwnedFd, OwnedFd), Error> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(Error::system("make a pipe"));
    let ((stdout, into_stdout), (stderr, into_stderr)) = (pipe()?, pipe()?);
    Ok((Streams { logger, stdout, stderr }, into_stdout, into_stderr))
}

/// A logger that was spawned.
#[derive(Debug)]
pub struct Spawned {
    /// The process, a child of ours.
    pub process: Process,
    logger: Logger,
    ready: OwnedFd,
    gate: UnixStream,
}

impl Streams {
    /// Spawns the logger of a container, which waits at its gate.
    pub fn spawn(self, namespace: &str, id: &str) -> Result<Spawned, Error> {
        if RESERVED.get().is_none() {
            return Err(Error::system("spawn a logger")(io::Error::other(
                "its fds' numbers are not kept free",
            )));
        }
        let Self { logger, stdout, stderr } = self;
        let (ready, say_ready) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::system("make a pipe"))?;
        let (gate, theirs) = UnixStream::pair().map_err(Error::system("make a socket pair"))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("containerd-shim-urunc-v2").arg(gated::ACTION).arg(&logger.path).args(&logger.args);
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        command.env_clear().env("CONTAINER_ID", id).env("CONTAINER_NAMESPACE", namespace);
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        let given = [stdout, stderr, say_ready];
        let numbers = given.each_ref().map(AsRawFd::as_raw_fd);
        let prepare = move || {
            setsid()?;
            fd_limit::restore()?;
            for (own, number) in numbers.into_iter().zip(NUMBERS) {
                // SAFETY: `own` is open as long as `given` lives, and the numbers are reserved: they are no OwnedFd's
                // but those of RESERVED, of which this process, about to execute another program, has no use.
                if unsafe { libc::dup2(own, number) } < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
        unsafe { command.pre_exec(prepare) };
        let mut child = command.spawn().map_err(Error::system("spawn a logger"))?;
        // With our copies open, its end would never be seen.
        drop((given, command));
        match Process::of_child(child.id()) {
            Ok(process) => Ok(Spawned { process, logger, ready, gate }),
            Err(e) => {
                // Not waited for yet, so the number is its own.
                child.kill().ok();
                child.wait().ok();
                Err(e.into())
            }
        }
    }
}

impl Spawned {
    /// Lets it go, and waits until it is ready, at most so long. An error of `wanted`, which is asked now and then,
    /// ends the wait.
    pub fn let_go(&mut self, time: Duration, wanted: &dyn Fn() -> Result<(), Error>) -> Result<(), Error> {
        let deadline = Instant::now() + time;
        let late = || Error::LoggerLate { path: self.logger.path.clone(), seconds: time.as_secs_f32() };
        let mut gate = &self.gate;
        gate.write_all(&[1]).map_err(Error::system("let a logger go"))?;
        if !readable(&self.gate, deadline, wanted)? {
            return Err(late());
        }
        let mut errno = [0u8; 4];
        // Nothing but an end: it is the logger now, or was killed, which its own fd 5 shows.
        if gate.read_exact(&mut errno).is_ok() {
            let e = io::Error::from_raw_os_error(i32::from_ne_bytes(errno));
            let problem = format!("cannot be executed as a logger ({e})");
            let path = self.logger.path.to_string_lossy();
            return Err(invalid("stdout", &path, &problem, "name a program that can"));
        }
        match readable(&self.ready, deadline, wanted)? {
            true => self.said(),
            false => Err(late()),
        }
    }

    fn said(&self) -> Result<(), Error> {
        match read(&self.ready, &mut [0u8; 1]) {
            Ok(0) if self.logger.has_to_say => Err(Error::Unmet {
                field: "stdout".to_owned(),
                value: self.logger.path.to_string_lossy().into_owned(),
                problem: "closed its fd 5 without saying that it is ready".to_owned(),
                remedy: "look at why this logger gave up".to_owned(),
            }),
            Ok(_) => Ok(()),
            Err(e) => Err(Error::system("hear a logger")(e)),
        }
    }
}

/// Waits until there is something to read, or an end. `false`: not by the deadline.
fn readable(
    fd: &impl AsFd,
    deadline: Instant,
    wanted: &dyn Fn() -> Result<(), Error>,
) -> Result<bool, Error> {
    let look = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
    loop {
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&look)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(e) => return Err(Error::system("wait for a logger")(e)),
        }
        wanted()?;
        if Instant::now() >= deadline {
            return Ok(false);
        }
    }
}

static RESERVED: OnceLock<Vec<File>> = OnceLock::new();

/// Keeps the numbers that a logger's fds have taken for good: so no fd of ours that a child still needs until it
/// executes its program ever has one of them, nor has that by which std hears why it could not. To be called before
/// anything else is open.
pub fn reserve_numbers() -> Result<(), Error> {
    let mut files = vec![];
    loop {
        let null = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let null = File::from(null.map_err(|e| Error::file("open", "/dev/null")(e.into()))?);
        if null.as_raw_fd() > NUMBERS[2] {
            break;
        }
        files.push(null);
    }
    RESERVED.get_or_init(|| files);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_the_arguments() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        let query = vec![pair("z", "1"), pair("a", ""), pair("z", "2")];
        assert_eq!(Logger::new("/b".into(), query, false).args, ["z", "1", "a", ""]);
    }
}
