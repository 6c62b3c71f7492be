//! A value of the configuration, and where it came from.

use std::{fmt, path::PathBuf};

/// A value as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text. An empty one is nothing.
    Text(String),
    /// A number.
    Number(u64),
    /// `true` or `false`.
    Bool(bool),
    /// Anything else: its kind and how it is written.
    Other(&'static str, String),
}

impl Value {
    /// What kind of value it is.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "the text",
            Self::Number(_) => "the number",
            Self::Bool(_) => "the boolean",
            Self::Other(kind, _) => kind,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Number(number) => number.fmt(f),
            Self::Bool(bool) => bool.fmt(f),
            Self::Other(_, text) => text.fmt(f),
        }
    }
}

/// Who said what a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody.
    Default,
    /// A file, in this line.
    File(PathBuf, usize),
    /// A variable of the environment.
    Environment(&'static str),
    /// The body of containerd's runtime options, in this line of it.
    Options(usize),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Options(line) => write!(f, "runtime options (ConfigBody), line {line}"),
        }
    }
}
