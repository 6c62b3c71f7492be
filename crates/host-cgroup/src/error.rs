//! Every way in which this crate fails, with the path or value that it failed on.

use std::path::PathBuf;

use rustix::io::Errno;

use crate::Version;

/// A failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not a path on which a leaf may be made.
    #[error("cgroups path {text:?}: {fault}")]
    BadPath {
        /// What was given.
        text: String,
        /// What is wrong with it.
        fault: PathFault,
    },
    /// The transaction id cannot be part of a directory's name.
    #[error("{text:?} cannot name a leaf: letters, digits, '-' and '_' only")]
    BadLeaf {
        /// What was given.
        text: String,
    },
    /// A limit that makes no sense, found before anything was touched.
    #[error("limit {what}: {value:?}: {reason}")]
    BadLimit {
        /// Which limit.
        what: &'static str,
        /// Its value.
        value: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// The path is the calling process's own cgroup, or contains it: limits on it would be limits on ourselves.
    #[error("cgroups path {path} in {} holds the calling process ({own})", mount.display())]
    OwnCgroup {
        /// The path that was asked for, from the hierarchy's mount point.
        path: String,
        /// The cgroup of the calling process in that hierarchy.
        own: String,
        /// Where the hierarchy is mounted.
        mount: PathBuf,
    },
    /// No cgroup file system of use is mounted.
    #[error("no usable cgroup hierarchy is mounted")]
    NoHierarchy,
    /// A limit needs a controller that no mounted hierarchy has.
    #[error("no {} hierarchy has the controller {controller}", version.map_or("cgroup", Version::name))]
    NoController {
        /// The controller's name.
        controller: String,
        /// The version that was demanded; `None`: either would have done.
        version: Option<Version>,
    },
    /// The leaf is there already, so it is not ours. [`crate::create`] took back what it had made before.
    #[error("{} exists already", dir.display())]
    LeafExists {
        /// The leaf's directory.
        dir: PathBuf,
    },
    /// The kernel did not take a limit.
    #[error("writing {value:?} to {}", file.display())]
    Limit {
        /// The file that was written.
        file: PathBuf,
        /// What was written.
        value: String,
        /// The kernel's answer.
        source: Errno,
    },
    /// A file's content is not what the kernel documents.
    #[error("{}: cannot understand {text:?}", file.display())]
    Content {
        /// The file that was read.
        file: PathBuf,
        /// What is in it.
        text: String,
    },
    /// A system call failed.
    #[error("{op} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: Errno,
    },
    /// A signal could not be sent through a pidfd.
    #[error("killing process {pid}")]
    Signal {
        /// The process.
        pid: u32,
        /// The kernel's answer.
        source: Errno,
    },
    /// A leaf could not be removed before the deadline because something is still in it.
    #[error("{} is still in use by {procs:?}", dir.display())]
    Busy {
        /// The leaf's directory.
        dir: PathBuf,
        /// Who is in it; empty: nobody that can be listed any more (an exiting process).
        procs: Vec<u32>,
    },
    /// Processes of the leaf outlived the deadline of [`crate::kill`].
    #[error("still alive at the deadline: {procs:?}")]
    StillAlive {
        /// Their numbers; 0 is a process that this pid namespace cannot see.
        procs: Vec<u32>,
    },
    /// Several failures of an undo, none of which stopped the others.
    #[error("{}", join(failures))]
    Undo {
        /// All of them, in the order in which they came.
        failures: Vec<Error>,
    },
    /// A fault that a test injected.
    #[error(transparent)]
    Injected(#[from] fault::Injected),
}

/// What is wrong with a cgroups path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// Nothing is left after the slashes.
    #[error("it is the root")]
    Root,
    /// It climbs.
    #[error("it has a \"..\" component")]
    DotDot,
    /// The kernel and line-wise formats cannot hold it.
    #[error("it has a NUL, a newline or another control character")]
    Control,
    /// It has colons like systemd's form, but not `slice:prefix:name`.
    #[error("it is not of the form slice:prefix:name")]
    Systemd,
    /// The slice is not the name of a systemd slice.
    #[error("its slice is not a valid name of a systemd slice")]
    Slice,
}

impl Error {
    /// An [`Error::Io`]; for `map_err`.
    pub(crate) fn io(op: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(Errno) -> Error {
        let path = path.into();
        move |source| Error::Io { op, path, source }
    }

    /// An [`Error::Limit`]; for `map_err`.
    pub(crate) fn limit(file: PathBuf, value: &str) -> impl FnOnce(Errno) -> Error {
        move |source| Error::Limit { file, value: value.to_owned(), source }
    }

    /// `Ok` when nothing failed.
    pub(crate) fn collected(failures: Vec<Error>) -> Result<(), Error> {
        if failures.is_empty() { Ok(()) } else { Err(Error::Undo { failures }) }
    }
}

fn join(failures: &[Error]) -> String {
    failures.iter().map(Error::to_string).collect::<Vec<_>>().join("; ")
}
