//! How long things last on this machine: moments are parts of it. It begins with a guess, and learns.

use std::{collections::HashMap, time::Duration};

use crate::harness::{Handler, Image};

use super::choice::{Choice, Client, Phase, Victim};

/// What was seen.
#[derive(Debug, Default)]
pub struct Usual {
    phases: HashMap<(Client, Image, Phase), Duration>,
    lives: HashMap<(Client, Victim, Phase), Duration>,
    cleanups: HashMap<Client, Duration>,
}

impl Usual {
    /// How long the victim of this choice is there in its phase: as long as the phase lasted the last time, undisturbed.
    pub fn phase(&self, choice: &Choice) -> Duration {
        let millis = match (choice.client, choice.phase) {
            (Client::Ctr, Phase::Create) => 150,
            (Client::Ctr, Phase::Run) => 40,
            (Client::Ctr, _) => 80,
            (Client::Pod, Phase::Create) => 350,
            (Client::Pod, Phase::Run | Phase::Stop) => 150,
            (Client::Pod, Phase::Delete) => 400,
        };
        let key = (choice.client, choice.guest, choice.phase);
        let whole = self.phases.get(&key).copied().unwrap_or(Duration::from_millis(millis));
        match (choice.victim, choice.phase) {
            // It ends in the middle of these.
            (Victim::Daemon | Victim::Launcher, Phase::Delete) | (Victim::Monitor, Phase::Stop) => whole / 2,
            _ => whole,
        }
    }

    /// A phase lasted so long, undisturbed.
    pub fn learn_phase(&mut self, choice: &Choice, phase: Phase, lasted: Duration) {
        self.phases.insert((choice.client, choice.guest, phase), lasted);
    }

    /// How long the victim usually lives, if that is milliseconds.
    pub fn life(&self, choice: &Choice, handler: Handler) -> Option<Duration> {
        let millis = match (choice.victim, choice.phase, choice.client, handler) {
            // The one that holds a pod is there for all of the pod's life.
            (Victim::Launcher, Phase::Delete, ..) => return None,
            (Victim::Launcher, Phase::Create, Client::Pod, _) => 60,
            (Victim::Runtime, ..) => 25,
            (Victim::Start | Victim::Delete | Victim::Launcher, _, _, Handler::Urunc) => 4,
            (Victim::Start | Victim::Delete | Victim::Launcher, _, _, Handler::Runc) => 15,
            _ => return None,
        };
        let seen = self.lives.get(&(choice.client, choice.victim, choice.phase));
        Some(seen.copied().unwrap_or(Duration::from_millis(millis)))
    }

    /// How long a `delete` lives that has to clean up behind a daemon.
    pub fn cleanup(&self, client: Client) -> Duration {
        self.cleanups.get(&client).copied().unwrap_or(Duration::from_millis(30))
    }

    /// One lived for so long, undisturbed; or it was killed before that: then it may live longer than was believed.
    pub fn learn_cleanup(&mut self, client: Client, own: Option<Duration>) {
        let life = own.unwrap_or_else(|| self.cleanup(client).mul_f64(1.1));
        self.cleanups.insert(client, life.min(Duration::from_millis(500)));
    }

    /// A victim came to its own end after so long; or it was killed before that: then it may live longer than was
    /// believed.
    pub fn learn_life(&mut self, choice: &Choice, handler: Handler, own: Option<Duration>) {
        // Who enters a pid namespace is two processes, of which the first ends at once.
        let is_two =
            (choice.victim, choice.phase, choice.client) == (Victim::Launcher, Phase::Create, Client::Pod);
        let Some(believed) = self.life(choice, handler).filter(|_| !is_two) else { return };
        let life = own.unwrap_or_else(|| believed.mul_f64(1.1));
        self.lives.insert((choice.client, choice.victim, choice.phase), life);
    }
}
