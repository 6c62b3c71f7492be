//! What every verb writes to a person or a program: aligned tables and JSON.
//!
//! Owns nothing. A closed or full stdout is an error like any other, not a panic as with `println!`.

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

/// Lays rows out in columns, two spaces apart. The last column is not padded.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
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
}
