//! One cycle, and what came of it.

use std::{
    any::Any,
    time::{Duration, Instant},
};

use leakcheck::{Entry, Kind};

use super::{
    aftermath::{self, Known},
    choice::{Choice, Victim},
    life::{Lived, live},
    stage::Stage,
    strike::Behind,
};

/// How long a containerd may hold a network namespace that it has made for nobody.
const HALF_MADE: Duration = Duration::from_secs(3);

/// What came of a cycle.
#[derive(Debug)]
pub struct Outcome {
    /// What it was to do.
    pub choice: Choice,
    /// When the kill was, from the phase's beginning; `None`: there was nobody to kill.
    pub hit: Option<Duration>,
    /// The `delete` behind the daemon was killed as well.
    pub both: bool,
    /// What is left.
    pub left: Vec<Entry>,
    /// What may still go by itself; in the end, what did.
    pub late: Vec<Entry>,
    /// Why the name cannot be used again.
    pub unusable: Option<String>,
    /// What happened to a stranger.
    pub touched: Option<String>,
    /// When it was over.
    pub ended: Instant,
    /// How long it took.
    pub took: Duration,
}

/// Runs one.
pub fn run(stage: &mut Stage, choice: &Choice, known: &Known) -> Outcome {
    let began = Instant::now();
    let name = format!("{}-{}", stage.node().namespace(), choice.cycle);
    let lived = live(stage, choice, &name);
    let behind = if let Lived::Struck(fell) = &lived { fell.behind } else { None };
    let both = matches!(behind, Some(Behind::Killed { .. }));
    let stuck = match behind {
        Some(Behind::Killed { heir: true }) => aftermath::settle_unasked(stage, known),
        _ => Vec::new(),
    };
    if both {
        // containerd has asked once, and keeps the bundle and the id until its next start: somebody starts it anew.
        stage.node().containerd().kill9();
    }
    aftermath::revive(stage);
    let settled = stage.settled_strangers();
    let client = choice.client;
    let taken_down = aftermath::take_down(stage, client, &name);
    if choice.victim == Victim::Containerd && matches!(lived, Lived::Struck(_)) {
        stage.node().containerd().take_down_half_made_netns(HALF_MADE);
    }
    let first = aftermath::settle(stage, client, &name, known);
    // Nobody was there who could be called, or stand by: the next action has to do it (docs/crash-safety.md).
    let is_nobodys = matches!(behind, Some(Behind::Killed { heir: false }));
    let (mut left, mut late) =
        if is_nobodys { (Vec::new(), first.clone()) } else { judge(choice, first.clone()) };
    left.extend(stuck);
    if let Ok(time) = taken_down
        && time > aftermath::BLOCKED
    {
        let detail = format!("the name was blocked for {} s", time.as_secs());
        late.push(Entry { kind: Kind::File, name: name.clone(), detail });
    }
    let usable = taken_down.and_then(|_| aftermath::use_again(stage, choice, &name));
    if usable.is_ok() {
        // The second life may leave something too. What it took away of the first one's is told all the same: else the
        // next one's sweep would hide whatever `delete` does not do.
        let mut known = known.clone();
        if !is_nobodys {
            known.extend(first.into_iter().map(|entry| (entry.kind, entry.name)));
        }
        let (more, later) = judge(choice, aftermath::settle(stage, client, &name, &known));
        left.extend(more);
        late.extend(later);
    }
    let failed = if let Lived::Failed(why) = &lived { Err(why.clone()) } else { Ok(()) };
    Outcome {
        choice: *choice,
        hit: if let Lived::Struck(fell) = &lived { Some(fell.after) } else { None },
        both,
        left,
        late,
        unusable: failed.and(usable).err(),
        touched: settled.and_then(|()| stage.strangers()).err(),
        ended: Instant::now(),
        took: began.elapsed(),
    }
}

/// What is a leak at once, and what may still go: all that a living daemon has, which leaves by itself when nobody asks
/// it anything.
fn judge(choice: &Choice, left: Vec<Entry>) -> (Vec<Entry>, Vec<Entry>) {
    let is_daemon = |entry: &Entry| {
        let lives = !entry.detail.contains("a zombie");
        entry.kind == Kind::Process && lives && entry.detail.contains("containerd-shim-")
    };
    // A containerd that is killed while it removes a bundle leaves it: its own folder, in which nothing of ours is.
    let is_containerds = |entry: &Entry| choice.victim == Victim::Containerd && is_bundle(entry);
    if left.iter().any(is_daemon) || left.iter().all(is_containerds) {
        (Vec::new(), left)
    } else {
        (left, Vec::new())
    }
}

fn is_bundle(entry: &Entry) -> bool {
    entry.kind == Kind::File && entry.detail == "bundle"
}

impl Outcome {
    /// What did not go in the end.
    pub fn settle(&mut self, there: &Known) {
        let is_containerds = |entry: &Entry| self.choice.victim == Victim::Containerd && is_bundle(entry);
        let stays =
            |entry: &Entry| there.contains(&(entry.kind, entry.name.clone())) && !is_containerds(entry);
        let (left, late) = std::mem::take(&mut self.late).into_iter().partition(stays);
        self.left.extend::<Vec<_>>(left);
        self.late = late;
    }

    /// One whose check itself failed.
    pub fn broken(choice: Choice, panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a word");
        Self {
            choice,
            hit: None,
            both: false,
            left: Vec::new(),
            late: Vec::new(),
            unusable: Some(text.to_owned()),
            touched: None,
            ended: Instant::now(),
            took: Duration::ZERO,
        }
    }

    /// Whether the node is of no more use.
    pub fn is_broken(&self) -> bool {
        self.unusable.is_some() || self.touched.is_some()
    }

    /// Whether all is well.
    pub fn is_clean(&self) -> bool {
        self.left.is_empty() && !self.is_broken()
    }
}
