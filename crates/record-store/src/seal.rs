//! The checksum of a record file: a bit that flips on the disk must not make another valid record.
//!
//! A record is one JSON object on one line. Its first member is the sha256 of every byte behind that member, the end of
//! the line included. So `jq` reads a record as it is, and `tail -c +78 FILE | sha256sum` says which sum it must have.
//! Every byte counts: those before the sum are always the same.

use serde::{Serialize, ser::Error as _};
use sha2::{Digest, Sha256};

/// The bytes before those that are summed.
const HEAD: usize = r#"{"sha256":"","#.len() + 64;

/// A value as a record: it must be an object that has members, none of them `sha256`.
pub fn seal<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let text = serde_json::to_string(value)?;
    match text.strip_prefix('{') {
        Some(members) if members.starts_with('"') => {
            let tail = format!("{members}\n");
            Ok((head_of(tail.as_bytes()) + &tail).into_bytes())
        }
        _ => Err(serde_json::Error::custom("a record is an object with members")),
    }
}

/// Whether a record is as it was written.
pub fn is_whole(content: &[u8]) -> bool {
    content.split_at_checked(HEAD).is_some_and(|(head, tail)| head == head_of(tail).as_bytes())
}

fn head_of(tail: &[u8]) -> String {
    let sum: String = Sha256::digest(tail).iter().map(|b| format!("{b:02x}")).collect();
    format!(r#"{{"sha256":"{sum}","#)
}
