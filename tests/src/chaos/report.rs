//! The result as a table and as JSON.

use std::{collections::BTreeMap, fmt, fs, io, path::Path, time::Duration};

use serde::Serialize;
use serde_json::json;

use crate::harness::{Handler, Version};

use super::{
    choice::{Client, Phase, Victim},
    cycle::Outcome,
    options::Options,
};

/// The result.
#[derive(Debug)]
pub struct Report {
    options: Options,
    runs: Vec<Run>,
}

#[derive(Debug)]
struct Run {
    handler: Handler,
    outcomes: Vec<Outcome>,
    took: Duration,
}

/// What some cycles sum up to.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Sum {
    cycles: usize,
    /// The victim existed, and was killed.
    hits: usize,
    /// Something was left that nobody took away.
    left: usize,
    /// Something was left at first, and went by itself.
    late: usize,
    unusable: usize,
    touched: usize,
}

impl Report {
    /// An empty one.
    pub fn new(options: &Options) -> Self {
        Self { options: options.clone(), runs: Vec::new() }
    }

    /// Adds the cycles of one runtime.
    pub fn add(&mut self, handler: Handler, mut outcomes: Vec<Outcome>, took: Duration) {
        outcomes.sort_by_key(|outcome| outcome.choice.cycle);
        if !outcomes.is_empty() {
            self.runs.push(Run { handler, outcomes, took });
        }
    }

    /// Whether nothing ran.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many of our cycles failed. runc's are to compare with, unless there are no others.
    pub fn failed(&self) -> usize {
        self.judged().filter(|outcome| !outcome.is_clean()).count()
    }

    /// How many of the cycles that are judged had a kill that hit somebody, and how many there are.
    pub fn hits(&self) -> (usize, usize) {
        (self.judged().filter(|outcome| outcome.hit.is_some()).count(), self.judged().count())
    }

    fn judged(&self) -> impl Iterator<Item = &Outcome> {
        let is_judged = |run: &&Run| run.handler == Handler::Urunc || self.runs.len() == 1;
        self.runs.iter().filter(is_judged).flat_map(|run| &run.outcomes)
    }

    /// Writes it as JSON.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let runs: Vec<_> = self.runs.iter().map(Run::to_json).collect();
        let whole = json!({"seed": self.options.seed, "first": self.options.first, "runtimes": runs});
        fs::write(path, format!("{whole:#}\n"))
    }
}

impl Run {
    /// The rows: a name, and the cycles that it is about.
    fn rows(&self) -> Vec<(&'static str, String, Sum)> {
        let mut rows = Vec::new();
        let mut add = |group, name: &str, is: &dyn Fn(&Outcome) -> bool| {
            let sum = Sum::of(self.outcomes.iter().filter(|outcome| is(outcome)));
            rows.push((group, name.to_owned(), sum));
        };
        for victim in Victim::ALL {
            add("victim", victim.name(), &|outcome| outcome.choice.victim == victim);
        }
        add("victim", "and delete", &|outcome| outcome.both);
        for phase in Phase::ALL {
            add("phase", phase.name(), &|outcome| outcome.choice.phase == phase);
        }
        for (name, client) in [("ctr", Client::Ctr), ("pod", Client::Pod)] {
            add("client", name, &|outcome| outcome.choice.client == client);
        }
        for version in [Version::V1_6, Version::V2_3] {
            add("containerd", version.number(), &|outcome| outcome.choice.version == version);
        }
        add("", "all", &|_| true);
        rows
    }

    /// How often something of each kind was left.
    fn kinds(&self) -> BTreeMap<&'static str, usize> {
        let mut kinds = BTreeMap::new();
        for entry in self.outcomes.iter().flat_map(|outcome| &outcome.left) {
            *kinds.entry(entry.kind.plural()).or_insert(0) += 1;
        }
        kinds
    }

    fn to_json(&self) -> serde_json::Value {
        let rows = self
            .rows()
            .into_iter()
            .map(|(group, name, sum)| json!({"group": group, "name": name, "sum": sum}));
        let failed = self.outcomes.iter().filter(|outcome| !outcome.is_clean()).map(|outcome| {
            json!({
                "cycle": outcome.choice.cycle,
                "containerd": outcome.choice.version.number(),
                "victim": outcome.choice.victim.name(),
                "and_delete": outcome.both,
                "phase": outcome.choice.phase.name(),
                "left": outcome.left,
                "unusable": outcome.unusable,
                "touched": outcome.touched,
            })
        });
        json!({
            "runtime": self.handler.name(),
            "seconds": self.took.as_secs_f64(),
            "rows": rows.collect::<Vec<_>>(),
            "kinds": self.kinds(),
            "failed": failed.collect::<Vec<_>>(),
        })
    }
}

impl Sum {
    fn of<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Self {
        outcomes.fold(Self::default(), |sum, outcome| Self {
            cycles: sum.cycles + 1,
            hits: sum.hits + usize::from(outcome.hit.is_some()),
            left: sum.left + usize::from(!outcome.left.is_empty()),
            late: sum.late + usize::from(!outcome.late.is_empty() && outcome.left.is_empty()),
            unusable: sum.unusable + usize::from(outcome.unusable.is_some()),
            touched: sum.touched + usize::from(outcome.touched.is_some()),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for run in &self.runs {
            let seconds: f64 = run.outcomes.iter().map(|outcome| outcome.took.as_secs_f64()).sum();
            #[allow(clippy::cast_precision_loss, reason = "there are not so many cycles")]
            let each = seconds / run.outcomes.len() as f64;
            writeln!(
                f,
                "\n{}: {} cycles, seed {}, {:.0} s, {each:.1} s for each cycle, two at a time",
                run.handler.name(),
                run.outcomes.len(),
                self.options.seed,
                run.took.as_secs_f64()
            )?;
            writeln!(f, "{:10} {:10}  CYCLES  HITS  LEFT  LATE  UNUSABLE  STRANGERS", "", "")?;
            let mut before = "";
            for (group, name, s) in run.rows() {
                let head = if group == before { "" } else { group };
                before = group;
                writeln!(
                    f,
                    "{head:10} {name:10}  {:6}  {:4}  {:4}  {:4}  {:8}  {:9}",
                    s.cycles, s.hits, s.left, s.late, s.unusable, s.touched
                )?;
            }
            let kinds: Vec<_> = run.kinds().into_iter().map(|(kind, n)| format!("{n} {kind}")).collect();
            let kinds = if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") };
            writeln!(f, "left behind: {kinds}")?;
            if let Some(slowest) = run.outcomes.iter().max_by_key(|outcome| outcome.took) {
                let (cycle, took) = (slowest.choice.cycle, slowest.took.as_secs_f64());
                writeln!(f, "slowest: cycle {cycle}, {took:.0} s")?;
            }
        }
        Ok(())
    }
}
