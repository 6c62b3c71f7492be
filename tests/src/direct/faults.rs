//! The file of faults: what is to go wrong, and what did.

use std::{fs, path::PathBuf};

/// The file that `URUNC_FAULTS` names.
#[derive(Debug)]
pub struct Faults {
    file: PathBuf,
}

/// A fault that fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    /// The point.
    pub name: String,
    /// The action.
    pub action: String,
    /// The process, as it sees itself (1 in a pid namespace of its own).
    pub pid: i32,
}

impl Faults {
    pub(crate) fn new(file: PathBuf) -> Self {
        let faults = Self { file };
        faults.set(&[]);
        faults
    }

    /// These faults from now on, and nothing has fired yet.
    pub fn set(&self, lines: &[&str]) {
        fs::write(self.fired_file(), "").unwrap();
        fs::write(&self.file, lines.join("\n")).unwrap();
    }

    /// What fired since.
    pub fn fired(&self) -> Vec<Fired> {
        let text = fs::read_to_string(self.fired_file()).unwrap_or_default();
        let line = |line: &str| {
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap_or_default().to_owned();
            Fired { name: word(), action: word(), pid: word().parse().unwrap_or(0) }
        };
        text.lines().map(line).collect()
    }

    /// Whether a fault at this point has fired.
    pub fn has_fired(&self, name: &str) -> bool {
        self.fired().iter().any(|f| f.name == name)
    }

    fn fired_file(&self) -> PathBuf {
        self.file.with_extension("fired")
    }
}
