//! `urunc doctor`: looks at everything that guests need of this host, says what is there, and how to mend what is not.
//!
//! It changes nothing. One check per function, each of which gives one row; [`host`] is what a kernel and its hardware
//! give, [`programs`] what is installed, [`containerd`] what it is told. `--sysroot` looks at another root directory, as
//! a debug pod sees its node's: then no program is executed.

mod containerd;
mod host;
mod programs;

use std::{
    io::stdout,
    path::{Path, PathBuf},
};

use clap::Args as ClapArgs;
use runtime_core::config::Config;
use serde::Serialize;

use crate::{error::Error, print};

/// Exit status when something is missing that guests need.
const MISSING: u8 = 1;
/// Exit status when it is not known.
pub const UNKNOWN: u8 = 2;

/// Where to look
#[derive(ClapArgs)]
pub struct Args {
    /// Look below this directory instead of /; executes no program
    #[arg(long, value_name = "DIR", default_value = "/")]
    sysroot: PathBuf,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it should be.
    Ok,
    /// Guests run all the same, or only some use of them needs it.
    Note,
    /// No guest runs without it.
    Missing,
}

/// One check.
#[derive(Debug, Serialize)]
struct Row {
    check: &'static str,
    state: State,
    found: String,
    /// What would mend it; empty: nothing has to be mended.
    remedy: String,
}

impl Row {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, state: State::Ok, found: found.into(), remedy: String::new() }
    }

    fn note(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, state: State::Note, found: found.into(), remedy: remedy.into() }
    }

    fn missing(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, state: State::Missing, found: found.into(), remedy: remedy.into() }
    }
}

/// A host, by its root directory.
struct Host<'a> {
    root: &'a Path,
}

impl Host<'_> {
    /// A path of it, as we see it.
    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether it is the one that we run on.
    fn is_ours(&self) -> bool {
        self.root == Path::new("/")
    }
}

impl Args {
    /// Looks; the exit status.
    pub fn run(&self) -> Result<u8, Error> {
        let host = Host { root: &self.sysroot };
        let loaded = Config::load_below(host.root);
        let config = loaded.as_ref().ok();
        let mut rows =
            vec![host::kernel(&host), host::kvm(&host, config), host::tun(&host), host::cgroups(&host)];
        rows.extend(programs::monitors(&host, config));
        rows.push(programs::shim(&host));
        rows.push(programs::oci(&host, config));
        rows.push(containerd::containerd(&host));
        rows.push(programs::cni(&host));
        rows.push(match &loaded {
            Ok(_) => Row::ok("configuration", "can be understood"),
            Err(e) => Row::missing("configuration", e.chain(), "mend the file: nothing starts before"),
        });
        rows.push(host::state(&host, config));
        let is_missing = rows.iter().any(|row| row.state == State::Missing);
        if self.json {
            print::json(&mut stdout(), &rows)?;
        } else {
            print::text(&mut stdout(), &table(&rows))?;
        }
        Ok(if is_missing { MISSING } else { 0 })
    }
}

/// The remedy stands below what it mends: both are sentences.
fn table(rows: &[Row]) -> String {
    let mut table = vec![["CHECK", "STATE", "FOUND"].map(str::to_owned).to_vec()];
    for row in rows {
        let state = match row.state {
            State::Ok => "ok",
            State::Note => "note",
            State::Missing => "MISSING",
        };
        table.push(vec![row.check.to_owned(), state.to_owned(), row.found.clone()]);
        if !row.remedy.is_empty() {
            table.push(vec![String::new(), String::new(), format!("-> {}", row.remedy)]);
        }
    }
    print::columns(&table)
}
