//! Chaos: lives of containers and pods under real containerds, each with one SIGKILL of somebody at some moment; then
//! what a kubelet or a person would do; then nothing may be left, the name must be usable again, and strangers
//! unharmed. Containerd's own runc shim can be taken through the same, to compare with.
//!
//! Everything of a cycle is drawn from (seed, cycle), and a cycle can be repeated alone. What time makes of it differs,
//! of course: moments are parts of how long a phase lasts on this machine.
//!
//! A number of cycles share a node. What a living daemon has is given [`GRACE`]: one that nobody asks anything leaves by
//! itself only then. Everything else that is left is a leak: told, and taken down by force with the node.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

mod aftermath;
mod choice;
mod cycle;
mod foreign;
mod life;
mod options;
mod progress;
mod report;
mod stage;
mod strike;
mod suspects;
mod usual;

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
    time::{Duration, Instant},
};

use leakcheck::Entry;

use crate::harness::{Handler, Version};

use aftermath::{Known, look};
use choice::Choice;
use cycle::Outcome;
use progress::Progress;
use stage::Stage;

pub use options::Options;
pub use report::Report;

/// How long what was left behind may go by itself: an idle daemon leaves after 20 s.
const GRACE: Duration = Duration::from_secs(35);
/// So many cycles share a node: the leak check looks for everything by the names that there ever were.
const SHARED: usize = 50;

/// Runs all cycles. `None`: it cannot run here, which was said.
pub fn run(options: &Options) -> Option<Report> {
    let cycles = || (options.first..options.first + options.cycles).map(|n| Choice::of(options.seed, n));
    let mut report = Report::new(options);
    for &handler in &options.handlers {
        let progress = Progress::new(options, handler);
        let of = |version| cycles().filter(|choice| choice.version == version).collect::<Vec<_>>();
        let began = Instant::now();
        // Side by side: each waits for others most of the time.
        let outcomes = thread::scope(|scope| {
            let workers = [Version::V1_6, Version::V2_3].map(|version| {
                let (choices, progress) = (of(version), &progress);
                scope.spawn(move || worker(version, handler, &choices, progress))
            });
            workers.map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
        });
        progress.end();
        report.add(handler, outcomes.into_iter().flatten().collect(), began.elapsed());
    }
    (!report.is_empty()).then_some(report)
}

fn worker(version: Version, handler: Handler, choices: &[Choice], progress: &Progress) -> Vec<Outcome> {
    let mut rest = choices;
    let mut outcomes = Vec::new();
    while !rest.is_empty() {
        let Some(stage) = Stage::begin(version, handler) else { break };
        let (done, more) = share(stage, rest, progress);
        rest = more;
        outcomes.extend(done);
    }
    outcomes
}

/// Runs cycles on one node until it has had enough of them or is broken; those that are still to be run.
fn share<'a>(mut stage: Stage, choices: &'a [Choice], progress: &Progress) -> (Vec<Outcome>, &'a [Choice]) {
    let mut known = Known::new();
    let mut outcomes = Vec::new();
    for choice in choices.iter().take(SHARED) {
        let ran = catch_unwind(AssertUnwindSafe(|| cycle::run(&mut stage, choice, &known)));
        let outcome = ran.unwrap_or_else(|panic| Outcome::broken(*choice, panic.as_ref()));
        known.extend(outcome.left.iter().chain(&outcome.late).map(|entry| (entry.kind, entry.name.clone())));
        progress.tell(&outcome);
        let is_broken = outcome.is_broken();
        outcomes.push(outcome);
        if is_broken {
            break;
        }
    }
    let rest = &choices[outcomes.len()..];
    // A containerd that does not come back is told already, and what is left then stays.
    catch_unwind(AssertUnwindSafe(|| await_late(&stage, &mut outcomes))).ok();
    if outcomes.iter().all(Outcome::is_clean) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| stage.finish()))
            && let Some(last) = outcomes.last_mut()
        {
            *last = Outcome::broken(last.choice, panic.as_ref());
        }
    } else {
        let left = outcomes.iter().flat_map(|outcome| outcome.left.iter().chain(&outcome.late));
        stage.discard(&left.cloned().collect::<Vec<_>>());
    }
    for outcome in &outcomes {
        progress.verdict(outcome);
    }
    (outcomes, rest)
}

/// Gives what may still go its time. What is there then is left.
fn await_late(stage: &Stage, outcomes: &mut [Outcome]) {
    aftermath::revive(stage);
    loop {
        let now = look(stage, &Known::new());
        let now: Known = now.into_iter().map(|entry| (entry.kind, entry.name)).collect();
        let is_there = |entry: &Entry| now.contains(&(entry.kind, entry.name.clone()));
        let is_due =
            |outcome: &Outcome| !outcome.late.iter().any(is_there) || outcome.ended.elapsed() > GRACE;
        if outcomes.iter().all(is_due) {
            outcomes.iter_mut().for_each(|outcome| outcome.settle(&now));
            return;
        }
        thread::sleep(Duration::from_millis(500));
    }
}
