//! A TOML text as a list of keys, values and lines. What is not in the table of keys, or is of another kind, is an
//! error that names place, line and key.

use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
    path::Path,
};

use toml::de::{DeTable, DeValue};

use super::{
    key::{self, Key},
    value::{Origin, Value},
};
use crate::Error;

/// The most that is read of a file, in bytes.
const MOST: u64 = 1024 * 1024;

/// What a text says of one key.
#[derive(Debug)]
pub(super) struct Said {
    /// The key; of a monitor that is not built here, the like of QEMU's.
    pub key: &'static Key,
    /// The name as it is written.
    pub name: String,
    /// The value, checked.
    pub value: Value,
    /// Where.
    pub origin: Origin,
    /// Whether anybody looks at it.
    pub used: bool,
}

/// Where a text is from: what is put before a line's number.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// A file.
    File(&'a Path),
    /// The options themselves.
    Options,
}

impl Source<'_> {
    fn at(self, text: &str, span: &Range<usize>) -> Origin {
        let before = text.as_bytes().get(..span.start).unwrap_or(text.as_bytes());
        let line = 1 + before.iter().filter(|b| **b == b'\n').count();
        match self {
            Self::File(path) => Origin::File(path.to_owned(), line),
            Self::Options => Origin::Options(line),
        }
    }
}

/// Reads a file. `None`: there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, Error> {
    let unreadable = |source| Error::File { action: "read the configuration", path: path.to_owned(), source };
    match path.metadata() {
        Ok(m) if m.is_file() => {}
        Ok(_) => return Err(unreadable(io::Error::other("not a regular file"))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unreadable(e)),
    }
    let mut text = Vec::new();
    File::open(path).and_then(|f| f.take(MOST + 1).read_to_end(&mut text)).map_err(unreadable)?;
    if text.len() as u64 > MOST {
        return Err(unreadable(io::Error::other("larger than 1 MiB")));
    }
    String::from_utf8(text).map(Some).map_err(|_| unreadable(io::Error::other("not UTF-8")))
}

/// Without a `ConfigPath`, containerd 2 sends its whole table of options as the body: these two are no keys of ours.
const CONTAINERDS_OWN: [&str; 2] = ["TypeUrl", "ConfigPath"];

/// Takes a text apart. A key that is wrong goes to `wrong`, which says whether that is the end.
pub(super) fn parse(
    source: Source<'_>,
    text: &str,
    wrong: &mut dyn FnMut(Error) -> Result<(), Error>,
) -> Result<Vec<Said>, Error> {
    let table = DeTable::parse(text).map_err(|e| {
        let (span, message) = (e.span().unwrap_or(0..0), e.message().trim());
        Error::Config {
            place: source.at(text, &span).to_string(),
            key: if message.starts_with("duplicate key") { key_at(text, span) } else { String::new() },
            problem: format!("is not TOML: {message}"),
        }
    })?;
    let mut said = Vec::new();
    walk(source, text, "", table.get_ref(), wrong, &mut said)?;
    Ok(said)
}

/// The whole name of the key that is there twice, and whose last name stands at `span`: the text is read once more
/// with another name there. Where even that does not find it, the last name alone.
fn key_at(text: &str, span: Range<usize>) -> String {
    let last = text.get(span.clone()).unwrap_or_default().to_owned();
    let (Some(before), Some(after)) = (text.get(..span.start), text.get(span.end..)) else { return last };
    let once = format!("{before}_once_{after}");
    let (table, _) = DeTable::parse_recoverable(&once);
    table_of(table.get_ref(), "", span.start).map_or(last.clone(), |table| below(&table, &last))
}

/// The name of the table in which a key stands at `start`.
fn table_of(table: &DeTable<'_>, name: &str, start: usize) -> Option<String> {
    table.iter().find_map(|(key, value)| match key.span().start == start {
        true => Some(name.to_owned()),
        false => table_in(value.get_ref(), &below(name, &own(key.get_ref())), start),
    })
}

fn table_in(value: &DeValue<'_>, name: &str, start: usize) -> Option<String> {
    match value {
        DeValue::Table(inner) => table_of(inner, name, start),
        DeValue::Array(values) => values.iter().find_map(|value| table_in(value.get_ref(), name, start)),
        _ => None,
    }
}

fn below(above: &str, own: &str) -> String {
    if above.is_empty() { own.to_owned() } else { format!("{above}.{own}") }
}

/// A name with a dot in it was quoted: it is one name, and no table with a key in it.
fn own(name: &str) -> String {
    if name.contains('.') { format!("{name:?}") } else { name.to_owned() }
}

fn walk(
    source: Source<'_>,
    text: &str,
    above: &str,
    table: &DeTable<'_>,
    wrong: &mut dyn FnMut(Error) -> Result<(), Error>,
    said: &mut Vec<Said>,
) -> Result<(), Error> {
    for (name, value) in table {
        let origin = source.at(text, &name.span());
        let name = below(above, &own(name.get_ref()));
        if matches!(source, Source::Options) && CONTAINERDS_OWN.contains(&name.as_str()) {
            continue;
        }
        let problem = match (key::find(&name), value.get_ref()) {
            (None, DeValue::Table(inner)) if key::is_table(&name) => {
                walk(source, text, &name, inner, wrong, said)?;
                continue;
            }
            (None, _) if key::is_table(&name) => format!("is a table: write [{name}]"),
            (None, _) => "is not known; `urunc config show` lists what is".to_owned(),
            (Some((key, used)), value) => match key.check(value_of(value)) {
                Ok(value) => {
                    said.push(Said { key, name, value, origin, used });
                    continue;
                }
                Err(problem) => problem,
            },
        };
        wrong(Error::Config { place: origin.to_string(), key: name, problem })?;
    }
    Ok(())
}

fn value_of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(bool) => Value::Bool(*bool),
        DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::Other("the number", number.to_string()), Value::Number),
        DeValue::Float(number) => Value::Other("the number", number.to_string()),
        DeValue::Datetime(time) => Value::Other("the time", time.to_string()),
        DeValue::Array(_) => Value::Other("an array", "[...]".to_owned()),
        DeValue::Table(_) => Value::Other("a table", "{...}".to_owned()),
    }
}
