//! Log lines: logfmt, one write each, to containerd's log fifo without ever blocking.
//!
//! The fifo is opened for reading and writing: then opening never waits, a containerd that is away breaks no pipe, and
//! what was written meanwhile is there for its return. When it is full, lines are dropped: a stuck reader must not stop
//! a guest.

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt};

use crate::flags::Flags;

/// Logs to the fifo of the bundle that is the working directory.
pub fn init(flags: &Flags, configured: &str) {
    let path = flags.bundle.as_deref().unwrap_or(Path::new(".")).join("log");
    let flags_open = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fifo = open(&path, flags_open, Mode::empty()).ok().filter(|fd| {
        // Only a fifo: a file would grow, and a device would do who knows what.
        fstat(fd).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Fifo)
    });
    set(fifo.map_or(Target::Nowhere, Target::Fifo), level(configured, flags.debug));
}

/// Logs to stderr: what `delete` says there is one warning in containerd's log.
pub fn to_stderr(debug: bool) {
    set(Target::Stderr, if debug { LevelFilter::INFO } else { LevelFilter::WARN });
}

/// The configured level, or that of `-debug` if it says more.
fn level(configured: &str, debug: bool) -> LevelFilter {
    let configured = configured.parse().unwrap_or(LevelFilter::INFO);
    if debug { configured.max(LevelFilter::DEBUG) } else { configured }
}

fn set(target: Target, level: LevelFilter) {
    let subscriber = tracing_subscriber::registry().with(Logfmt { target }.with_filter(level));
    // Set once per process; a second time would be an error of ours, and there is nowhere to say so.
    tracing::subscriber::set_global_default(subscriber).ok();
}

enum Target {
    Nowhere,
    Stderr,
    Fifo(OwnedFd),
}

struct Logfmt {
    target: Target,
}

impl<S: Subscriber> Layer<S> for Logfmt {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line { message: String::new(), fields: String::new() };
        event.record(&mut line);
        let at = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        let text = format!(
            "time=\"{at}\" level={level} msg={}{} runtime=urunc\n",
            quoted(&line.message),
            line.fields
        );
        match &self.target {
            Target::Nowhere => {}
            Target::Stderr => drop(io::stderr().write_all(text.as_bytes())),
            Target::Fifo(fd) => drop(rustix::io::write(fd, text.as_bytes())),
        }
    }
}

struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn add(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            // Writing to a String cannot fail.
            write!(self.fields, " {}={}", field.name(), quoted(value)).ok();
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

/// A value of logfmt: quoted where it has to be, and never more than one line.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,+@".contains(c);
    if !value.is_empty() && value.chars().all(plain) { value.to_owned() } else { format!("{value:?}") }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_value_is_one_line() {
        assert_eq!(quoted("plain-1"), "plain-1");
        assert_eq!(quoted("two words"), "\"two words\"");
        assert_eq!(quoted("a\nlevel=fatal"), "\"a\\nlevel=fatal\"");
        assert_eq!(quoted(""), "\"\"");
    }
}
