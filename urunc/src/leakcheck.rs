//! `urunc leakcheck`: what is on this host now and was not at an earlier moment.
//!
//! The library of the same name looks and compares; this file owns the command line, the snapshot's file and the exit
//! status: 0 nothing was left behind, 1 something was, 2 that cannot be said. Nothing on the host is changed.

use std::{
    fs,
    io::{Write, stderr, stdout},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::builder::NonEmptyStringValueParser;
use leakcheck::{Leaks, Scope, Snapshot, settle};
use serde::Serialize;

use crate::{
    error::Error,
    output::{self, Output},
    print,
};

/// Exit status: nothing was left behind.
const CLEAN: u8 = 0;
/// Exit status: something was.
const LEAKED: u8 = 1;
/// Exit status: it cannot be said.
pub const UNKNOWN: u8 = 2;

/// Of programs, not of containers: which OCI runtime can serve.
const NOTES: &str = "/urunc/.oci";
const EXAMPLES: &str = "\
Examples:
  urunc leakcheck --save before.json
  urunc leakcheck --since before.json
  urunc leakcheck --save before.json --process 4711   # a daemon's own fds, threads and zombies

Exit status: 0 nothing was left behind, 1 something was, 2 that cannot be said.
Without --marker, --root and --process everything on the host counts, strangers' things too.
With --marker or --root a process that is not ours and has something of ours open is a holder, and what bears
our name and has nobody who holds it counts too, whoever's it was, unless --only-marked.";

/// What `urunc leakcheck` takes.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("named").args(["markers", "roots"]).multiple(true))]
pub struct Args {
    #[command(flatten)]
    verb: Verb,
    /// Count what has TEXT in its name, and the processes around it (repeatable)
    #[arg(long = "marker", value_name = "TEXT", conflicts_with = "since", value_parser = NonEmptyStringValueParser::new())]
    markers: Vec<String>,
    /// Count everything below DIR (repeatable)
    #[arg(long = "root", value_name = "DIR", conflicts_with = "since")]
    roots: Vec<PathBuf>,
    /// Count nothing by our name alone: other containers of ours come and go on this host
    #[arg(long, conflicts_with = "since", requires = "named")]
    only_marked: bool,
    /// Look into the process PID: its fds, its threads, its zombies (repeatable)
    #[arg(long = "process", value_name = "PID", conflicts_with = "since", value_parser = clap::value_parser!(i32).range(1..))]
    processes: Vec<i32>,
    /// How long what is on its way out may take, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 2000, conflicts_with = "save")]
    settle: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One of the two things that it does.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Verb {
    /// Look at the host and write what is there to FILE (- is standard output)
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Compare with what FILE holds, within the same scope
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
}

/// What `--save` reports.
#[derive(Serialize)]
struct Saved {
    saved: String,
    things: usize,
}

impl Args {
    /// Does the work and gives the exit status.
    pub fn run(self) -> Result<u8, Error> {
        if let Some(path) = &self.verb.save {
            self.save(path).map(|()| CLEAN)
        } else if let Some(path) = &self.verb.since {
            self.compare(path)
        } else {
            Ok(UNKNOWN) // not reached: clap demands one of the two
        }
    }

    fn save(&self, path: &Path) -> Result<(), Error> {
        // Opened first: a name that cannot be written is told before anything is looked at.
        let mut file = Output::create("--save", path)?;
        let snapshot = Snapshot::take(&self.scope());
        let json = snapshot.to_json().map_err(|source| Error::Save { source })?;
        file.write(json.as_bytes())?;
        file.write(b"\n")?;
        file.commit()?;
        let saved = Saved { saved: path.display().to_string(), things: snapshot.entries().len() };
        let to: &mut dyn Write = if output::is_stdout(path) { &mut stderr() } else { &mut stdout() };
        match self.json {
            true => print::json(to, &saved),
            false => print::text(to, &format!("{} things saved in {}\n", saved.things, saved.saved)),
        }
    }

    fn compare(&self, path: &Path) -> Result<u8, Error> {
        let bytes = fs::read(path).map_err(|source| Error::Open {
            option: "--since",
            path: path.to_owned(),
            source,
        })?;
        let before = Snapshot::from_json(&String::from_utf8_lossy(&bytes))
            .map_err(|source| Error::Snapshot { path: path.to_owned(), source })?;
        let leaks = settle(&before, before.scope(), Duration::from_millis(self.settle.into()));
        match self.json {
            true => print::json(&mut stdout(), &leaks),
            false => print::text(&mut stdout(), &leaks.table()),
        }?;
        Ok(status(&leaks))
    }

    fn scope(&self) -> Scope {
        let scope = match (self.markers.is_empty() && self.roots.is_empty(), self.processes.is_empty()) {
            (true, true) => return Scope::host().except(NOTES),
            // Nothing but the process was asked for.
            (true, false) => Scope::new().only_marked(),
            (false, _) if self.only_marked => Scope::new().only_marked(),
            (false, _) => Scope::new(),
        };
        let scope = self.markers.iter().fold(scope, |scope, marker| scope.marker(marker));
        let scope = self.roots.iter().fold(scope, |scope, root| scope.root(root)).except(NOTES);
        self.processes.iter().fold(scope, |scope, process| scope.inside(*process))
    }
}

/// What could not be read may hide a leak, but is none.
fn status(leaks: &Leaks) -> u8 {
    match (leaks.is_clean(), leaks.leaked.is_empty()) {
        (true, _) => CLEAN,
        (false, false) => LEAKED,
        (false, true) => UNKNOWN,
    }
}
