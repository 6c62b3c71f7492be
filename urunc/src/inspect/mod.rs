//! `urunc inspect`: what is known of one container - its record, its plan with the reason of each choice - and what is
//! true of it now: whether its process is the one that was recorded, which of its resources are there, how it ended and
//! what its monitor said last. It only reads, and asks no daemon: it works beside a living one and after a dead one.

mod now;
pub mod plan;

use std::{io::stdout, path::PathBuf};

use clap::Args as ClapArgs;
use record_store::Read;
use runtime_core::{
    layout,
    plan::{Late, Plan},
    record::{Record, RunDir},
};
use serde::Serialize;
use serde_json::Value;
use time::format_description::well_known::Rfc3339;

use crate::{error::Error, find::find, list::root, print};

/// What to inspect
#[derive(ClapArgs)]
pub struct Args {
    /// The container: its id, the beginning of it, or NAMESPACE/ID
    #[arg(value_name = "ID")]
    id: String,
    /// Where the records are [default: runtime.root of the configuration]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// All that is known.
#[derive(Serialize)]
struct Inspection {
    namespace: String,
    id: String,
    /// The folder of its containerd.
    containerd: String,
    /// Its state by the record, or what is the matter with the record.
    state: String,
    /// Whether its daemon lives.
    daemon: bool,
    process: now::Process,
    resources: Vec<now::Resource>,
    /// How it ended: the exit of the record, as it is.
    exit: Value,
    last_words: Option<String>,
    plan: Option<plan::Shown>,
    /// The record, as it is.
    record: Option<Record>,
}

impl Args {
    /// Inspects.
    pub fn run(&self) -> Result<(), Error> {
        let records = |source| Error::Records { source };
        let found = find(&root(self.root.clone())?, &self.id)?;
        let gone = || Error::NoContainer { name: self.id.clone(), root: found.layout.base().to_owned() };
        let path = found.layout.container(&found.namespace, &found.id);
        let dir = RunDir::open(&path).map_err(records)?.ok_or_else(gone)?;
        let (state, record) = match dir.read() {
            Read::Record(record) if record.tombstone => ("tombstone".to_owned(), Some(record)),
            Read::Record(record) => (record.state.to_string(), Some(record)),
            Read::Absent => ("no record".to_owned(), None),
            Read::Newer(schema) => (format!("newer (schema {schema})"), None),
            Read::Unreadable(e) => (format!("unreadable: {}", runtime_core::Error::from(e).chain()), None),
        };
        let mine = |txid: &str| record.as_ref().is_none_or(|record| record.txid == txid);
        let plan: Option<Plan> = dir.dir().read_part(layout::PLAN).ok().flatten();
        let plan = plan.filter(|plan| mine(&plan.txid));
        let late: Option<Late> = dir.dir().read_part(layout::LATE).ok().flatten();
        let inspection = Inspection {
            containerd: found.containerd(),
            state,
            daemon: now::daemon(&found.layout, &dir, record.as_ref()).map_err(records)?,
            process: now::process(record.as_ref()),
            resources: record.as_ref().map_or_else(Vec::new, now::resources),
            exit: record.as_ref().and_then(|r| serde_json::to_value(r.exit).ok()).unwrap_or_default(),
            last_words: record.as_ref().and_then(|r| r.last_words.clone()),
            plan: plan.map(|plan| plan::Shown::of(&plan, late.as_ref())),
            record,
            namespace: found.namespace,
            id: found.id,
        };
        if self.json {
            return print::json(&mut stdout(), &inspection);
        }
        print::text(&mut stdout(), &print::columns(&inspection.rows()))
    }
}

impl Inspection {
    /// Two columns; what belongs to the row above has no name.
    fn rows(self) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        let mut add = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
        add("CONTAINER", format!("{}/{}", self.namespace, self.id));
        add("STATE", self.state);
        if let Some(record) = &self.record {
            add("CREATED", record.created.format(&Rfc3339).unwrap_or_default());
            add("GROUP", record.group.clone());
            add("TRANSACTION", record.txid.clone());
        }
        let lives = if self.daemon { "lives" } else { "dead" };
        add("DAEMON", format!("{lives} (containerd {})", self.containerd));
        add("PROCESS", self.process.text());
        if let Value::Object(exit) = &self.exit {
            let plain = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
            let parts: Vec<String> = exit.iter().map(|(k, v)| format!("{k} {}", plain(v))).collect();
            add("EXIT", parts.join(", "));
        }
        many(&mut add, "LAST WORDS", self.last_words.iter().flat_map(|w| w.lines()).map(str::to_owned));
        many(&mut add, "RESOURCES", self.resources.iter().map(now::Resource::text));
        if let Some(record) = &self.record {
            let steps = record.journal.entries().iter();
            let steps = steps.map(|e| format!("{} {} {:?}", e.section, e.step, e.phase).to_lowercase());
            many(&mut add, "JOURNAL", steps);
        }
        if let Some(plan) = self.plan {
            for (name, values) in plan.rows() {
                many(&mut add, name, values.into_iter());
            }
        }
        rows
    }
}

/// Rows of one name, which stands at the first of them.
fn many(add: &mut impl FnMut(&str, String), name: &str, values: impl Iterator<Item = String>) {
    for (n, value) in values.enumerate() {
        add(if n == 0 { name } else { "" }, value);
    }
}
