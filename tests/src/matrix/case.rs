//! One case of the matrix, and its name.

use std::fmt;

use super::{Point, Verb};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The point fails.
    Error,
    /// The daemon is SIGKILLed there.
    Kill,
    /// Whoever is there hangs until the verb's deadline, which is short here, has passed.
    Hang,
    /// A panic, which is an abort.
    Panic,
}

/// How the undo goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undo {
    /// As it should.
    Works,
    /// Its first step fails before it acted.
    FailsOnce,
    /// Whoever undoes is SIGKILLed when its first step has acted.
    Killed,
    /// Its first step acts and fails, and so acts twice.
    Twice,
    /// No record can be written any more.
    DiskFull,
}

/// What containerd does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It calls Delete and Shutdown, then the `delete` action.
    Rpc,
    /// It executes the `delete` action alone.
    Delete,
    /// It has forgotten the container, and creates the id anew.
    Nothing,
}

impl Fault {
    /// Those of every point; a panic is as a crash, so one case of it is enough.
    pub const EACH: [Self; 3] = [Self::Error, Self::Kill, Self::Hang];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Kill => "kill",
            Self::Hang => "hang",
            Self::Panic => "panic",
        }
    }
}

impl Undo {
    /// All.
    pub const ALL: [Self; 5] = [Self::Works, Self::FailsOnce, Self::Killed, Self::Twice, Self::DiskFull];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Works => "undo-works",
            Self::FailsOnce => "undo-fails-once",
            Self::Killed => "undo-killed",
            Self::Twice => "undo-twice",
            Self::DiskFull => "disk-full",
        }
    }

    /// At which points of an undo it strikes, and how.
    pub(super) fn strikes(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::FailsOnce => Some((".undo", "error")),
            Self::Killed => Some((".undone", "kill")),
            Self::Twice => Some((".undone", "error")),
            Self::Works | Self::DiskFull => None,
        }
    }

    /// The faults that make it so, once something has fired at `point`.
    pub(super) fn faults(self, point: &str) -> Vec<String> {
        match self.strikes() {
            Some((place, action)) => vec![format!("*{place}#once@{point}={action}")],
            None if self == Self::DiskFull => vec![format!("record.write@{point}=error")],
            None => vec![],
        }
    }
}

impl Next {
    /// All.
    pub const ALL: [Self; 3] = [Self::Rpc, Self::Delete, Self::Nothing];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rpc => "rpc",
            Self::Delete => "delete",
            Self::Nothing => "nothing",
        }
    }
}

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    /// The verb during which it happens.
    pub verb: Verb,
    /// Where.
    pub point: Point,
    /// What goes wrong.
    pub fault: Fault,
    /// How the undo goes.
    pub undo: Undo,
    /// What containerd does next.
    pub next: Next,
}

/// The name by which it can be repeated.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, fault) = (self.verb.name(), self.fault.name());
        write!(f, "{verb}/{}/{fault}/{}/{}", self.point, self.undo.name(), self.next.name())
    }
}
