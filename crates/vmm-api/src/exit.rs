//! How a guest and its monitor ended, and why.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How the monitor process ended, as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawExit {
    /// It exited with this code.
    Code(i32),
    /// A signal killed it.
    Signal(i32),
}

/// What the monitor said of its guest's end before it ended itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestEnd {
    /// The guest switched itself off.
    PowerOff,
    /// The guest was reset: by itself, or by a triple fault.
    Reset,
    /// The guest told of a panic.
    Panic,
    /// Somebody sent the monitor a signal on which it ends.
    Signal,
}

/// Why a container has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The guest told its exit status.
    GuestStatus,
    /// An ordinary container: its process ended by itself, with this status.
    Exited,
    /// The guest switched itself off. Whether what ran in it was successful is not known.
    PowerOff,
    /// The guest was reset: it rebooted or panicked; or it met a triple fault of which the monitor did not tell.
    Reset,
    /// The guest met a fault while it handled one that it met while it handled one: its kernel is broken.
    TripleFault,
    /// The guest told of a panic.
    Panic,
    /// The monitor gave up, with an error of its own.
    MonitorFailed,
    /// The monitor crashed.
    MonitorCrashed,
    /// Somebody else ended the monitor, by a signal.
    Signal,
    /// The kernel killed the monitor for want of memory.
    OutOfMemory,
    /// It was ended by a Kill.
    Killed,
    /// Start failed: the guest never ran.
    NeverRan,
    /// It was ended by its clean-up.
    CleanedUp,
    /// Nobody can tell.
    Unknown,
}

impl Reason {
    /// Whether the exit status is what it says. A guest that is switched off counts as successful although nothing
    /// has shown that.
    pub fn is_proven(self) -> bool {
        !matches!(self, Self::PowerOff | Self::Unknown)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GuestStatus => "the guest told its status",
            Self::Exited => "its process ended by itself",
            Self::PowerOff => "the guest switched itself off, its status is unproven",
            Self::Reset => "the guest was reset (a reboot or a panic)",
            Self::TripleFault => "the guest met a triple fault",
            Self::Panic => "the guest panicked",
            Self::MonitorFailed => "the monitor failed",
            Self::MonitorCrashed => "the monitor crashed",
            Self::Signal => "a signal from elsewhere",
            Self::OutOfMemory => "killed by the kernel for want of memory",
            Self::Killed => "killed on request",
            Self::NeverRan => "the guest never ran",
            Self::CleanedUp => "ended by its clean-up",
            Self::Unknown => "unknown",
        })
    }
}

/// The end of a container whose monitor ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestExit {
    /// The exit status as clients see it.
    pub status: u32,
    /// Why.
    pub reason: Reason,
}

impl RawExit {
    /// What a process ended by that is no monitor, or no more than that can be told of.
    pub fn plain(self) -> GuestExit {
        // What the program itself did wrong; all others come from elsewhere.
        const CRASHES: [i32; 7] = [4, 5, 6, 7, 8, 11, 31];
        match self {
            Self::Code(0) => GuestExit { status: 0, reason: Reason::Unknown },
            Self::Code(code) => {
                GuestExit { status: code.unsigned_abs() & 0xff, reason: Reason::MonitorFailed }
            }
            Self::Signal(signal) => GuestExit {
                status: 128 + signal.unsigned_abs(),
                reason: if CRASHES.contains(&signal) { Reason::MonitorCrashed } else { Reason::Signal },
            },
        }
    }
}
