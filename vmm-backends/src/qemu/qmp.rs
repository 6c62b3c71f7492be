//! A small blocking QMP client: JSON messages, one a line, over a connected unix stream socket.
//!
//! It owns our end of the socket. It trusts nothing that comes from the other: a guest may have taken QEMU over. So
//! no call lasts longer than its deadline, whether the peer is silent, slow or talks without end, and a line longer
//! than [`LONGEST_LINE`] is a protocol error. Every command has an id, so a late answer to a command whose deadline
//! has passed is never taken for the answer to the next one; after any other failure the channel is of no more use.

use std::{
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};
use serde::Deserialize;
use vmm_api::{Control, ControlError, GuestEnd, Ready};

const LONGEST_LINE: usize = 1024 * 1024;

/// A QMP connection.
pub(super) struct Qmp {
    socket: UnixStream,
    /// What was received but not yet read as lines.
    received: Vec<u8>,
    last_id: u64,
    end: Option<GuestEnd>,
}

/// Any message of QEMU's: a greeting, an answer, an error or an event.
#[derive(Deserialize)]
struct Message {
    #[serde(rename = "QMP")]
    greeting: Option<Greeting>,
    id: Option<u64>,
    #[serde(rename = "return")]
    answer: Option<serde_json::Value>,
    error: Option<Refusal>,
    event: Option<String>,
    data: Option<EventData>,
}

/// What of an event's data is looked at.
#[derive(Deserialize)]
struct EventData {
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Greeting {
    version: Version,
}

#[derive(Deserialize)]
struct Version {
    qemu: Numbers,
}

#[derive(Deserialize)]
struct Numbers {
    major: u32,
    minor: u32,
    micro: u32,
}

#[derive(Deserialize)]
struct Refusal {
    class: String,
    desc: String,
}

impl Qmp {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { socket, received: Vec::new(), last_id: 0, end: None }
    }

    /// Runs `command` and returns its answer.
    fn execute(
        &mut self,
        command: &'static str,
        deadline: Instant,
    ) -> Result<serde_json::Value, ControlError> {
        let id = self.command(command, deadline)?;
        self.answer(command, id, deadline)
    }

    /// Sends `command`; the id that its answer will have.
    fn command(&mut self, command: &'static str, deadline: Instant) -> Result<u64, ControlError> {
        self.last_id += 1;
        let line = format!("{{\"execute\":\"{command}\",\"id\":{}}}\n", self.last_id);
        self.send(line.as_bytes(), deadline)?;
        Ok(self.last_id)
    }

    fn answer(
        &mut self,
        command: &'static str,
        id: u64,
        deadline: Instant,
    ) -> Result<serde_json::Value, ControlError> {
        loop {
            let message = self.message(deadline)?;
            if message.event.is_some() {
                self.note(message);
            } else if message.id.is_some_and(|other| other != id) {
                tracing::debug!(command, "a late QMP answer");
            } else if let Some(Refusal { class, desc }) = message.error {
                return Err(ControlError::Refused { command, answer: format!("{class}: {desc}") });
            } else if let (Some(answer), Some(_)) = (message.answer, message.id) {
                return Ok(answer);
            }
        }
    }

    /// Takes the events out of what was received, and drops all else of it: an answer that came too late, or what is not of
    /// the protocol, of which the next command finds out.
    fn note_events(&mut self) {
        while let Some(at) = self.received.iter().position(|&b| b == b'\n') {
            let rest = self.received.split_off(at + 1);
            let line = std::mem::replace(&mut self.received, rest);
            if let Ok(message) = serde_json::from_slice::<Message>(&line)
                && message.event.is_some()
            {
                self.note(message);
            }
        }
        if self.received.len() > LONGEST_LINE {
            self.received.clear();
        }
    }

    /// Keeps of an event what tells of the guest's end.
    fn note(&mut self, message: Message) {
        let reason = message.data.and_then(|data| data.reason);
        tracing::debug!(event = message.event, reason, "QMP event");
        if message.event.as_deref() == Some("SHUTDOWN") {
            self.end = match reason.as_deref() {
                Some("guest-shutdown") => Some(GuestEnd::PowerOff),
                Some("guest-reset") => Some(GuestEnd::Reset),
                Some("guest-panic") => Some(GuestEnd::Panic),
                Some("host-signal") => Some(GuestEnd::Signal),
                _ => None,
            };
        }
    }

    /// By QMP a triple fault is a reset like any other. In software QEMU tells it on its stderr if it is to log resets of
    /// processors, with their registers: those of a second processor are part of every boot, so there it is not asked.
    fn have_triple_faults_told(&mut self, deadline: Instant) -> Result<(), ControlError> {
        let processors = self.execute("query-cpus-fast", deadline)?;
        if processors.as_array().is_some_and(|list| list.len() == 1) {
            // Nobody waits for the answer: it is done before the guest runs, or cannot be done.
            self.last_id += 1;
            let command = serde_json::json!({
                "execute": "human-monitor-command",
                "arguments": {"command-line": "log cpu_reset"},
                "id": self.last_id,
            });
            self.send(format!("{command}\n").as_bytes(), deadline)?;
        }
        Ok(())
    }

    fn message(&mut self, deadline: Instant) -> Result<Message, ControlError> {
        let line = self.line(deadline)?;
        serde_json::from_slice(&line).map_err(|_| protocol(&line))
    }

    /// The next line with its newline.
    fn line(&mut self, deadline: Instant) -> Result<Vec<u8>, ControlError> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.received[seen..].iter().position(|&b| b == b'\n') {
                let rest = self.received.split_off(seen + at + 1);
                return Ok(std::mem::replace(&mut self.received, rest));
            }
            seen = self.received.len();
            if seen > LONGEST_LINE {
                return Err(protocol(&self.received));
            }
            self.receive(deadline)?;
        }
    }

    fn receive(&mut self, deadline: Instant) -> Result<(), ControlError> {
        let mut bytes = [0u8; 4096];
        loop {
            self.wait(PollFlags::IN, deadline)?;
            match recv(&self.socket, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(ControlError::Closed),
                Ok((n, _)) => {
                    self.received.extend_from_slice(&bytes[..n]);
                    return Ok(());
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(broken(error)),
            }
        }
    }

    fn send(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<(), ControlError> {
        while !bytes.is_empty() {
            self.wait(PollFlags::OUT, deadline)?;
            match send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(n) => bytes = &bytes[n..],
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(broken(error)),
            }
        }
        Ok(())
    }

    /// Waits until the socket is ready, or has ended, which the next call on it tells.
    fn wait(&self, events: PollFlags, deadline: Instant) -> Result<(), ControlError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ControlError::Timeout);
            }
            // A deadline beyond what a timespec holds is waited for in years.
            let timeout = Timespec::try_from(left.min(Duration::from_secs(1 << 30)))
                .map_err(|_| ControlError::Timeout)?;
            match poll(&mut [PollFd::new(&self.socket, events)], Some(&timeout)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(broken(error)),
            }
        }
    }
}

impl Control for Qmp {
    fn ready(&mut self, deadline: Instant) -> Result<Ready, ControlError> {
        let line = self.line(deadline)?;
        let greeting = serde_json::from_slice::<Message>(&line).ok().and_then(|message| message.greeting);
        let Numbers { major, minor, micro } = greeting.ok_or_else(|| protocol(&line))?.version.qemu;
        self.execute("qmp_capabilities", deadline)?;
        let kvm = self.execute("query-kvm", deadline)?;
        let accel = match kvm.get("enabled").and_then(serde_json::Value::as_bool) {
            Some(true) => "kvm",
            Some(false) => "tcg",
            None => return Err(protocol(kvm.to_string().as_bytes())),
        };
        if accel == "tcg" {
            self.have_triple_faults_told(deadline)?;
        }
        Ok(Ready { accel: accel.to_owned(), version: format!("{major}.{minor}.{micro}") })
    }

    fn pause(&mut self, deadline: Instant) -> Result<(), ControlError> {
        self.execute("stop", deadline).map(drop)
    }

    fn go(&mut self, deadline: Instant) -> Result<(), ControlError> {
        let id = self.command("cont", deadline)?;
        match self.answer("cont", id, deadline) {
            // A short guest is over, and QEMU with it, before the answer is on its way: isa-debug-exit is an exit()
            // right under the guest's instruction. Whatever it was, it is an exit now, and that is told elsewhere.
            Err(ControlError::Closed) => Ok(()),
            answer => answer.map(drop),
        }
    }

    fn power_button(&mut self, deadline: Instant) -> Result<(), ControlError> {
        self.execute("system_powerdown", deadline).map(drop)
    }

    fn hear(&mut self) -> Option<GuestEnd> {
        let mut bytes = [0u8; 4096];
        // A peer that talks faster than this is heard the next time.
        for _ in 0..LONGEST_LINE / bytes.len() {
            // First what is here already: the end may have come together with the last answer.
            self.note_events();
            match recv(&self.socket, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((n, _)) if n > 0 => self.received.extend_from_slice(&bytes[..n]),
                Err(Errno::INTR) => {}
                _ => break,
            }
        }
        self.note_events();
        self.end
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A QEMU that dies with something of ours unread resets the connection, one that is dead already breaks the pipe.
fn broken(error: Errno) -> ControlError {
    match error {
        Errno::CONNRESET | Errno::PIPE => ControlError::Closed,
        error => ControlError::Io(error.into()),
    }
}

/// The line's first 200 bytes are enough to see what talks there.
fn protocol(line: &[u8]) -> ControlError {
    let shown = &line[..line.len().min(200)];
    ControlError::Protocol { line: String::from_utf8_lossy(shown).trim_end().to_owned() }
}

#[cfg(test)]
mod tests;
