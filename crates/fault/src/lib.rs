//! Points at which a test makes something go wrong: an error, a crash, a delay.
//!
//! The code under test says [`point`]`("create.launcher")` where it could fail. Without the feature `enabled` that is
//! an empty function and not even the name is in the binary. With it, the file named by the environment variable
//! `URUNC_FAULTS` says what happens there; it is read anew each time, so a test changes it between two cases while
//! the daemon runs. Every fault that fired is appended to `<that file>.fired`, with the process and the microseconds of
//! CLOCK_MONOTONIC: a test asserts that its fault fired where, and when, it was meant to. A process that changes its root
//! (a launcher) goes on with the files as it saw them at its first point.
//!
//! The file holds a line for each fault, `NAME[#N|#once][@AFTER]=ACTION[:ARG]`; a name that begins with `*` is every
//! point that ends with the rest. `#N` fires only at the Nth passage of that process (default: at each), `#once` only
//! if it has not fired yet in any process, and `@AFTER` only once something has fired at the point AFTER. The actions:
//!
//! | action | what happens |
//! | --- | --- |
//! | `error` | [`point`] returns [`Injected`] |
//! | `kill` | SIGKILL to the process itself |
//! | `stop` | SIGSTOP to the process itself |
//! | `panic` | a panic |
//! | `delay:MS` | a pause of MS milliseconds |
//! | `hold` | a pause until the file no longer says so |
//! | `trace` | nothing but its line in `.fired`: `*=trace` tells which points there are |
//!
//! A line `deadline.NAME=MS` puts MS milliseconds in the place of the deadline of that name ([`deadline`]), which
//! goes to `.fired` as well: a test need not wait for a deadline that is meant for a busy node.

use thiserror::Error;

/// The error that an `error` action makes.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("injected fault at {name}")]
pub struct Injected {
    /// The point's name.
    pub name: String,
}

impl From<Injected> for std::io::Error {
    fn from(fault: Injected) -> Self {
        Self::other(fault)
    }
}

/// A point at which a test may make something go wrong. In a release: nothing.
#[cfg(not(feature = "enabled"))]
#[inline(always)]
pub fn point(_name: &'static str) -> Result<(), Injected> {
    Ok(())
}

/// [`point`] for a name that is put together at run time: `STEP.PLACE`.
#[cfg(not(feature = "enabled"))]
#[inline(always)]
pub fn step(_step: &str, _place: &'static str) -> Result<(), Injected> {
    Ok(())
}

/// How long something may take: `default`, unless a test wants it shorter. In a release: `default`.
#[cfg(not(feature = "enabled"))]
#[inline(always)]
pub fn deadline(_name: &'static str, default: std::time::Duration) -> std::time::Duration {
    default
}

/// Lets a child that is executed with an environment of its own meet the same faults. In a release: nothing.
#[cfg(not(feature = "enabled"))]
#[inline(always)]
pub fn pass_on(_command: &mut std::process::Command) {}

#[cfg(feature = "enabled")]
pub use enabled::{deadline, pass_on, point, step};

#[cfg(feature = "enabled")]
mod enabled {
    use std::{
        collections::HashMap,
        ffi::OsStr,
        fs::{File, OpenOptions},
        io::{self, Read, Seek, Write},
        process::Command,
        sync::{Mutex, OnceLock, PoisonError},
        time::Duration,
    };

    use rustix::{
        io::fcntl_dupfd_cloexec,
        process::{Signal, getpid, kill_process},
        time::{ClockId, clock_gettime},
    };

    use super::Injected;

    static PASSAGES: Mutex<Option<HashMap<String, u32>>> = Mutex::new(None);

    /// The file of faults and its log, for a process in whose root they cannot be found any more.
    static KEPT: OnceLock<Option<(File, File)>> = OnceLock::new();

    fn open(file: &OsStr) -> io::Result<(File, File)> {
        let mut fired = file.to_owned();
        fired.push(".fired");
        let fired = OpenOptions::new().read(true).append(true).create(true).open(fired)?;
        Ok((File::open(file)?, fired))
    }

    /// For good, hence out of the way of numbers that mean something to a child.
    fn keep(file: &OsStr) -> io::Result<(File, File)> {
        let (faults, fired) = open(file)?;
        Ok((fcntl_dupfd_cloexec(faults, 100)?.into(), fcntl_dupfd_cloexec(fired, 100)?.into()))
    }

    /// The faults as they are now, what has fired, and where that is written.
    fn read(file: &OsStr) -> io::Result<(String, String, File)> {
        let kept = KEPT.get_or_init(|| keep(file).ok());
        let (faults, log) = match (open(file), kept) {
            (Ok(files), _) => files,
            (Err(_), Some((faults, log))) => (faults.try_clone()?, log.try_clone()?),
            (Err(e), None) => return Err(e),
        };
        Ok((text(&faults)?, text(&log)?, log))
    }

    /// All of a file, wherever it was read to before.
    fn text(mut file: &File) -> io::Result<String> {
        let mut text = String::new();
        file.rewind()?;
        file.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Says what fires. One write per line: lines of several processes do not mix.
    fn say(mut log: &File, name: &str, what: &dyn std::fmt::Display) {
        let now = clock_gettime(ClockId::Monotonic);
        let now = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        log.write_all(format!("{name} {what} {} {now}\n", std::process::id()).as_bytes()).ok();
    }

    fn passage(name: &str) -> u32 {
        let mut passages = PASSAGES.lock().unwrap_or_else(PoisonError::into_inner);
        let n = passages.get_or_insert_default().entry(name.to_owned()).or_insert(0);
        *n += 1;
        *n
    }

    /// Lets a child that is executed with an environment of its own meet the same faults.
    pub fn pass_on(command: &mut Command) {
        if let Some(file) = std::env::var_os("URUNC_FAULTS") {
            command.env("URUNC_FAULTS", file);
        }
    }

    /// [`point`] for a name that is put together at run time: `STEP.PLACE`.
    pub fn step(step: &str, place: &'static str) -> Result<(), Injected> {
        point(&format!("{step}.{place}"))
    }

    /// How long something may take: `default`, unless a line of the file says otherwise.
    pub fn deadline(name: &str, default: Duration) -> Duration {
        let Some((faults, _, log)) = std::env::var_os("URUNC_FAULTS").and_then(|file| read(&file).ok())
        else {
            return default;
        };
        let set = |line: &str| line.split_once('=').filter(|(place, _)| *place == name)?.1.parse().ok();
        match faults.lines().find_map(set) {
            Some(ms) => {
                say(&log, name, &ms);
                Duration::from_millis(ms)
            }
            None => default,
        }
    }

    /// A point at which a test may make something go wrong.
    pub fn point(name: &str) -> Result<(), Injected> {
        let Some(file) = std::env::var_os("URUNC_FAULTS") else { return Ok(()) };
        let passage = passage(name);
        let Ok((faults, fired, log)) = read(&file) else { return Ok(()) };
        for line in faults.lines() {
            let Some(fault) = Fault::parse(line) else { continue };
            if !fault.is_due(name, passage, &fired) {
                continue;
            }
            say(&log, name, &fault.action);
            if fault.action == "hold" {
                while read(&file).is_ok_and(|(now, ..)| now.lines().any(|l| l == line)) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                continue;
            }
            act(name, fault.action)?;
        }
        Ok(())
    }

    /// A line of the file.
    struct Fault<'a> {
        name: &'a str,
        passage: &'a str,
        after: &'a str,
        action: &'a str,
    }

    impl<'a> Fault<'a> {
        fn parse(line: &'a str) -> Option<Self> {
            let (place, action) = line.split_once('=')?;
            let (place, after) = place.split_once('@').unwrap_or((place, ""));
            let (name, passage) = place.split_once('#').unwrap_or((place, ""));
            Some(Self { name, passage, after, action })
        }

        fn is_at(&self, name: &str) -> bool {
            self.name.strip_prefix('*').map_or(self.name == name, |end| name.ends_with(end))
        }

        /// Whether it is to happen at this passage of a point, after all that has `fired`.
        fn is_due(&self, name: &str, passage: u32, fired: &str) -> bool {
            // Point, action, process.
            let has_fired = |is_it: &dyn Fn(&str, &str) -> bool| {
                fired.lines().any(|line| {
                    let mut words = line.split(' ');
                    is_it(words.next().unwrap_or_default(), words.next().unwrap_or_default())
                })
            };
            let is_turn = match self.passage {
                "" => true,
                "once" => !has_fired(&|point, action| self.is_at(point) && action == self.action),
                nth => nth.parse() == Ok(passage),
            };
            self.is_at(name)
                && is_turn
                && (self.after.is_empty() || has_fired(&|point, _| point == self.after))
        }
    }

    #[expect(clippy::panic, reason = "the action `panic` is a panic on purpose")]
    fn act(name: &str, action: &str) -> Result<(), Injected> {
        let (action, arg) = action.split_once(':').unwrap_or((action, ""));
        match action {
            "error" => return Err(Injected { name: name.to_owned() }),
            "kill" => drop(kill_process(getpid(), Signal::KILL)),
            "stop" => drop(kill_process(getpid(), Signal::STOP)),
            "panic" => panic!("injected panic at {name}"),
            "delay" => std::thread::sleep(Duration::from_millis(arg.parse().unwrap_or(0))),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(all(test, not(feature = "enabled")))]
mod tests {
    use std::time::Duration;

    #[test]
    fn a_release_has_no_points() {
        assert_eq!(super::point("anything"), Ok(()));
        assert_eq!(super::deadline("deadline.anything", Duration::from_secs(7)), Duration::from_secs(7));
    }
}
