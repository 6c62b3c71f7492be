//! What can go wrong.

use std::{io, path::PathBuf, process::ExitStatus};

use thiserror::Error;

/// Why a call failed.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no such program.
    #[error(
        "there is no OCI runtime: {wanted} not found in {searched:?}; install one, or name the program's path"
    )]
    NotFound {
        /// What was looked for.
        wanted: String,
        /// Where.
        searched: String,
    },
    /// The program is no OCI runtime that we can use.
    #[error("{} cannot serve as the OCI runtime: {problem}; {remedy}", program.display())]
    Unusable {
        /// The program.
        program: PathBuf,
        /// Why not.
        problem: String,
        /// What to do about it.
        remedy: String,
    },
    /// It could not be started.
    #[error("cannot run {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It did not end in time and was killed, with all that was still in its session.
    #[error("{runtime} {verb} {id} did not end within {seconds:.1} s and was killed")]
    Hung {
        /// The runtime's name.
        runtime: String,
        /// The verb that hung.
        verb: &'static str,
        /// The container, empty for verbs that have none.
        id: String,
        /// How long it had.
        seconds: f32,
        /// It is dead. If not, it dies when the kernel lets go of it.
        dead: bool,
    },
    /// It was given up by [`Cancel`](crate::Cancel), and killed with all that was still in its session.
    #[error("{runtime} {verb} {id} was given up")]
    GivenUp {
        /// The runtime's name.
        runtime: String,
        /// The verb that was at work.
        verb: &'static str,
        /// The container.
        id: String,
    },
    /// It ended with an error.
    #[error("{runtime} {verb} {id}: {message}")]
    Refused {
        /// The runtime's name.
        runtime: String,
        /// The verb.
        verb: &'static str,
        /// The container, empty for verbs that have none.
        id: String,
        /// Which of the cases that a caller may have to tell apart.
        case: Case,
        /// Its own words.
        message: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// It ended well, but its answer makes no sense.
    #[error("{runtime} {verb} {id} gave an answer that cannot be read: {problem}")]
    Answer {
        /// The runtime's name.
        runtime: String,
        /// The verb.
        verb: &'static str,
        /// The container.
        id: String,
        /// What is wrong.
        problem: String,
    },
    /// No container can have this id.
    #[error("{id:?} cannot be a container's id")]
    Id {
        /// The id.
        id: String,
    },
    /// It started a process that is no child of ours: we are not its sub-reaper, or somebody has reaped it.
    #[error("{runtime} {verb} {id}: process {pid} is no child of ours")]
    NotOurs {
        /// The runtime's name.
        runtime: String,
        /// The verb.
        verb: &'static str,
        /// The container.
        id: String,
        /// The process.
        pid: i32,
    },
    /// The console socket brought no terminal.
    #[error("no terminal came through the console socket: {problem}")]
    NoTerminal {
        /// Why.
        problem: String,
    },
    /// The system refused something.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A process could not be looked at.
    #[error(transparent)]
    Process(#[from] proc_id::Error),
}

/// What a runtime's error is about. Told from its words, in the forms that runc (1.0 and later) and crun (1.0 and
/// later) have: what is not recognised is [`Case::Other`], never one of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// There is no such container.
    Absent,
    /// There is one with this id already, and nothing was done.
    Exists,
    /// It does not run: not any more.
    NotRunning,
    /// It is there, in a state in which this cannot be done: paused, not paused, running, started already.
    WrongState,
    /// The process that was meant has ended.
    Finished,
    /// Permission was refused: to the runtime, or inside the container (a program that may not be executed).
    Denied,
    /// Anything else.
    Other,
}

impl Error {
    /// The case, if the runtime itself ended with an error.
    pub fn case(&self) -> Option<Case> {
        match self {
            Self::Refused { case, .. } => Some(*case),
            _ => None,
        }
    }

    pub(crate) fn system<E: Into<io::Error>>(action: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |e| Self::System { action: action.into(), source: e.into() }
    }
}
