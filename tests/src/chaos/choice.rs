//! What a cycle does, drawn from (seed, cycle) alone: so one cycle can be repeated without the ones before it.

use crate::harness::{Image, Version};

/// How often a guest is Debian's: it takes seconds to boot.
const DEBIAN: u64 = 20;
/// How often, of five times, an ordinary container takes the place of a guest.
const ORDINARY: u64 = 2;
/// How often the `delete` behind a daemon that was killed is killed as well.
const BEHIND: u64 = 3;

/// Who asks for the life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Client {
    /// A person at a shell: a container by `ctr`.
    Ctr,
    /// A kubelet: a pod with one container by `crictl`.
    Pod,
}

/// A phase of the life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// `ctr run -d`; `crictl runp` and `create`.
    Create,
    /// It runs; `crictl start` before.
    Run,
    /// `ctr task kill`; `crictl stop`.
    Stop,
    /// `ctr task rm` and `containers rm`; `crictl stopp`, `rm`, `rmp`.
    Delete,
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Victim {
    /// The shim's daemon.
    Daemon,
    /// What is to become the monitor, or holds a pod; of runc: `runc create`, `runc init`, the pause process.
    Launcher,
    /// The VMM; of runc, and of an ordinary container: its process.
    Monitor,
    /// Of ordinary containers the OCI runtime at work: `runc create`, `init`, `start`, `exec`, `delete`.
    Runtime,
    /// The action `delete`.
    Delete,
    /// The action `start`.
    Start,
    /// `ctr` or `crictl`.
    Client,
    /// containerd.
    Containerd,
}

impl Phase {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::Create, Self::Run, Self::Stop, Self::Delete];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Run => "run",
            Self::Stop => "stop",
            Self::Delete => "delete",
        }
    }

    /// Who lives in this phase of such a life.
    fn victims(self, client: Client, guest: Image) -> &'static [Victim] {
        use Victim::{Client as C, Containerd, Daemon, Delete, Launcher, Monitor, Runtime, Start};
        if guest == Image::Busybox {
            // A pod's sandbox is ours, and there from Create on.
            match (self, client) {
                (Self::Create, Client::Ctr) => return &[Daemon, Runtime, Runtime, Start, C, Containerd],
                (Self::Run, Client::Ctr) => return &[Daemon, Monitor, Runtime, Runtime, C, Containerd],
                (Self::Run, Client::Pod) => {
                    return &[Daemon, Launcher, Monitor, Runtime, Runtime, Start, C, Containerd];
                }
                (Self::Delete, Client::Ctr) => return &[Daemon, Runtime, Delete, C, Containerd],
                (Self::Delete, Client::Pod) => return &[Daemon, Launcher, Runtime, Delete, C, Containerd],
                _ => {}
            }
        }
        match (self, client) {
            (Self::Create, _) => &[Daemon, Launcher, Start, C, Containerd],
            (Self::Run, Client::Ctr) => &[Daemon, Monitor, Containerd],
            (Self::Run, Client::Pod) => &[Daemon, Launcher, Monitor, Start, C, Containerd],
            (Self::Stop, Client::Ctr) => &[Daemon, Monitor, C, Containerd],
            (Self::Stop, Client::Pod) => &[Daemon, Monitor, Delete, C, Containerd],
            (Self::Delete, Client::Ctr) => &[Daemon, Delete, C, Containerd],
            (Self::Delete, Client::Pod) => &[Daemon, Launcher, Delete, C, Containerd],
        }
    }
}

impl Victim {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Daemon,
        Self::Launcher,
        Self::Monitor,
        Self::Runtime,
        Self::Delete,
        Self::Start,
        Self::Client,
        Self::Containerd,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Launcher => "launcher",
            Self::Monitor => "monitor",
            Self::Runtime => "oci",
            Self::Delete => "delete",
            Self::Start => "start",
            Self::Client => "client",
            Self::Containerd => "containerd",
        }
    }
}

/// What a cycle does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Which cycle it is.
    pub cycle: u64,
    /// Under which containerd.
    pub version: Version,
    /// Who asks.
    pub client: Client,
    /// Tiny or Debian; busybox: an ordinary container.
    pub guest: Image,
    /// When the kill is.
    pub phase: Phase,
    /// Whom it hits.
    pub victim: Victim,
    /// Where in the phase, or in the victim's life if that is short: from 0 to 1.
    pub part: f64,
    /// Of a daemon: where in its life the `delete` is killed as well by which containerd cleans up behind it; `None`: it is
    /// not.
    pub behind: Option<f64>,
}

impl Choice {
    /// The choice of one cycle. The containerds take turns.
    pub fn of(seed: u64, cycle: u64) -> Self {
        let mut random = Random(seed ^ cycle.wrapping_mul(0xd134_2543_de82_ef95));
        let version = if cycle.is_multiple_of(2) { Version::V1_6 } else { Version::V2_3 };
        let client = random.one_of(&[Client::Ctr, Client::Pod]);
        let guest = match random.next() {
            draw if draw.is_multiple_of(DEBIAN) => Image::Debian,
            draw if draw % 5 < ORDINARY => Image::Busybox,
            _ => Image::Tiny,
        };
        let phase = random.one_of(&Phase::ALL);
        let victim = random.one_of(phase.victims(client, guest));
        let part = random.part();
        // Drawn last, so that it changes nothing of the others.
        let is_both = victim == Victim::Daemon && random.next().is_multiple_of(BEHIND);
        let behind = is_both.then(|| random.part());
        Self { cycle, version, client, guest, phase, victim, part, behind }
    }
}

/// SplitMix64: the sequence must be the same for ever, wherever it runs.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    fn part(&mut self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
        let part = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        part
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        let at = self.next() % of.len() as u64;
        of[usize::try_from(at).unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_repeats_the_sequence_and_every_victim_and_phase_comes() {
        let lives = |seed| (0..400).map(|cycle| Choice::of(seed, cycle)).collect::<Vec<_>>();
        assert_eq!(lives(7), lives(7));
        assert_ne!(lives(7), lives(8));
        for victim in Victim::ALL {
            assert!(lives(7).iter().filter(|choice| choice.victim == victim).count() > 10, "{victim:?}");
        }
        for phase in Phase::ALL {
            assert!(lives(7).iter().filter(|choice| choice.phase == phase).count() > 60, "{phase:?}");
        }
        assert!(lives(7).iter().all(|choice| (0.0..1.0).contains(&choice.part)));
        let both = lives(7).iter().filter(|choice| choice.behind.is_some()).count();
        assert!((10..60).contains(&both), "{both} of 400");
    }
}
