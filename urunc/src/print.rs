//! What every verb writes to a person or a program: aligned tables and JSON.
//!
//! Names come from images and containers, which are hostile: what would move a terminal's cursor is written as an escape
//! ([`plain`]), in tables and in errors. JSON has escapes of its own. Owns nothing. A closed or full stdout is an error like any other, not a panic as with `println!`.

use std::io::{self, Write};

use serde::Serialize;

use crate::error::Error;

/// Writes `value` as one line of JSON.
pub fn json<T: Serialize>(to: &mut dyn Write, value: &T) -> Result<(), Error> {
    let text = serde_json::to_string(value).map_err(|source| Error::Json { source })?;
    finish(writeln!(to, "{text}").and_then(|()| to.flush()))
}

/// Writes text as it is.
pub fn text(to: &mut dyn Write, text: &str) -> Result<(), Error> {
    finish(to.write_all(text.as_bytes()).and_then(|()| to.flush()))
}

/// A text that stays in its line, whoever wrote it: control characters and what turns the direction of writing around
/// are escaped as in Rust.
pub fn plain(text: &str) -> String {
    let turns = |c| matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() || turns(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

/// Lays rows out in columns, two spaces apart, each cell [`plain`]. The last column is not padded.
pub fn columns(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in &rows {
        for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if i + 1 == row.len() {
                out.push_str(cell);
            } else {
                out.push_str(&format!("{cell:<width$}  "));
            }
        }
        out.push('\n');
    }
    out
}

fn finish(result: io::Result<()>) -> Result<(), Error> {
    result.map_err(|source| Error::Print { source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "bcd", "e"], ["fgh", "i", "jkl"]];
        let rows: Vec<Vec<String>> =
            rows.iter().map(|r| r.iter().map(|c| (*c).to_owned()).collect()).collect();
        assert_eq!(columns(&rows), "a    bcd  e\nfgh  i    jkl\n");
        assert_eq!(columns(&[]), "");
    }

    #[test]
    fn no_cell_leaves_its_line() {
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        let table = columns(&[row("a\n", "\u{1b}[2J\r"), row("é", "\u{9b}\u{202e}\t\"x\"")]);
        assert_eq!(table, "a\\n  \\u{1b}[2J\\r\né    \\u{9b}\\u{202e}\\t\"x\"\n");
    }
}
