//! The file of faults: what is to go wrong, and what did.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::PathBuf,
    time::Duration,
};

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
    /// When, by CLOCK_MONOTONIC.
    pub at: Duration,
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
        self.change(lines);
    }

    /// Other faults from now on; what has fired is remembered.
    pub fn change(&self, lines: &[&str]) {
        // In one write: a process that reads it meanwhile must not find it empty. By rename it could not be done, for
        // a launcher reads the file that it opened once.
        let mut text = lines.join("\n");
        let before = fs::metadata(&self.file).map_or(0, |m| usize::try_from(m.len()).unwrap());
        text.extend(std::iter::repeat_n('\n', before.saturating_sub(text.len())));
        let file = File::options().write(true).create(true).truncate(false).open(&self.file).unwrap();
        file.write_all_at(text.as_bytes(), 0).unwrap();
    }

    /// What fired since.
    pub fn fired(&self) -> Vec<Fired> {
        let text = fs::read_to_string(self.fired_file()).unwrap_or_default();
        let line = |line: &str| {
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap_or_default().to_owned();
            Fired {
                name: word(),
                action: word(),
                pid: word().parse().unwrap_or(0),
                at: Duration::from_micros(word().parse().unwrap_or(0)),
            }
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
