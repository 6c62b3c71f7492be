//! The one SIGKILL of a cycle: waits for its moment, finds its victim, and tells whether the victim was alive.
//!
//! Whoever lives long is killed a part of the phase's usual length after the phase's beginning, and if it is not yet
//! born by then, a moment after its birth. Whoever lives for milliseconds is waited for, and killed a part of its usual
//! life after its birth. So the moments are spread evenly over what there is to hit.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::{
    direct::Proc,
    harness::{Handler, Job, Node},
};

use super::{
    choice::{Choice, Client, Phase, Victim},
    suspects::{Births, Suspects},
};

/// Within this after its birth dies who was not born at its moment.
const LATE: Duration = Duration::from_millis(20);

/// The kill.
#[derive(Debug)]
pub struct Strike {
    choice: Choice,
    handler: Handler,
    usual: Duration,
    phase: Option<Watch>,
    fell: Option<Fell>,
}

/// A kill that was.
#[derive(Clone, Copy, Debug)]
pub struct Fell {
    /// How long after the phase's beginning.
    pub after: Duration,
    when: Instant,
}

#[derive(Debug)]
struct Watch {
    began: Instant,
    births: Births,
    target: Option<(Proc, Instant)>,
    is_late: bool,
}

impl Strike {
    /// A kill by this choice; `usual` is how long its phase lasts undisturbed.
    pub fn new(choice: Choice, handler: Handler, usual: Duration) -> Self {
        Self { choice, handler, usual, phase: None, fell: None }
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

    /// Whether containerd was killed so long ago that nobody waits for its answer any more.
    pub fn is_hopeless(&self) -> bool {
        const ANSWER: Duration = Duration::from_secs(2);
        self.choice.victim == Victim::Containerd && self.fell.is_some_and(|fell| fell.when.elapsed() > ANSWER)
    }

    /// How soon it wants to look again.
    pub fn pause(&self) -> Duration {
        match &self.phase {
            Some(_) if self.waits_for_birth() => Duration::from_micros(100),
            Some(_) => Duration::from_micros(500),
            None => Duration::from_millis(20),
        }
    }

    /// Looks whether the moment has come; `client` is what runs now.
    pub fn tick(&mut self, suspects: &Suspects, node: &Node, client: Option<&Job>) {
        let Some(watch) = &mut self.phase else { return };
        let part = |of: Duration| of.mul_f64(self.choice.part);
        let victim = self.choice.victim;
        if watch.target.is_none() {
            let is_due = watch.began.elapsed() >= part(self.usual);
            let found = match victim {
                _ if short_life(&self.choice, self.handler).is_some() => watch.births.next(suspects, victim),
                _ if !is_due => return,
                Victim::Client => client.and_then(|job| Proc::find(job.pid())),
                Victim::Containerd => Some(node.containerd().process()),
                _ => suspects.find(victim),
            };
            watch.is_late |= found.is_none();
            watch.target = found.map(|process| (process, Instant::now()));
        }
        let Some((process, since)) = &watch.target else { return };
        let wait = match short_life(&self.choice, self.handler) {
            Some(life) => part(life),
            None if watch.is_late => part(LATE),
            None => Duration::ZERO,
        };
        if since.elapsed() < wait {
            return;
        }
        if !process.is_alive() {
            // It was faster. Perhaps another one comes.
            watch.target = None;
            return;
        }
        let fell = Fell { after: watch.began.elapsed(), when: Instant::now() };
        match victim {
            Victim::Containerd => node.containerd().kill9(),
            _ => process.signal(Signal::KILL),
        }
        self.fell = Some(fell);
        self.phase = None;
    }

    fn waits_for_birth(&self) -> bool {
        short_life(&self.choice, self.handler).is_some()
    }
}

/// How long the victim usually lives, if that is milliseconds.
fn short_life(choice: &Choice, handler: Handler) -> Option<Duration> {
    let millis = match (choice.victim, choice.phase, choice.client, handler) {
        (Victim::Start, ..) => 12,
        (Victim::Delete, _, _, Handler::Urunc) => 12,
        (Victim::Delete, _, _, Handler::Runc) => 40,
        // The one that holds a pod is there for all of the pod's life.
        (Victim::Launcher, Phase::Delete, ..) => return None,
        (Victim::Launcher, Phase::Create, Client::Pod, _) => 60,
        (Victim::Launcher, _, _, Handler::Urunc) => 20,
        (Victim::Launcher, _, _, Handler::Runc) => 40,
        _ => return None,
    };
    Some(Duration::from_millis(millis))
}
