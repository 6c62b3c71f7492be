//! The difference of two snapshots, as a table for people and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::entry::{Entry, Kind, Unreadable};
use crate::error::Error;

/// A table with more unreadable things than this is about something else.
const UNREADABLE_ROWS: usize = 20;

/// What differs between two snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaks {
    /// What is there and was not before.
    pub leaked: Vec<Entry>,
    /// What was there and is not any more: for the canaries of a test.
    pub gone: Vec<Entry>,
    /// What could not be read in the later snapshot: a leak may hide there.
    pub unreadable: Vec<Unreadable>,
    /// What could not be read in the earlier one: no leak hides there, but what seems to be new may be old.
    pub unreadable_before: Vec<Unreadable>,
    /// How many things of each kind were examined in the later snapshot, strangers included. A kind that could not
    /// be looked at at all is missing.
    pub looked_at: BTreeMap<Kind, usize>,
}

impl Leaks {
    /// Nothing was left behind, and everything could be read in the later snapshot. What is gone does not matter.
    pub fn is_clean(&self) -> bool {
        self.leaked.is_empty() && self.unreadable.is_empty()
    }

    /// The leaked things of one kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Entry> {
        self.leaked.iter().filter(move |entry| entry.kind == kind)
    }

    /// The difference as aligned columns. Without leaks it says how much was compared: "nothing" is worth nothing
    /// if nothing was looked at.
    pub fn table(&self) -> String {
        self.to_string()
    }

    /// The difference as JSON.
    pub fn to_json(&self) -> Result<String, Error> {
        Ok(serde_json::to_string(self)?)
    }

    fn write_counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = Kind::ALL.into_iter().map(|kind| kind.plural().len()).max().unwrap_or_default();
        for kind in Kind::ALL {
            let kind_name = kind.plural();
            match self.looked_at.get(&kind) {
                Some(count) => writeln!(f, "{kind_name:width$}  0 leaked ({count} looked at)")?,
                None => writeln!(f, "{kind_name:width$}  could not be looked at")?,
            }
        }
        Ok(())
    }

    fn write_summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.leaked.is_empty() {
            return match self.unreadable.len() {
                0 => writeln!(f, "nothing was left behind"),
                n => writeln!(f, "nothing was seen to be left behind, but {n} things could not be read"),
            };
        }
        let counts = Kind::ALL.into_iter().filter_map(|kind| match self.of(kind).count() {
            0 => None,
            1 => Some(format!("1 {}", kind.singular())),
            n => Some(format!("{n} {}", kind.plural())),
        });
        writeln!(f, "left behind: {}", counts.collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Display for Leaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.leaked.is_empty() {
            self.write_counts(f)?;
        } else {
            write_rows(f, &self.leaked)?;
        }
        if !self.gone.is_empty() {
            writeln!(f, "\ngone since:")?;
            write_rows(f, &self.gone)?;
            writeln!(f)?;
        }
        write_unreadable(f, "could not be read before", &self.unreadable_before)?;
        write_unreadable(f, "could not be read", &self.unreadable)?;
        self.write_summary(f)
    }
}

fn write_rows(f: &mut fmt::Formatter<'_>, entries: &[Entry]) -> fmt::Result {
    let heads = ["KIND".to_owned(), "NAME".to_owned(), "DETAIL".to_owned()];
    let row =
        |entry: &Entry| [entry.kind.singular().to_owned(), printable(&entry.name), printable(&entry.detail)];
    let rows: Vec<[String; 3]> = std::iter::once(heads).chain(entries.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let (kinds, names) = (width(0), width(1));
    for [kind, name, detail] in &rows {
        writeln!(f, "{}", format_args!("{kind:kinds$}  {name:names$}  {detail}").to_string().trim_end())?;
    }
    Ok(())
}

fn write_unreadable(f: &mut fmt::Formatter<'_>, head: &str, missed: &[Unreadable]) -> fmt::Result {
    if missed.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{head}:")?;
    for Unreadable { kind, reason, .. } in missed.iter().take(UNREADABLE_ROWS) {
        writeln!(f, "{}  {}", kind.plural(), printable(reason))?;
    }
    if let more @ 1.. = missed.len().saturating_sub(UNREADABLE_ROWS) {
        writeln!(f, "and {more} more, all of them in the JSON")?;
    }
    writeln!(f)
}

/// Names come from strangers: no control character of theirs reaches a terminal.
fn printable(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaks(leaked: &[(Kind, &str, &str)]) -> Leaks {
        let entry = |&(kind, name, detail): &(Kind, &str, &str)| Entry {
            kind,
            name: name.into(),
            detail: detail.into(),
        };
        Leaks {
            leaked: leaked.iter().map(entry).collect(),
            gone: Vec::new(),
            unreadable: Vec::new(),
            unreadable_before: Vec::new(),
            looked_at: Kind::ALL.map(|kind| (kind, 113)).into(),
        }
    }

    #[test]
    fn a_clean_table_says_how_much_was_compared() {
        let table = leaks(&[]).table();
        assert!(table.starts_with("processes           0 leaked (113 looked at)\n"), "{table}");
        assert!(table.ends_with("\nnothing was left behind\n"), "{table}");
        assert_eq!(table.lines().count(), Kind::ALL.len() + 1);
    }

    #[test]
    fn columns_are_aligned_and_control_characters_are_harmless() {
        let table =
            leaks(&[(Kind::Process, "7@100", "sh\u{1b}[2J"), (Kind::Mount, "/a/long/path#5", "")]).table();
        let expected = "KIND     NAME            DETAIL\n\
                        process  7@100           sh\\u{1b}[2J\n\
                        mount    /a/long/path#5\n\
                        left behind: 1 process, 1 mount\n";
        assert_eq!(table, expected);
    }

    #[test]
    fn a_clean_table_with_something_unreadable_claims_less() {
        let mut leaks = leaks(&[]);
        leaks.looked_at.remove(&Kind::Mount);
        leaks.unreadable = vec![Unreadable { kind: Kind::Mount, reason: "denied".into(), born: None }; 30];
        let table = leaks.table();
        assert!(table.contains("mounts              could not be looked at\n"), "{table}");
        assert!(table.contains("\nand 10 more"), "{table}");
        assert!(!table.contains("nothing was left behind"), "{table}");
    }

    #[test]
    fn json_names_kinds_by_word() {
        let json: serde_json::Value =
            serde_json::from_str(&leaks(&[(Kind::UnixSocket, "/s", "")]).to_json().unwrap()).unwrap();
        assert_eq!(json["leaked"][0]["kind"], "unix-socket");
        assert_eq!(json["looked_at"]["loop-device"], 113);
    }
}
