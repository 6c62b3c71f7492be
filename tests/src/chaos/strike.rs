//! The one SIGKILL of a cycle: waits for its moment, finds its victim, and tells whether the victim was alive.
//!
//! Whoever lives long is killed a part of the phase's usual length after the phase's beginning, and if it is not yet
//! born by then, a moment after its birth. Whoever lives for milliseconds is waited for, and killed a part of its usual
//! life after its birth. So the moments are spread evenly over what there is to hit.
//!
//! Now and then the `delete` that containerd executes behind a daemon that was killed is killed as well.

use std::{
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    direct::Proc,
    harness::{Handler, Job, Node},
};

use super::{
    choice::{Choice, Phase, Victim},
    suspects::{Births, Suspects, Tick},
    usual::Usual,
};

/// Within this after its birth dies who was not born at its moment.
const LATE: Duration = Duration::from_millis(20);
/// Within this after a daemon's death its containerd has executed `delete`.
const BEHIND: Duration = Duration::from_secs(1);

/// The kill.
#[derive(Debug)]
pub struct Strike {
    choice: Choice,
    /// When the life began.
    since: Tick,
    /// From the phase's beginning to its moment.
    moment: Duration,
    /// From its birth, of a victim that lives for milliseconds.
    wait: Option<Duration>,
    /// The same of the `delete` behind a daemon.
    behind: Option<Duration>,
    own: Option<Duration>,
    phase: Option<Watch>,
    fell: Option<Fell>,
}

/// A kill that was.
#[derive(Clone, Copy, Debug)]
pub struct Fell {
    /// How long after the phase's beginning.
    pub after: Duration,
    /// What became of the `delete` behind it, if that was to be killed as well and came.
    pub behind: Option<Behind>,
    when: Instant,
}

/// What became of the `delete` behind a daemon that was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// It was killed; with an heir: its `gc` stood by already.
    Killed {
        /// There is one.
        heir: bool,
    },
    /// It was faster: it lived for so long.
    Faster(Duration),
}

#[derive(Debug)]
struct Watch {
    began: Instant,
    births: Births,
    target: Option<(Proc, Instant)>,
    is_late: bool,
}

impl Strike {
    /// The kill of this choice.
    pub fn new(choice: &Choice, handler: Handler, usual: &Usual) -> Self {
        let part = |of: Duration| of.mul_f64(choice.part);
        let (moment, wait) = (part(usual.phase(choice)), usual.life(choice, handler).map(part));
        let behind = choice.behind.map(|part| usual.cleanup(choice.client).mul_f64(part));
        let since = Tick::now();
        Self { choice: *choice, since, moment, wait, behind, own: None, phase: None, fell: None }
    }

    /// A phase begins or ends.
    pub fn enter(&mut self, phase: Option<Phase>) {
        let is_it = phase == Some(self.choice.phase) && self.fell.is_none();
        let watch = || Watch { began: Instant::now(), births: Births::new(), target: None, is_late: false };
        self.phase = is_it.then(watch);
    }

    /// The kill, if it was.
    pub fn fell(&self) -> Option<Fell> {
        self.fell
    }

    /// How long a victim lived that was faster than the kill.
    pub fn own_life(&self) -> Option<Duration> {
        self.own
    }

    /// Whether containerd was killed so long ago that nobody waits for its answer any more.
    pub fn is_hopeless(&self) -> bool {
        const ANSWER: Duration = Duration::from_secs(2);
        self.choice.victim == Victim::Containerd && self.fell.is_some_and(|fell| fell.when.elapsed() > ANSWER)
    }

    /// How soon it wants to look again.
    pub fn pause(&self) -> Duration {
        match &self.phase {
            Some(_) if self.wait.is_some() => Duration::from_micros(100),
            Some(_) => Duration::from_micros(500),
            None => Duration::from_millis(20),
        }
    }

    /// Looks whether the moment has come; `client` is what runs now.
    pub fn tick(&mut self, suspects: &Suspects, node: &Node, client: Option<&Job>) {
        let Some(watch) = &mut self.phase else { return };
        let victim = self.choice.victim;
        if watch.target.is_none() {
            let is_due = watch.began.elapsed() >= self.moment;
            let found = match victim {
                _ if self.wait.is_some() => watch.births.next(suspects, victim),
                _ if !is_due => return,
                Victim::Client => client.and_then(|job| Proc::find(job.pid())),
                Victim::Containerd => Some(node.containerd().process()),
                _ => suspects.find(victim, self.since),
            };
            watch.is_late |= found.is_none();
            watch.target = found.map(|process| (process, Instant::now()));
        }
        let Some((process, since)) = &watch.target else { return };
        let late = if watch.is_late { LATE.mul_f64(self.choice.part) } else { Duration::ZERO };
        let wait = self.wait.unwrap_or(late);
        if since.elapsed() < wait && process.is_alive() {
            return;
        }
        if !process.is_alive() {
            // It was faster. Perhaps another one comes.
            self.own = Some(since.elapsed());
            watch.target = None;
            return;
        }
        let (after, births) = (watch.began.elapsed(), Births::new());
        match victim {
            Victim::Containerd => node.containerd().kill9(),
            _ => process.signal(Signal::KILL),
        }
        let when = Instant::now();
        let behind = self.behind.and_then(|wait| strike_behind(births, suspects, wait));
        self.fell = Some(Fell { after, behind, when });
        self.phase = None;
    }
}

/// Kills the first `delete` that is born from now on, so long after its birth; `None`: none came.
fn strike_behind(mut births: Births, suspects: &Suspects, wait: Duration) -> Option<Behind> {
    let began = Instant::now();
    while began.elapsed() < BEHIND {
        let Some(process) = births.next(suspects, Victim::Delete) else {
            thread::sleep(Duration::from_micros(100));
            continue;
        };
        let born = Instant::now();
        if process.ends_within(wait) {
            return Some(Behind::Faster(born.elapsed()));
        }
        let heir = births.find(|born| suspects.stands_by(born, &process)).is_some();
        process.signal(Signal::KILL);
        return Some(Behind::Killed { heir });
    }
    None
}
