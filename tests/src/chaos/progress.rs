//! What a watcher sees meanwhile: one line that changes, or plain lines now and then where there is no terminal; and a
//! line for each cycle that failed.

use std::{
    io::{IsTerminal, Write, stderr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use leakcheck::Entry;

use crate::harness::Handler;

use super::{choice::Client, cycle::Outcome, options::Options};

/// How often a plain line comes.
const PLAIN: Duration = Duration::from_secs(10);

/// Progress of one runtime's cycles.
#[derive(Debug)]
pub struct Progress {
    options: Options,
    handler: Handler,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    began: Instant,
    said: Instant,
    cycles: u64,
    hits: u64,
    failed: u64,
}

impl Progress {
    /// It begins.
    pub fn new(options: &Options, handler: Handler) -> Self {
        let now = Instant::now();
        let seen = Seen { began: now, said: now, cycles: 0, hits: 0, failed: 0 };
        Self { options: options.clone(), handler, seen: Mutex::new(seen) }
    }

    /// A cycle is over.
    pub fn tell(&self, outcome: &Outcome) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.cycles += 1;
        seen.hits += u64::from(outcome.hit.is_some());
        if !self.options.watched {
            return;
        }
        let line = format!(
            "{}: {} of {} cycles, {} kills hit, {} failed, {} s",
            self.handler.name(),
            seen.cycles,
            self.options.cycles,
            seen.hits,
            seen.failed,
            seen.began.elapsed().as_secs()
        );
        if stderr().is_terminal() {
            write!(stderr(), "\r\x1b[K{line}").ok();
        } else if seen.said.elapsed() >= PLAIN {
            seen.said = Instant::now();
            writeln!(stderr(), "{line}").ok();
        }
    }

    /// Its verdict is there.
    pub fn verdict(&self, outcome: &Outcome) {
        if outcome.is_clean() && outcome.late.is_empty() {
            return;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.failed += u64::from(!outcome.is_clean());
        if self.options.watched && stderr().is_terminal() {
            write!(stderr(), "\r\x1b[K").ok();
        }
        // Kept for whoever runs it as a test; shown at once to whoever watches.
        println!("{}", self.line(outcome));
    }

    /// All cycles are over.
    pub fn end(&self) {
        if self.options.watched && stderr().is_terminal() {
            writeln!(stderr()).ok();
        }
    }

    fn line(&self, outcome: &Outcome) -> String {
        let choice = &outcome.choice;
        let client = if choice.client == Client::Ctr { "ctr" } else { "pod" };
        let hit =
            outcome.hit.map_or("hit nobody".to_owned(), |at| format!("killed {} us into", at.as_micros()));
        let things = |verb: &str, entries: &[Entry]| {
            let thing =
                |entry: &Entry| format!("{verb} {} {} ({})", entry.kind.singular(), entry.name, entry.detail);
            entries.iter().map(thing).collect::<Vec<_>>()
        };
        let (word, mut what) = match outcome.is_clean() {
            true => ("late", things("went late:", &outcome.late)),
            false => ("FAILED", things("left", &outcome.left)),
        };
        what.extend(outcome.unusable.iter().map(|why| format!("not usable again: {why}")));
        what.extend(outcome.touched.iter().map(|why| format!("stranger touched: {why}")));
        format!(
            "{word} cycle {} ({}, containerd {}, {client}, {:?}: {}{} {hit} {}): {}; again: {}",
            choice.cycle,
            self.handler.name(),
            choice.version.number(),
            choice.guest,
            choice.victim.name(),
            if outcome.both { " and the delete behind it" } else { "" },
            choice.phase.name(),
            what.join("; ").replace('\n', " "),
            self.options.repeat(self.handler, choice.cycle)
        )
    }
}
