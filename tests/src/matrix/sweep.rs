//! Runs many cases, several at once, and tells what came of them.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt::Write as _,
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use crate::direct::leaks_found;

use super::{Case, Fault, Next, Plan, Undo, Verb, plan::Place, run::NOT_REACHED};

/// How many cases run at once: they wait more than they work.
const AT_ONCE: usize = 3;

/// Which cases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Every step and point with an error and a crash; the undos and the ways on take turns.
    Short,
    /// All. Points in the midst of a record's write, which are many and alike, take turns here as well.
    All,
    /// Those whose name contains this.
    Named(String),
}

/// Runs the chosen cases and prints what came of them. `false`: some failed.
#[track_caller]
pub fn sweep(choice: &Choice) -> bool {
    let Some(plans) = Verb::ALL.into_iter().map(Plan::find).collect::<Option<Vec<_>>>() else { return true };
    let cases: Vec<(Case, bool)> = plans.iter().flat_map(|plan| cases(plan, choice)).collect();
    assert!(!cases.is_empty(), "no case is called so: {choice:?}");
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let work = || {
        while let Some((case, undone)) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
            // What it panicked with is on stderr, and so is its daemon's log.
            let run = || catch_unwind(AssertUnwindSafe(|| case.run(*undone)));
            let failed = match run() {
                // A machine that stands still for a moment lets the short deadline pass before anybody hangs.
                Err(panic) if case.fault == Fault::Hang && was_not_reached(&*panic) => {
                    say(&format!("{case}: its point was not reached in time, it is tried once more"));
                    run().is_err()
                }
                result => result.is_err(),
            };
            if failed {
                say(&format!("FAILED {case}\n  repeat it: make matrix CASE={case}"));
                failures.lock().unwrap().push(case.to_string());
            }
            let done = next.load(Ordering::SeqCst).min(cases.len());
            if done.is_multiple_of(100) {
                say(&format!(
                    "matrix: {done} of {} cases, {:.0} s",
                    cases.len(),
                    began.elapsed().as_secs_f32()
                ));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().unwrap();
    say(&table(&plans, &cases, &failures));
    say(&format!(
        "matrix: {} cases in {:.0} s, {} leaks, {} failed (something left, somebody touched, or an id of no use)",
        cases.len(),
        began.elapsed().as_secs_f32(),
        leaks_found(),
        failures.len()
    ));
    failures.is_empty()
}

fn was_not_reached(panic: &(dyn Any + Send)) -> bool {
    panic.downcast_ref::<String>().is_some_and(|text| text.starts_with(NOT_REACHED))
}

/// The cases of a verb, each with whether something must be undone in it.
fn cases(plan: &Plan, choice: &Choice) -> Vec<(Case, bool)> {
    let mut cases = Vec::new();
    let mut turn = 0;
    for point in &plan.points {
        let undone = plan.is_undone_at(point);
        let case = |fault, undo, next| Case { verb: plan.verb, point: point.clone(), fault, undo, next };
        for fault in Fault::EACH {
            // In turns: each undo meets each way on.
            let next = turn + turn / Fault::EACH.len();
            let pair = (Undo::ALL[turn % Undo::ALL.len()], Next::ALL[next % Next::ALL.len()]);
            let can_be = |undo: &Undo| *undo == Undo::Works || undone && plan.can_follow(point, fault, *undo);
            for undo in Undo::ALL.into_iter().filter(can_be) {
                for next in Next::ALL {
                    let is_turn = (undo, next) == pair || (!undone && next == pair.1);
                    let is_chosen = match choice {
                        // Delete has no steps of its own: there it is every point.
                        Choice::Short => {
                            let counts = point.place != Place::Between || plan.steps().is_empty();
                            fault != Fault::Hang && is_turn && counts
                        }
                        Choice::All if point.name.starts_with("record.") => is_turn,
                        Choice::All => true,
                        Choice::Named(part) => case(fault, undo, next).to_string().contains(part),
                    };
                    if is_chosen {
                        cases.push((case(fault, undo, next), undone));
                    }
                }
            }
            turn += 1;
        }
    }
    // One of them panics.
    if let Some(middle) = plan.points.iter().find(|p| p.place == Place::Middle && p.in_daemon) {
        let (point, undone) = (middle.clone(), plan.is_undone_at(middle));
        let case =
            Case { verb: plan.verb, point, fault: Fault::Panic, undo: Undo::Works, next: Next::Delete };
        if !matches!(choice, Choice::Named(part) if !case.to_string().contains(part)) {
            cases.push((case, undone));
        }
    }
    cases
}

/// How many cases each verb, fault and undo had.
fn table(plans: &[Plan], cases: &[(Case, bool)], failures: &[String]) -> String {
    let mut rows: BTreeMap<(usize, &str), [usize; 5]> = BTreeMap::new();
    for (case, _) in cases {
        let verb = Verb::ALL.iter().position(|v| *v == case.verb).unwrap();
        let undo = Undo::ALL.iter().position(|u| *u == case.undo).unwrap();
        rows.entry((verb, case.fault.name())).or_default()[undo] += 1;
    }
    let mut text = format!("{:<16}{:<8}", "VERB", "FAULT");
    for undo in Undo::ALL {
        write!(text, "{:>17}", undo.name().to_uppercase()).unwrap();
    }
    for ((verb, fault), counts) in rows {
        write!(text, "\n{:<16}{fault:<8}", Verb::ALL[verb].name()).unwrap();
        for count in counts {
            write!(text, "{count:>17}").unwrap();
        }
    }
    for plan in plans {
        let steps = plan.steps().join(", ");
        write!(text, "\n{}: {} points; steps: {steps}", plan.verb.name(), plan.points.len()).unwrap();
    }
    for failure in failures {
        write!(text, "\nfailed: {failure}").unwrap();
    }
    text
}

/// Not println!, which a test's runner swallows: people look at it while it runs.
fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").ok();
}
