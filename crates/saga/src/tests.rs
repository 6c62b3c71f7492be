//! Every step is made to fail in every way; what stays is compared with what was there.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::*;

#[derive(Debug, Error, PartialEq, Clone)]
#[error("{0}")]
struct Broken(&'static str);

use thiserror::Error;

#[derive(Default)]
struct World {
    journal: Journal,
    durable: Journal,
    things: BTreeSet<&'static str>,
    order: Vec<String>,
    writes_fail: bool,
    cancelled: bool,
}

impl Context for World {
    type Error = Broken;

    fn journal(&mut self) -> &mut Journal {
        &mut self.journal
    }

    fn persist(&mut self) -> Result<(), Broken> {
        if self.writes_fail {
            return Err(Broken("no space"));
        }
        self.durable = self.journal.clone();
        Ok(())
    }

    fn check(&self) -> Result<(), Broken> {
        if self.cancelled { Err(Broken("cancelled")) } else { Ok(()) }
    }

    fn injected(&self, _: fault::Injected) -> Broken {
        Broken("injected")
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Behaviour {
    Works,
    FailsBefore,
    FailsHalfway,
}

struct Thing {
    name: &'static str,
    forward: Behaviour,
    undo_fails: bool,
    holds: bool,
}

impl Step<World> for Thing {
    fn name(&self) -> &'static str {
        self.name
    }

    fn forward(&self, cx: &mut World) -> Result<(), Failed<Broken>> {
        assert!(cx.durable.stands("create", self.name), "acted before the intent was durable");
        if self.forward == Behaviour::FailsBefore {
            return Err(Failed::NothingDone(Broken("exists")));
        }
        cx.things.insert(self.name);
        if self.forward == Behaviour::FailsHalfway {
            return Err(Failed::MaybePartial(Broken("halfway")));
        }
        Ok(())
    }

    fn undo(&self, cx: &mut World, _: Instant) -> Result<Undone, Broken> {
        if self.undo_fails {
            return Err(Broken("busy"));
        }
        cx.order.push(self.name.to_owned());
        Ok(if cx.things.remove(self.name) { Undone::Removed } else { Undone::WasAbsent })
    }

    fn probe(&self, cx: &mut World) -> Result<Presence, Broken> {
        Ok(if cx.things.contains(self.name) { Presence::Present } else { Presence::Absent })
    }

    fn holds_earlier(&self) -> bool {
        self.holds
    }
}

fn things() -> Vec<Thing> {
    ["cgroup", "launcher", "network"]
        .map(|name| Thing { name, forward: Behaviour::Works, undo_fails: false, holds: name == "launcher" })
        .into()
}

fn run_all(things: &[Thing], world: &mut World) -> Result<(), Broken> {
    let steps: Vec<&dyn Step<World>> = things.iter().map(|t| t as &dyn Step<World>).collect();
    run("create", &steps, world)
}

fn unwind_all(things: &[Thing], world: &mut World) -> Unwound<Broken> {
    let steps: Vec<(&str, &dyn Step<World>)> =
        things.iter().map(|t| ("create", t as &dyn Step<World>)).collect();
    unwind(None, &steps, world, Instant::now() + Duration::from_secs(1))
}

#[test]
fn whatever_step_fails_in_whatever_way_everything_is_undone_backward() {
    for failing in 0..3 {
        for behaviour in [Behaviour::FailsBefore, Behaviour::FailsHalfway] {
            let mut things = things();
            things[failing].forward = behaviour;
            let mut world = World::default();
            if behaviour == Behaviour::FailsBefore {
                // Somebody else's: it must survive.
                world.things.insert(things[failing].name);
            }
            assert!(run_all(&things, &mut world).is_err());
            let report = unwind_all(&things, &mut world);
            assert!(report.is_clean(), "{report:?}");
            let mut expected: Vec<_> = things[..failing].iter().map(|t| t.name).collect();
            if behaviour == Behaviour::FailsHalfway {
                expected.push(things[failing].name);
                assert!(world.things.is_empty());
            } else {
                assert_eq!(world.things, BTreeSet::from([things[failing].name]));
            }
            expected.reverse();
            assert_eq!(world.order, expected);
        }
    }
}

#[test]
fn a_crash_after_any_write_unwinds_from_the_durable_journal_alone() {
    let things = things();
    for reached in 0..=things.len() {
        let mut world = World::default();
        run_all(&things[..reached], &mut world).unwrap();
        // The crash: memory is gone, the durable journal and the things are not.
        world.journal = serde_json::from_str(&serde_json::to_string(&world.durable).unwrap()).unwrap();
        assert!(unwind_all(&things, &mut world).is_clean());
        assert!(world.things.is_empty(), "{:?}", world.things);
        // And once more: nothing is left to do.
        assert_eq!(unwind_all(&things, &mut world).undone, []);
    }
}

#[test]
fn what_a_living_holder_holds_is_blocked_and_a_later_unwind_goes_on() {
    let mut things = things();
    let mut world = World::default();
    run_all(&things, &mut world).unwrap();
    things[1].undo_fails = true;
    let report = unwind_all(&things, &mut world);
    assert_eq!(report.blocked, ["cgroup"]);
    assert_eq!(report.failed, [("launcher".to_owned(), Broken("busy"))]);
    assert_eq!(world.things, BTreeSet::from(["cgroup", "launcher"]));
    things[1].undo_fails = false;
    assert!(unwind_all(&things, &mut world).is_clean());
    assert!(world.things.is_empty());
}

#[test]
fn an_undo_that_fails_and_holds_nothing_does_not_stop_the_others() {
    let mut things = things();
    let mut world = World::default();
    run_all(&things, &mut world).unwrap();
    things[2].undo_fails = true;
    let report = unwind_all(&things, &mut world);
    assert!(!report.is_clean());
    assert_eq!(world.things, BTreeSet::from(["network"]));
}

#[test]
fn a_failed_write_stops_forward_work_and_never_undo() {
    let things = things();
    let mut world = World::default();
    run_all(&things[..2], &mut world).unwrap();
    world.writes_fail = true;
    let steps: Vec<&dyn Step<World>> = vec![&things[2]];
    assert_eq!(run("create", &steps, &mut world), Err(Broken("no space")));
    assert!(!world.things.contains("network"));
    let mut things = things;
    things[0].undo_fails = true;
    assert_eq!(unwind_all(&things, &mut world).unwritten, Some(Broken("no space")));
    assert_eq!(world.things, BTreeSet::from(["cgroup"]));
    things[0].undo_fails = false;
    assert!(unwind_all(&things, &mut world).is_clean());
    assert!(world.things.is_empty());
}

#[test]
fn a_cancelled_transaction_starts_no_further_step() {
    let things = things();
    let mut world = World { cancelled: true, ..World::default() };
    assert_eq!(run_all(&things, &mut world), Err(Broken("cancelled")));
    assert!(world.things.is_empty());
}

#[test]
fn a_step_that_nobody_knows_blocks_what_stands_before_it() {
    let things = things();
    let mut world = World::default();
    run_all(&things, &mut world).unwrap();
    let report = {
        let steps: Vec<(&str, &dyn Step<World>)> = vec![("create", &things[0]), ("create", &things[1])];
        unwind(None, &steps, &mut world, Instant::now())
    };
    assert_eq!(report.blocked, ["network", "launcher", "cgroup"]);
    assert_eq!(world.things.len(), 3);
}

#[test]
fn journals_that_nobody_can_have_written_are_refused() {
    let entry = |step: &str, phase| Entry { section: "create".to_owned(), step: step.to_owned(), phase };
    for (legal, entries) in [
        (true, vec![]),
        (true, vec![entry("a", Phase::Done), entry("b", Phase::Starting)]),
        (true, vec![entry("a", Phase::Done), entry("b", Phase::Undone)]),
        (true, vec![entry("a", Phase::Starting), entry("b", Phase::Undone)]),
        (false, vec![entry("a", Phase::Starting), entry("b", Phase::Done)]),
        (false, vec![entry("a", Phase::Starting), entry("b", Phase::Starting)]),
        (false, vec![entry("a", Phase::Done), entry("a", Phase::Done)]),
    ] {
        assert_eq!(Journal::try_from(entries.clone()).is_ok(), legal, "{entries:?}");
    }
}
