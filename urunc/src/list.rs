//! `urunc list`: the containers that are recorded, of every containerd of this host. Reads records and nothing else;
//! whether a process lives is asked of the kernel, not of the record.

use std::{io::stdout, path::PathBuf};

use clap::Args as ClapArgs;
use record_store::Read;
use runtime_core::{config::Config, layout::Layout, owner, record::RunDir};
use serde::Serialize;
use time::OffsetDateTime;

use crate::{error::Error, print};

/// What to list
#[derive(ClapArgs)]
pub struct Args {
    /// Where the records are [default: $URUNC_ROOT, else the configured runtime.root]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// One container, as it is listed.
#[derive(Serialize)]
struct Row {
    namespace: String,
    id: String,
    /// Its state by the record, or what is the matter with the record.
    state: String,
    pid: u32,
    /// Whether that process lives.
    alive: bool,
    /// Whether its daemon lives.
    daemon: bool,
    exit_status: Option<u32>,
    /// Seconds since it was created.
    age: Option<i64>,
    txid: String,
    bundle: PathBuf,
    /// The folder of its containerd.
    containerd: String,
}

impl Args {
    /// Lists.
    pub fn run(&self) -> Result<(), Error> {
        let mut rows = Vec::new();
        for layout in Layout::all(&root(self.root.clone())?) {
            for (namespace, id) in layout.containers() {
                rows.extend(row(&layout, namespace, id).map_err(|source| Error::Records { source })?);
            }
        }
        if self.json {
            return print::json(&mut stdout(), &rows);
        }
        let head = ["NAMESPACE", "ID", "STATE", "PID", "ALIVE", "DAEMON", "EXIT", "AGE", "TXID"];
        let mut table = vec![head.map(str::to_owned).to_vec()];
        for row in rows {
            let yes = |b: bool| if b { "yes" } else { "no" }.to_owned();
            let dash = |v: Option<String>| v.unwrap_or_else(|| "-".to_owned());
            table.push(vec![
                row.namespace,
                row.id,
                row.state,
                if row.pid == 0 { "-".to_owned() } else { row.pid.to_string() },
                yes(row.alive),
                yes(row.daemon),
                dash(row.exit_status.map(|s| s.to_string())),
                dash(row.age.map(duration)),
                row.txid,
            ]);
        }
        print::text(&mut stdout(), &print::columns(&table))
    }
}

/// The folder of the records: as given, else as the shim itself finds it.
pub fn root(given: Option<PathBuf>) -> Result<PathBuf, Error> {
    match given {
        Some(root) => Ok(root),
        None => Config::root().map_err(|source| Error::Configuration { source }),
    }
}

fn row(layout: &Layout, namespace: String, id: String) -> Result<Option<Row>, runtime_core::Error> {
    let containerd = layout.base().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let odd = |state: String, namespace: String, id: String, containerd: String| Row {
        namespace,
        id,
        state,
        pid: 0,
        alive: false,
        daemon: false,
        exit_status: None,
        age: None,
        txid: "-".to_owned(),
        bundle: PathBuf::new(),
        containerd,
    };
    // A container that goes while the list is made is no error.
    let Some(dir) = RunDir::open(&layout.container(&namespace, &id))? else { return Ok(None) };
    Ok(match dir.read() {
        Read::Absent => None,
        Read::Newer(schema) => Some(odd(format!("newer (schema {schema})"), namespace, id, containerd)),
        Read::Unreadable(_) => Some(odd("unreadable".to_owned(), namespace, id, containerd)),
        Read::Record(record) => Some(Row {
            pid: record.pid(),
            state: if record.tombstone { "tombstone".to_owned() } else { record.state.to_string() },
            alive: record.process.as_ref().is_some_and(|p| p.is_dead().is_ok_and(|dead| !dead)),
            daemon: owner::is_alive(layout, &record.owner)?,
            exit_status: record.exit.map(|e| e.status),
            age: Some((OffsetDateTime::now_utc() - record.created).whole_seconds()),
            txid: record.txid,
            bundle: record.bundle_path,
            namespace,
            id,
            containerd,
        }),
    })
}

fn duration(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
