//! Everything that can go wrong in this command.
//!
//! One variant per thing that a person would do something different about. A message names the option, the value and
//! what would be right; `main` prints it once, followed by its causes.

use std::{io, path::PathBuf};

use thiserror::Error as ThisError;

/// Why a verb did not do its work.
#[derive(Debug, ThisError)]
pub enum Error {
    /// A value that is none of the few that are known.
    #[error("{option}: {value:?} is not known; use {}", known.join(" or "))]
    Unknown {
        /// The option it was given to.
        option: &'static str,
        /// What was given.
        value: String,
        /// What could have been given.
        known: Vec<&'static str>,
    },
    /// A `KEY=VALUE` without its `=`, or without its key.
    #[error("{option}: {value:?} is not of the form KEY=VALUE")]
    NotAPair {
        /// The option it was given to.
        option: &'static str,
        /// What was given.
        value: String,
    },
    /// The same key twice.
    #[error("{option}: {key} is given twice; give it once")]
    Duplicate {
        /// The option it was given to.
        option: &'static str,
        /// The key.
        key: String,
    },
    /// An annotation that an option of its own sets.
    #[error("--annotation: {key} is set by {option}; use that")]
    Reserved {
        /// The annotation.
        key: String,
        /// The option that sets it.
        option: &'static str,
    },
    /// A value that breaks a rule.
    #[error("{option}: {value:?} cannot be used; it must be {wanted}")]
    Invalid {
        /// The option it was given to, or the annotation that it is the value of.
        option: String,
        /// What was given.
        value: String,
        /// The rule.
        wanted: &'static str,
    },
    /// What is not for people would be written to a terminal.
    #[error("{option}: standard output is a terminal; name a file with {option}, or pipe the output on")]
    Terminal {
        /// The option that names the file.
        option: &'static str,
    },
    /// A file that cannot be looked at or opened.
    #[error("{option}: cannot open {path:?}")]
    Open {
        /// The option that named it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A path that is not a plain file.
    #[error("{option}: {path:?} is {found}; name {wanted}")]
    NotAFile {
        /// The option that named it.
        option: &'static str,
        /// The path.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What would be right.
        wanted: &'static str,
    },
    /// A file with nothing in it.
    #[error("{option}: {path:?} is empty")]
    EmptyFile {
        /// The option that named it.
        option: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A kernel that no monitor could boot.
    #[error("--kernel: {path:?} is {found}; name a Linux bzImage (vmlinuz) or an ELF file")]
    NotAKernel {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// A file that cannot be read.
    #[error("cannot read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An input whose bytes were different when they were read for the second time.
    #[error("the kernel or the initrd changed while the image was built; build it again")]
    Changed,
    /// A path inside an archive that a tar header cannot hold.
    #[error("the archive cannot hold the path {path:?}")]
    ArchivePath {
        /// The path.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that cannot be written.
    #[error("cannot write {path:?}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A saved snapshot of the host that compares with nothing.
    #[error("--since: cannot use {path:?}")]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: leakcheck::Error,
    },
    /// A snapshot of the host that cannot be written as JSON.
    #[error("--save: cannot write the snapshot")]
    Save {
        /// Why.
        #[source]
        source: leakcheck::Error,
    },
    /// The records could not be looked at.
    #[error("cannot look at the records")]
    Records {
        /// Why.
        #[source]
        source: runtime_core::Error,
    },
    /// What is to be inspected is no image.
    #[error("{path:?} is no image: {problem}")]
    NoImage {
        /// What was given.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// No container is called so.
    #[error(
        "{name}: no container of this id, or whose id begins so, is recorded below {root:?}; see urunc list"
    )]
    NoContainer {
        /// What was given.
        name: String,
        /// Where the records are.
        root: PathBuf,
    },
    /// More than one container is called so.
    #[error("{name}: ambiguous, it may be {}; give more of the id, or NAMESPACE/ID", fits.join(" or "))]
    Ambiguous {
        /// What was given.
        name: String,
        /// What it may mean.
        fits: Vec<String>,
    },
    /// The configuration cannot be understood.
    #[error("configuration")]
    Configuration {
        /// Why.
        #[source]
        source: runtime_core::Error,
    },
    /// A value that JSON cannot express.
    #[error("cannot write JSON")]
    Json {
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The report could not be printed.
    #[error("cannot print the report")]
    Print {
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Whether the command line alone is at fault: the same call can never succeed.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Unknown { .. }
                | Self::NotAPair { .. }
                | Self::Duplicate { .. }
                | Self::Reserved { .. }
                | Self::Invalid { .. }
                | Self::Terminal { .. }
        )
    }
}
