//! `urunc gc`: unwinds every record whose daemon is dead, removes what waits for nobody, and says what it did. It
//! touches nothing that a living daemon owns; it may run at any time, beside shims and beside itself.

use std::{
    io::stdout,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args as ClapArgs;
use runtime_core::{
    layout::Layout,
    pod,
    sweep::{Remains, look, sweep},
};
use serde::Serialize;

use crate::{error::Error, list::root, print};

/// Exit status when something could not be cleaned up.
const LEFT: u8 = 1;
/// Exit status when it is not known.
pub const UNKNOWN: u8 = 2;
/// How long all of it may take.
const BOUND: Duration = Duration::from_secs(600);

/// What to clean up
#[derive(ClapArgs)]
pub struct Args {
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Where the records are [default: $URUNC_ROOT, else the configured runtime.root]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// One thing that was, or would be, cleaned up.
#[derive(Serialize)]
struct Row {
    what: &'static str,
    name: String,
    done: &'static str,
    reason: String,
}

impl Row {
    fn of((namespace, id): (String, String), what: &'static str, done: &'static str) -> Self {
        Self { what, name: format!("{namespace}/{id}"), done, reason: String::new() }
    }
}

impl Args {
    /// Cleans up; the exit status.
    pub fn run(&self) -> Result<u8, Error> {
        let records = |source| Error::Records { source };
        let end = Instant::now() + BOUND;
        let mut rows = Vec::new();
        for layout in Layout::all(&root(self.root.clone())?) {
            for socket in pod::dead(&layout).map_err(records)? {
                let done = if self.dry_run { "would be removed" } else { "removed" };
                let name = socket.to_string_lossy().into_owned();
                rows.push(Row { what: "socket of a dead daemon", name, done, reason: String::new() });
            }
            if self.dry_run {
                rows.extend(look(&layout).map_err(records)?.into_iter().map(would));
            } else {
                let swept = sweep(&layout, end);
                rows.extend(swept.unwound.into_iter().map(|at| Row::of(at, "container", "cleaned up")));
                rows.extend(swept.expired.into_iter().map(|at| Row::of(at, "tombstone", "removed")));
                rows.extend(swept.failed.into_iter().map(|(namespace, id, e)| Row {
                    reason: e.chain(),
                    ..Row::of((namespace, id), "container", "LEFT")
                }));
            }
        }
        let left = rows.iter().any(|row| row.done == "LEFT");
        if self.json {
            print::json(&mut stdout(), &rows)?;
        } else if rows.is_empty() {
            print::text(&mut stdout(), "nothing to clean up\n")?;
        } else {
            let mut table = vec![["WHAT", "NAME", "", ""].map(str::to_owned).to_vec()];
            table.extend(
                rows.into_iter().map(|r| vec![r.what.to_owned(), r.name, r.done.to_owned(), r.reason]),
            );
            print::text(&mut stdout(), &print::columns(&table))?;
        }
        Ok(if left { LEFT } else { 0 })
    }
}

fn would((namespace, id, remains): (String, String, Remains)) -> Row {
    let (what, done) = match remains {
        Remains::Orphan => ("container of a dead daemon", "would be cleaned up"),
        Remains::Expired => ("tombstone", "would be removed"),
        Remains::Empty => ("run directory without a record", "would be removed"),
        Remains::Foreign => ("unreadable record", "its processes would be ended; it would be kept"),
    };
    Row::of((namespace, id), what, done)
}
