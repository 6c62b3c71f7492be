//! Why an action of the shim failed.

use std::{io, path::PathBuf};

use thiserror::Error;

/// Why an action failed.
#[derive(Debug, Error)]
pub enum Error {
    /// The command line is not one that containerd writes.
    #[error(
        "usage: {problem} (flags: -namespace NS -address SOCKET -publish-binary PATH -id ID [-bundle DIR] [-debug] start|delete, or -info, or -v)"
    )]
    Usage {
        /// What is wrong with it.
        problem: String,
    },
    /// A system call failed.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file or socket.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The pod's daemon lives and does not answer.
    #[error("the daemon of group {group} lives but does not answer within 3 s; end it or wait for it")]
    DaemonSilent {
        /// The group.
        group: String,
    },
    /// It could not serve.
    #[error(
        "RLIMIT_NOFILE is {limit}, too little for a daemon: give containerd at least {least} (LimitNOFILE=)"
    )]
    TooFewDescriptors {
        /// The soft limit.
        limit: u64,
        /// What would be enough for a small pod.
        least: u64,
    },
    /// Somebody who is none of ours listens at our socket.
    #[error("{} is in use by another program", path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// A message could not be written or read.
    #[error("cannot {action}")]
    Message {
        /// What was tried.
        action: &'static str,
        /// Why.
        #[source]
        source: protobuf::Error,
    },
    /// The ttrpc server could not be set up.
    #[error("cannot {action}")]
    Rpc {
        /// What was tried.
        action: &'static str,
        /// Why.
        #[source]
        source: ttrpc::Error,
    },
    /// Something of the container is still there.
    #[error("container {id} is not cleaned up yet: {reason}; it goes on in the background")]
    NotClean {
        /// The id.
        id: String,
        /// What is left.
        reason: String,
    },
    /// The runtime itself.
    #[error(transparent)]
    Core(#[from] runtime_core::Error),
}

impl Error {
    /// The whole chain in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(e) = source {
            text.push_str(": ");
            text.push_str(&e.to_string());
            source = e.source();
        }
        text
    }

    pub fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |e| Self::System { action, source: e.into() }
    }

    pub fn file<E: Into<io::Error>>(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |e| Self::File { action, path, source: e.into() }
    }
}

macro_rules! core_error {
    ($($source:ty),*) => {$(
        impl From<$source> for Error {
            fn from(e: $source) -> Self {
                Self::Core(e.into())
            }
        }
    )*};
}
core_error!(record_store::Error, proc_id::Error);
