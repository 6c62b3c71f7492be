//! Every way in which this crate fails, with what was tried and what the kernel said.

use std::path::PathBuf;

use rustix::io::Errno;

/// A failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a netlink request.
    #[error("{doing}{}{}", at(*index), words.as_ref().map_or(String::new(), |w| format!(" ({w})")))]
    Kernel {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The index of the interface; 0: all of them.
        index: u32,
        /// The kernel's explanation, where it gave one.
        words: Option<String>,
        /// The kernel's answer.
        source: Errno,
    },
    /// The netlink socket itself failed.
    #[error("{doing} on a netlink socket")]
    Socket {
        /// What was tried, as a verb.
        doing: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A message of the kernel is not what its headers document.
    #[error("{doing}: cannot understand the kernel's answer: {reason}")]
    Answer {
        /// What was tried, as a verb.
        doing: &'static str,
        /// What is wrong with the answer.
        reason: String,
    },
    /// A list changed each time that it was read.
    #[error("{doing}: it changed {times} times while it was read")]
    Restless {
        /// What was tried, as a verb.
        doing: &'static str,
        /// How often it was read.
        times: usize,
    },
    /// A tap cannot have this name.
    #[error(
        "{name:?} cannot name an interface: 1 to 15 letters, digits, '-', '_' or '.', not \".\" or \"..\""
    )]
    BadName {
        /// What was given.
        name: String,
    },
    /// There is an interface of this name, so it is not ours.
    #[error("an interface {name} exists already")]
    TapExists {
        /// The name.
        name: String,
    },
    /// A call on the tun device failed.
    #[error("{doing} the tap {name}")]
    Tap {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The tap's name.
        name: String,
        /// The kernel's answer.
        source: Errno,
    },
    /// The text is not a transaction id.
    #[error("{text:?} is no transaction id: 12 lower-case hexadecimal digits")]
    BadTxid {
        /// What was given.
        text: String,
    },
    /// The text is not an Ethernet address.
    #[error("{text:?} is no Ethernet address")]
    BadMac {
        /// What was given.
        text: String,
    },
    /// Every priority that a filter of ours may have is taken.
    #[error("no filter priority is free at interface {index}")]
    NoPriority {
        /// The index of the interface.
        index: u32,
    },
    /// A filter of ours is still there after repeated attempts to delete it.
    #[error("the redirect at priority {priority} of interface {index} does not go away")]
    StillThere {
        /// The index of the interface.
        index: u32,
        /// The filter's priority.
        priority: u16,
    },
    /// A file or directory could not be looked at.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: Errno,
    },
    /// The namespace could not be entered.
    #[error("entering a network namespace")]
    Enter {
        /// The kernel's answer.
        source: Errno,
    },
}

impl Error {
    /// An [`Error::Io`]; for `map_err`.
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(Errno) -> Error {
        let path = path.into();
        move |source| Error::Io { doing, path, source }
    }

    /// The kernel's answer to a netlink request, if that is what failed.
    pub(crate) fn errno(&self) -> Option<Errno> {
        match self {
            Error::Kernel { source, .. } => Some(*source),
            _ => None,
        }
    }
}

fn at(index: u32) -> String {
    if index == 0 { String::new() } else { format!(" at interface {index}") }
}
