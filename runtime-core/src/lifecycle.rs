//! The states of a container and the transitions between them: pure, exhaustive.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Create is at work.
    Creating,
    /// The launcher waits at its gate.
    Created,
    /// Start is at work.
    Starting,
    /// The guest runs.
    Running,
    /// The guest is halted and can be resumed.
    Paused,
    /// The monitor is gone; the exit is known.
    Stopped,
    /// What was made is being undone.
    Unwinding,
    /// Something could not be undone; it will be tried again.
    UnwindBlocked,
}

/// What happens to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Create is committed.
    CreateCommitted,
    /// Start begins.
    StartBegins,
    /// Start failed before its gate message: nothing has happened.
    StartRetracted,
    /// The monitor answers and its guest is let go.
    StartCommitted,
    /// The guest is halted.
    Pause,
    /// The guest goes on.
    Resume,
    /// The process is gone.
    Exit,
    /// The undo begins, or begins again.
    Unwind,
    /// The undo got stuck.
    Block,
}

impl State {
    /// The state after `event`, `None` if it cannot happen here.
    pub fn after(self, event: Event) -> Option<Self> {
        use Event as E;
        use State as S;
        match (self, event) {
            (S::Creating, E::CreateCommitted) => Some(S::Created),
            (S::Created, E::StartBegins) => Some(S::Starting),
            (S::Starting, E::StartRetracted) => Some(S::Created),
            (S::Starting, E::StartCommitted) => Some(S::Running),
            (S::Running, E::Pause) => Some(S::Paused),
            (S::Paused, E::Resume) => Some(S::Running),
            (S::Created | S::Starting | S::Running | S::Paused, E::Exit) => Some(S::Stopped),
            (
                S::Creating
                | S::Created
                | S::Starting
                | S::Running
                | S::Paused
                | S::Stopped
                | S::Unwinding
                | S::UnwindBlocked,
                E::Unwind,
            ) => Some(S::Unwinding),
            (S::Unwinding, E::Block) => Some(S::UnwindBlocked),
            (
                S::Creating,
                E::StartBegins
                | E::StartRetracted
                | E::StartCommitted
                | E::Pause
                | E::Resume
                | E::Exit
                | E::Block,
            )
            | (
                S::Created,
                E::CreateCommitted | E::StartRetracted | E::StartCommitted | E::Pause | E::Resume | E::Block,
            )
            | (S::Starting, E::CreateCommitted | E::StartBegins | E::Pause | E::Resume | E::Block)
            | (
                S::Running,
                E::CreateCommitted
                | E::StartBegins
                | E::StartRetracted
                | E::StartCommitted
                | E::Resume
                | E::Block,
            )
            | (
                S::Paused,
                E::CreateCommitted
                | E::StartBegins
                | E::StartRetracted
                | E::StartCommitted
                | E::Pause
                | E::Block,
            )
            | (
                S::Stopped,
                E::CreateCommitted
                | E::StartBegins
                | E::StartRetracted
                | E::StartCommitted
                | E::Pause
                | E::Resume
                | E::Exit
                | E::Block,
            )
            | (
                S::Unwinding | S::UnwindBlocked,
                E::CreateCommitted
                | E::StartBegins
                | E::StartRetracted
                | E::StartCommitted
                | E::Pause
                | E::Resume
                | E::Exit,
            )
            | (S::UnwindBlocked, E::Block) => None,
        }
    }

    /// Whether Create has been committed and the container not been given up since.
    pub fn is_committed(self) -> bool {
        !matches!(self, Self::Creating | Self::Unwinding | Self::UnwindBlocked)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Unwinding => "unwinding",
            Self::UnwindBlocked => "unwind-blocked",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_of_a_container() {
        let mut state = State::Creating;
        for (event, next) in [
            (Event::CreateCommitted, State::Created),
            (Event::StartBegins, State::Starting),
            (Event::StartRetracted, State::Created),
            (Event::StartBegins, State::Starting),
            (Event::StartCommitted, State::Running),
            (Event::Pause, State::Paused),
            (Event::Resume, State::Running),
            (Event::Exit, State::Stopped),
            (Event::Unwind, State::Unwinding),
            (Event::Block, State::UnwindBlocked),
            (Event::Unwind, State::Unwinding),
        ] {
            state = state.after(event).unwrap();
            assert_eq!(state, next);
        }
    }

    #[test]
    fn what_is_gone_does_not_come_back() {
        for state in [State::Stopped, State::Unwinding, State::UnwindBlocked] {
            for event in [Event::StartBegins, Event::StartCommitted, Event::CreateCommitted, Event::Exit] {
                assert_eq!(state.after(event), None, "{state} {event:?}");
            }
        }
    }
}
