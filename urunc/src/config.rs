//! `urunc config`: what the configuration is, and who said so. It reads what the shim reads: the file, and the
//! environment - this command's own, which need not be the one that containerd gives to its shims.

use std::io::stdout;

use clap::{Args as ClapArgs, Subcommand};
use runtime_core::config::{Config, KEYS, Origin, Setting, Value};
use serde::Serialize;

use crate::{error::Error, print};

/// What `urunc config` can do.
#[derive(Subcommand)]
pub enum Verb {
    /// Show every key, its value, and where that came from
    Show(ShowArgs),
}

/// How to show it
#[derive(ClapArgs)]
pub struct ShowArgs {
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// One key, as it is shown.
#[derive(Serialize)]
struct Row {
    key: String,
    value: serde_json::Value,
    /// `default`, `file`, `environment`.
    origin: &'static str,
    /// The file, or the variable.
    place: Option<String>,
    line: Option<usize>,
    /// Whether anybody looks at it.
    used: bool,
    #[serde(skip)]
    text: [String; 2],
}

impl Row {
    fn of(key: &str, setting: Setting, used: bool) -> Self {
        let (value, text) = match setting.value {
            // Nothing is no empty text: a path that is not given is looked up.
            Value::Text(text) if text.is_empty() => (serde_json::Value::Null, "-".to_owned()),
            Value::Text(text) => (text.clone().into(), text),
            Value::Number(number) => (number.into(), number.to_string()),
            Value::Bool(bool) => (bool.into(), bool.to_string()),
            Value::Other(_, text) => (text.clone().into(), text),
        };
        let came_from = setting.origin.to_string() + if used { "" } else { " (not used)" };
        let (origin, place, line) = match setting.origin {
            Origin::Default => ("default", None, None),
            Origin::File(path, line) => ("file", Some(path.to_string_lossy().into_owned()), Some(line)),
            Origin::Environment(variable) => ("environment", Some(variable.to_owned()), None),
            Origin::Options(line) => ("options", None, Some(line)),
        };
        Self { key: key.to_owned(), value, origin, place, line, used, text: [text, came_from] }
    }

    /// Shows the number that nothing, or 0, stands for.
    fn stands_for(&mut self, number: u64, whose: &str) {
        let note =
            if self.origin == "default" { whose.to_owned() } else { format!("0: the default, {whose}") };
        self.value = number.into();
        self.text = [number.to_string(), format!("{} ({note})", self.text[1])];
    }
}

impl Verb {
    /// Does the work.
    pub fn run(&self) -> Result<(), Error> {
        let Self::Show(args) = self;
        let config = Config::load().map_err(|source| Error::Configuration { source })?;
        let used = KEYS.iter().filter(|key| key.is_used());
        let mut rows: Vec<Row> = used.map(|key| Row::of(key.name, config.get(key.name), true)).collect();
        // What each monitor needs by itself is no constant of the table.
        for monitor in vmm_backends::monitors() {
            let key = format!("monitors.{}.overhead_mb", monitor.name());
            if let Some(row) = rows.iter_mut().find(|row| row.key == key && row.value.is_null()) {
                row.stands_for(config.overhead_mib(&*monitor), &format!("{}'s own", monitor.name()));
            }
        }
        rows.extend(config.unused().iter().map(|(name, setting)| Row::of(name, setting.clone(), false)));
        if args.json {
            return print::json(&mut stdout(), &rows);
        }
        let mut table = vec![["KEY", "VALUE", "FROM"].map(str::to_owned).to_vec()];
        table.extend(rows.into_iter().map(|Row { key, text: [value, from], .. }| vec![key, value, from]));
        print::text(&mut stdout(), &print::columns(&table))
    }
}
