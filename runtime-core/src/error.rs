//! The one error type of this crate. Display is short and never repeats its source; the chain is printed once, where
//! the shim makes it a ttrpc status.

use std::{io, path::PathBuf};

use oci_runtime::Case;
use thiserror::Error;

use crate::lifecycle::State;

/// What kind of failure an error is, as callers of the Task API tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was asked for is wrong in itself.
    InvalidArgument,
    /// No such container.
    NotFound,
    /// The id is taken.
    AlreadyExists,
    /// Right, but not in this state of the container or of the host.
    FailedPrecondition,
    /// Not built (yet).
    Unimplemented,
    /// It took too long.
    DeadlineExceeded,
    /// Given up on request.
    Aborted,
    /// Somebody else's fault for now: trying again may help.
    Unavailable,
    /// Everything else.
    Internal,
}

/// Why a verb failed.
#[derive(Debug, Error)]
pub enum Error {
    /// No such container.
    #[error("container {id} not found")]
    NotFound {
        /// The id.
        id: String,
    },
    /// No such process was executed in a container.
    #[error("exec {id} of container {container} not found")]
    NoExec {
        /// The container.
        container: String,
        /// The exec's id.
        id: String,
    },
    /// A process of this id was executed in a container already.
    #[error("exec {id} of container {container} already exists")]
    ExecExists {
        /// The container.
        container: String,
        /// The exec's id.
        id: String,
    },
    /// The state of a process that is executed in a container does not allow this.
    #[error("exec {id} of container {container}: cannot {verb} while it {state}")]
    ExecState {
        /// The container.
        container: String,
        /// The exec's id.
        id: String,
        /// What was asked for.
        verb: &'static str,
        /// Its state: what it does.
        state: &'static str,
    },
    /// The verb is for another kind of container.
    #[error("{verb}: container {id} is {kind}: {remedy}")]
    WrongKind {
        /// What was asked for.
        verb: &'static str,
        /// What it is: "a guest", "an ordinary container".
        kind: &'static str,
        /// The container.
        id: String,
        /// Why, or what to do instead.
        remedy: &'static str,
    },
    /// The container's guest has ended, so there is nothing to send a signal to.
    #[error("container {id} has ended already")]
    Ended {
        /// The id.
        id: String,
    },
    /// A container of this id is there.
    #[error("container {id} already exists")]
    AlreadyExists {
        /// The id.
        id: String,
    },
    /// The container's state does not allow this.
    #[error("container {id}: cannot {verb} while {state}")]
    WrongState {
        /// The id.
        id: String,
        /// What was asked for.
        verb: &'static str,
        /// Its state.
        state: State,
    },
    /// What was asked for is wrong in itself.
    #[error("{field}: {}{problem}; {remedy}", quoted(value))]
    Invalid {
        /// The field of the spec, the annotation or the request.
        field: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        problem: String,
        /// What would be right.
        remedy: String,
    },
    /// The operator's configuration, or a container's runtime options, cannot be understood.
    #[error("{place}: {}{problem}", if key.is_empty() { String::new() } else { format!("{key}: ") })]
    Config {
        /// The file and line, or who else said it.
        place: String,
        /// The key; empty: none.
        key: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// What was asked for is right, but this host lacks something.
    #[error("{field}: {}{problem}; {remedy}", quoted(value))]
    Unmet {
        /// The field of the spec, the annotation or the request.
        field: String,
        /// Its value.
        value: String,
        /// What is missing.
        problem: String,
        /// What would help.
        remedy: String,
    },
    /// It is not built (yet).
    #[error("{feature} is not supported yet: {remedy}")]
    Unsupported {
        /// What.
        feature: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// The container was deleted while it was being created.
    #[error("container {id} was deleted while it was being created")]
    Cancelled {
        /// The id.
        id: String,
    },
    /// A verb did not end in time; what it began goes on.
    #[error("container {id}: {verb} did not end in time")]
    Deadline {
        /// The id.
        id: String,
        /// What was asked for.
        verb: &'static str,
    },
    /// Create failed and was rolled back, as far as the report says.
    #[error("create failed ({rollback})")]
    CreateFailed {
        /// Why.
        #[source]
        cause: Box<Error>,
        /// What the rollback did.
        rollback: String,
    },
    /// Something of a container could not be undone. The record stays, and the undo is tried again.
    #[error("container {id} could not be cleaned up: {report}")]
    UnwindBlocked {
        /// The id.
        id: String,
        /// What could not be undone, and why.
        report: String,
    },
    /// The launcher could not do something.
    #[error("the launcher cannot {action}")]
    Launcher {
        /// What.
        action: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The launcher ended before it was ready.
    #[error("the launcher ended while it was to {action}{}", said(words))]
    LauncherDied {
        /// What it was to do.
        action: &'static str,
        /// What it said last.
        words: String,
    },
    /// The launcher was killed or the monitor ended before its guest ran.
    #[error("{monitor} ended before its guest ran: {exit}{}", said(words))]
    MonitorDied {
        /// The monitor.
        monitor: String,
        /// How it ended.
        exit: String,
        /// What it said last.
        words: String,
    },
    /// A hook failed.
    #[error("{hook}: {} {problem}{}", path.display(), hook_said(words))]
    Hook {
        /// Which: `hooks.prestart[0]`.
        hook: String,
        /// Its program.
        path: PathBuf,
        /// How it failed.
        problem: String,
        /// The last line of what it said.
        words: String,
    },
    /// A logger did not get ready.
    #[error("stdout: the logger {} did not get ready within {seconds:.1} s", path.display())]
    LoggerLate {
        /// Its program.
        path: PathBuf,
        /// How long it was waited for.
        seconds: f32,
    },
    /// A process did not die.
    #[error("process {pid} does not die")]
    StillAlive {
        /// Its pid.
        pid: i32,
    },
    /// A file of the image could not be read for now; whether it is right is not known.
    #[error("{key}: {path:?} cannot be read for now")]
    ImageUnreadable {
        /// The annotation that names it.
        key: String,
        /// The path in the image.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be read or opened.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A system call that has no file failed.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A bundle's config.json is not what the OCI runtime specification says.
    #[error("{} is not a valid OCI spec", path.display())]
    Spec {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// What an OCI runtime says of its features is not what the OCI runtime specification says.
    #[error("the features that {} tells are no JSON", program.display())]
    Features {
        /// The OCI runtime.
        program: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A record that cannot be understood stands in the way.
    #[error("the record of container {id} {problem}; it was kept")]
    ForeignRecord {
        /// The id.
        id: String,
        /// What is the matter with it.
        problem: String,
    },
    /// A message between daemon and launcher was not understood.
    #[error("unexpected message from the launcher: {message}")]
    Message {
        /// The message, shortened.
        message: String,
    },
    /// Another process holds a lock for too long.
    #[error("{} is locked by another process", path.display())]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// The monitor's control channel.
    #[error("the monitor's control channel failed")]
    Control(#[from] vmm_api::ControlError),
    /// The plan.
    #[error("no plan can be made")]
    Plan(#[from] vmm_api::PlanError),
    /// Records and locks.
    #[error("the record store failed")]
    Store(#[from] record_store::Error),
    /// Processes.
    #[error("a process could not be looked at")]
    Process(#[from] proc_id::Error),
    /// Cgroups.
    #[error("cgroup")]
    Cgroup(#[from] host_cgroup::Error),
    /// Mounts and files of the image.
    #[error("mount")]
    Mount(#[from] host_mount::Error),
    /// The pod's network.
    #[error("network")]
    Network(#[from] host_net::Error),
    /// The host's OCI runtime.
    #[error("the OCI runtime failed")]
    Oci(#[from] oci_runtime::Error),
    /// A fault that a test injected.
    #[error(transparent)]
    Injected(#[from] fault::Injected),
}

/// What was given. Where nothing was, or too much to be shown, the problem says it all.
fn quoted(value: &str) -> String {
    if value.is_empty() { String::new() } else { format!("{} ", crate::contract::shown(value)) }
}

fn hook_said(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

fn said(words: &str) -> String {
    let words = words.trim();
    if words.is_empty() { String::new() } else { format!("; its last words: {words}") }
}

impl Error {
    /// What kind of failure it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } | Self::NoExec { .. } | Self::Ended { .. } => Kind::NotFound,
            Self::AlreadyExists { .. } | Self::ExecExists { .. } => Kind::AlreadyExists,
            Self::Invalid { .. } | Self::Spec { .. } => Kind::InvalidArgument,
            Self::WrongState { .. }
            | Self::ExecState { .. }
            | Self::Unmet { .. }
            | Self::Config { .. }
            | Self::ForeignRecord { .. } => Kind::FailedPrecondition,
            Self::Unsupported { .. } | Self::WrongKind { .. } => Kind::Unimplemented,
            Self::Cancelled { .. } => Kind::Aborted,
            Self::Deadline { .. } | Self::LoggerLate { .. } => Kind::DeadlineExceeded,
            Self::Locked { .. } | Self::ImageUnreadable { .. } => Kind::Unavailable,
            Self::CreateFailed { cause, .. } => cause.kind(),
            Self::Plan(vmm_api::PlanError::NoKvm) => Kind::FailedPrecondition,
            Self::Plan(_) => Kind::InvalidArgument,
            Self::Control(vmm_api::ControlError::Timeout) => Kind::DeadlineExceeded,
            Self::Cgroup(e) => match e {
                host_cgroup::Error::BadPath { .. } | host_cgroup::Error::BadLimit { .. } => {
                    Kind::InvalidArgument
                }
                host_cgroup::Error::OwnCgroup { .. }
                | host_cgroup::Error::NoController { .. }
                | host_cgroup::Error::NoHierarchy
                | host_cgroup::Error::Limit { .. } => Kind::FailedPrecondition,
                _ => Kind::Internal,
            },
            Self::Oci(e) => match e {
                oci_runtime::Error::NotFound { .. } | oci_runtime::Error::Unusable { .. } => {
                    Kind::FailedPrecondition
                }
                oci_runtime::Error::Hung { .. } => Kind::DeadlineExceeded,
                oci_runtime::Error::GivenUp { .. } => Kind::Aborted,
                oci_runtime::Error::Id { .. } => Kind::InvalidArgument,
                _ => match e.case() {
                    Some(Case::Absent | Case::Finished) => Kind::NotFound,
                    Some(Case::Exists) => Kind::AlreadyExists,
                    Some(Case::NotRunning | Case::WrongState) => Kind::FailedPrecondition,
                    _ => Kind::Internal,
                },
            },
            Self::Mount(host_mount::Error::Option { .. } | host_mount::Error::Helper { .. }) => {
                Kind::Unimplemented
            }
            _ => Kind::Internal,
        }
    }

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

    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |e| Self::System { action, source: e.into() }
    }
}
