//! Kill: translated, never forwarded. It never waits for a verb at work: a Start sees the death itself.

use std::{
    sync::{Mutex, TryLockError},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use vmm_api::{Control, ControlError};

use crate::{Error, Runtime, container::Container, contract::invalid, lifecycle::State};

/// How long the monitor may take to press the power button.
const BUTTON_WAIT: Duration = Duration::from_secs(2);

/// Presses the power button. Whoever has the control channel just now, another Kill or a Pause, is waited for.
fn press(button: &Mutex<Box<dyn Control>>) -> Result<(), ControlError> {
    let deadline = Instant::now() + BUTTON_WAIT;
    loop {
        match button.try_lock() {
            Ok(mut control) => return control.power_button(deadline),
            Err(TryLockError::Poisoned(control)) => return control.into_inner().power_button(deadline),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(TryLockError::WouldBlock) => return Err(ControlError::Timeout),
        }
    }
}

/// What asks a process to end; and what asks systemd to power off (systemd(1)), as images of it say by STOPSIGNAL.
const ENDS: [i32; 7] =
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGPWR, HALT, HALT + 1];
const HALT: i32 = RTMIN + 3;
/// `SIGRTMIN` as the C library has it: the kernel's first two are its own.
const RTMIN: i32 = 34;

/// The name of a signal.
fn name(number: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    match usize::try_from(number - 1).ok().and_then(|n| NAMES.get(n)) {
        Some(name) => format!("SIG{name}"),
        None if number >= RTMIN => format!("SIGRTMIN+{}", number - RTMIN),
        None => number.to_string(),
    }
}

impl Runtime {
    /// Sends `signal` to a container, as far as a guest can hear it. `Some`: its power button is pressed, and so long
    /// it may take until [`Runtime::lose_patience`]; without a configured grace time that is for ever.
    ///
    /// To an ordinary container it goes as it is, with `all` to each of its processes.
    pub fn kill(&self, id: &str, signal: u32, all: bool) -> Result<Option<Duration>, Error> {
        let container = self.get(id)?;
        let number = number(signal)?;
        if let Some(oci) = container.oci() {
            return self.kill_ordinary(&container, &oci, number, all).map(|()| None);
        }
        let ends = ENDS.contains(&number);
        let (state, process, button) = {
            let live = container.live();
            let button = live.control.clone().filter(|_| live.power_button);
            (live.state, live.process.clone(), button)
        };
        match state {
            State::Stopped | State::Unwinding | State::UnwindBlocked => {
                return Err(Error::Ended { id: id.to_owned() });
            }
            State::Creating => {
                return Err(Error::WrongState { id: id.to_owned(), verb: "kill", state });
            }
            State::Created | State::Starting | State::Running | State::Paused => {}
        }
        let Some(process) = process else { return Err(Error::NotFound { id: id.to_owned() }) };
        if number != libc::SIGKILL && !ends {
            // 0 only asks whether there is anybody.
            if number != 0 {
                tracing::info!(id, signal = name(number), "a guest has no such signal: it hears nothing");
            }
            return Ok(None);
        }
        if ends
            && state == State::Running
            && let Some(button) = button
        {
            container.live().pressed.get_or_insert(number);
            match press(&button) {
                Ok(()) => {
                    let grace = container.live().grace;
                    let seconds = grace.map(|grace| grace.as_secs());
                    tracing::info!(id, signal, grace = seconds, "the power button is pressed");
                    return Ok(grace);
                }
                // A monitor that does not answer is slow, or hangs: then a SIGKILL is the caller's decision.
                Err(e @ ControlError::Timeout) => return Err(e.into()),
                // One that cannot press it any more: the guest cannot hear, so it is ended.
                Err(e) => tracing::warn!(id, signal, error = %e, "the power button failed"),
            }
        }
        {
            let mut live = container.live();
            if number == libc::SIGKILL {
                live.killed = Some(number);
            } else {
                live.killed.get_or_insert(number);
            }
        }
        tracing::info!(id, signal, "killed");
        process.signal(Signal::KILL)?;
        Ok(None)
    }

    /// Kills a guest that did not end within its grace time. One that has ended meanwhile is no error.
    pub fn lose_patience(&self, container: &Container) -> Result<(), Error> {
        let process = {
            let mut live = container.live();
            let Some(process) = live.process.clone().filter(|_| live.exit.is_none()) else { return Ok(()) };
            live.killed = Some(libc::SIGKILL);
            process
        };
        tracing::warn!(id = container.id, "the guest did not end within its grace time: it is killed");
        process.signal(Signal::KILL)?;
        Ok(())
    }
}

/// A signal's number, 0 included.
pub(super) fn number(signal: u32) -> Result<i32, Error> {
    const LAST: u32 = 64;
    i32::try_from(signal)
        .ok()
        .filter(|_| signal <= LAST)
        .ok_or_else(|| invalid("signal", &signal.to_string(), "is no signal", "give a number from 0 to 64"))
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn signals_have_names() {
        let numbers = [1, 9, 10, 14, 17, 31, 32, 34, 64];
        let names = [
            "SIGHUP",
            "SIGKILL",
            "SIGUSR1",
            "SIGALRM",
            "SIGCHLD",
            "SIGSYS",
            "32",
            "SIGRTMIN+0",
            "SIGRTMIN+30",
        ];
        assert_eq!(numbers.map(name), names);
    }
}
