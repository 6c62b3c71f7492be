//! Which steps and points there are, found by running a verb with tracing fault points.

use std::{collections::HashMap, fmt};

use crate::direct::{Bench, Fired};

use super::{Fault, Undo, Verb};

/// Where in a step a point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before its intent is durable.
    BeforeIntent,
    /// Behind that, before it acts.
    AfterIntent,
    /// While it acts.
    Middle,
    /// When it has acted.
    AfterActing,
    /// When that is noted.
    AfterDone,
    /// Outside of the steps: the plan, the commit, a record that is being written, an undo.
    Between,
}

/// A fault point that a verb passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Its name.
    pub name: String,
    /// Which passage of its process it is.
    pub passage: usize,
    /// Whether the daemon passes it, or else a launcher or helper.
    pub in_daemon: bool,
    /// The step.
    pub step: String,
    /// Where in the step.
    pub place: Place,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.name, self.passage)
    }
}

/// What a verb passes.
#[derive(Debug)]
pub struct Plan {
    /// The verb.
    pub verb: Verb,
    /// Its points, in order.
    pub points: Vec<Point>,
}

impl Plan {
    /// Runs the verb once. `None`: tests of this kind cannot run here, which was said.
    #[track_caller]
    pub fn find(verb: Verb) -> Option<Self> {
        let bench = Bench::with_faults()?;
        let network = bench.empty_network();
        let bundle = verb.bundle(&bench, &network, "dry");
        bench.faults.set(&["*=trace"]);
        let shim = bench.start(&bundle);
        verb.prepare(&shim.client, &bundle, &network);
        let before = bench.faults.fired().len();
        verb.call(&shim.client, &bundle).wait().expect("a verb without faults succeeds");
        let fired = bench.faults.fired();
        bench.faults.set(&[]);
        if !verb.is_delete() {
            bench.end(&shim, bundle);
        } else {
            shim.client.shutdown("dry");
            bench.delete(&bundle).deleted();
            bundle.remove();
        }
        bench.finish();
        let plan = Self { verb, points: points(&fired, before, shim.daemon.pid()) };
        plan.assert_complete();
        Some(plan)
    }

    /// Every step has every place: one without a point in its middle would not be covered there.
    #[track_caller]
    fn assert_complete(&self) {
        if !self.verb.has_steps() {
            return;
        }
        let steps = self.steps();
        assert!(!steps.is_empty(), "{:?} has no step: {:?}", self.verb, self.points);
        for step in steps {
            for place in
                [Place::BeforeIntent, Place::AfterIntent, Place::Middle, Place::AfterActing, Place::AfterDone]
            {
                assert!(
                    self.points.iter().any(|p| p.step == step && p.place == place),
                    "step {step} of {:?} has no fault point at {place:?}: add one where it acts",
                    self.verb
                );
            }
        }
    }

    /// The steps, in order.
    pub fn steps(&self) -> Vec<&str> {
        let begun = self.points.iter().filter(|p| p.place == Place::BeforeIntent);
        begun.map(|p| p.step.as_str()).collect()
    }

    /// Whether this undo can be had behind this fault: a Delete that hung in its last undo goes on with nothing.
    pub fn can_follow(&self, point: &Point, fault: Fault, undo: Undo) -> bool {
        let Some((place, _)) = undo.strikes() else { return true };
        let at = self.points.iter().position(|p| p == point).expect("a point of this plan");
        let is_struck = |p: &Point| p.name.ends_with(place);
        !self.verb.is_delete() || fault != Fault::Hang || self.points[at + 1..].iter().any(is_struck)
    }

    /// Whether anything is undone when it fails here: a step's intent is durable.
    pub fn is_undone_at(&self, point: &Point) -> bool {
        let at = self.points.iter().position(|p| p == point).expect("a point of this plan");
        self.verb.has_made_something() || self.points[..=at].iter().any(|p| p.place == Place::AfterIntent)
    }
}

/// What fired behind the first `before`, as points of steps.
fn points(fired: &[Fired], before: usize, daemon: i32) -> Vec<Point> {
    let mut passages: HashMap<(i32, &str), usize> = HashMap::new();
    let mut points = Vec::new();
    let mut step = String::new();
    let mut acts = false;
    for (n, Fired { name, pid, .. }) in fired.iter().enumerate() {
        let passage = passages.entry((*pid, name)).or_default();
        *passage += 1;
        if n < before {
            continue;
        }
        let (own, place) = name.split_once('.').unwrap_or((name, ""));
        let place = match place {
            "before-intent" => {
                own.clone_into(&mut step);
                Place::BeforeIntent
            }
            "after-intent" => {
                acts = true;
                Place::AfterIntent
            }
            "after-acting" => {
                acts = false;
                Place::AfterActing
            }
            "after-done" => Place::AfterDone,
            _ if acts => Place::Middle,
            _ => Place::Between,
        };
        points.push(Point {
            name: name.clone(),
            passage: *passage,
            in_daemon: *pid == daemon,
            step: step.clone(),
            place,
        });
    }
    points
}
