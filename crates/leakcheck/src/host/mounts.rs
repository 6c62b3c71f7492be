//! Mount tables: our own, that of pid 1, and each other one that a process in scope lives in.
//!
//! A table of a process that is gone meanwhile is skipped: a private mount namespace ends with its last process.

use std::collections::HashSet;
use std::path::PathBuf;

use super::processes::Process;
use crate::entry::{Kind, Unreadable};
use crate::error::{Error, present};
use crate::scope::Scope;

/// A line of `mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub id: u64,
    /// The device as major:minor.
    pub device: String,
    /// Which part of the file system is mounted.
    pub root: String,
    pub point: String,
    pub options: String,
    pub fstype: String,
    pub source: String,
    pub fs_options: String,
}

impl Mount {
    pub fn in_scope(&self, scope: &Scope) -> bool {
        [&self.point, &self.source, &self.root].into_iter().any(|path| scope.covers(path))
            || [&self.options, &self.fs_options].into_iter().any(|options| scope.names(options))
    }
}

#[derive(Debug)]
pub(crate) struct Table {
    /// Whose table it is; empty for the caller's and pid 1's.
    pub owner: String,
    /// What to put before a path of this table to open it.
    pub root: PathBuf,
    pub mounts: Vec<Mount>,
}

impl Table {
    pub fn reach(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

/// The tables, the caller's own first.
pub(crate) fn read(processes: &[Process], unreadable: &mut Vec<Unreadable>) -> Vec<Table> {
    let mut tables = Vec::new();
    let mut seen = HashSet::new();
    let own = std::iter::once(("self".to_owned(), None));
    let init = super::init_is_open().then(|| ("1".to_owned(), None));
    let others = processes.iter().map(|process| (process.id.pid.to_string(), Some(process)));
    for (who, process) in own.chain(init).chain(others) {
        let root = if who == "self" { "/".into() } else { format!("/proc/{who}/root").into() };
        match read_one(&who, process, &mut seen) {
            Ok(Some((owner, mounts))) => tables.push(Table { owner, root, mounts }),
            Ok(None) => {}
            Err(error) => unreadable.push(Unreadable::new(Kind::Mount, &error)),
        }
    }
    tables
}

/// One table, unless it was read already or its process is gone.
fn read_one(
    who: &str,
    process: Option<&Process>,
    seen: &mut HashSet<PathBuf>,
) -> Result<Option<(String, Vec<Mount>)>, Error> {
    let space = PathBuf::from(format!("/proc/{who}/ns/mnt"));
    let Some(space) = present(std::fs::read_link(&space), &space)? else { return Ok(None) };
    if !seen.insert(space.clone()) {
        return Ok(None);
    }
    let path = PathBuf::from(format!("/proc/{who}/mountinfo"));
    let text = match std::fs::read(&path) {
        // The process gave up its mounts on its way out.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => return Ok(None),
        other => present(other, &path)?,
    };
    let Some(text) = text else { return Ok(None) };
    // Only now: if the process is still the one we knew, the table was not another one's.
    let owner = match process {
        None => String::new(),
        Some(process) if process.dir().is_some() => {
            format!("{} of {} ({})", space.display(), process.id, process.stat.comm)
        }
        Some(_) => return Ok(None),
    };
    let malformed = |line: &str| Error::Malformed { path: path.clone(), text: line.to_owned() };
    let lines = String::from_utf8_lossy(&text);
    let mounts = lines.lines().map(|line| parse(line).ok_or_else(|| malformed(line)));
    let mounts = mounts.collect::<Result<_, _>>()?;
    Ok(Some((owner, mounts)))
}

/// `36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/sda rw`; there may be any number of fields before the
/// lone hyphen, and the source may be empty.
fn parse(line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let front: Vec<&str> = front.split(' ').collect();
    let back: Vec<&str> = back.splitn(3, ' ').collect();
    Some(Mount {
        id: front.first()?.parse().ok()?,
        device: (*front.get(2)?).to_owned(),
        root: unescape(front.get(3)?),
        point: unescape(front.get(4)?),
        options: (*front.get(5)?).to_owned(),
        fstype: unescape(back.first()?),
        source: unescape(back.get(1)?),
        fs_options: unescape(back.get(2)?),
    })
}

/// Blanks and backslashes in names are written as a backslash and three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_blanks_and_propagation_is_read() {
        let mount =
            parse(r"40 27 0:6 /a\040b /mnt/x\011y\134 rw shared:1 master:2 - tmpfs  rw,size=4k").unwrap();
        assert_eq!((mount.id, mount.device.as_str()), (40, "0:6"));
        assert_eq!((mount.root.as_str(), mount.point.as_str()), ("/a b", "/mnt/x\ty\\"));
        assert_eq!((mount.fstype.as_str(), mount.source.as_str()), ("tmpfs", ""));
        assert_eq!(mount.fs_options, "rw,size=4k");
        assert_eq!(parse("40 27 0:6 / /mnt"), None);
    }

    #[test]
    fn scope_looks_at_every_name_in_the_line() {
        let scope = Scope::new().marker("MARK").root("/run/ours");
        let mount = |line: &str| parse(line).unwrap().in_scope(&scope);
        assert!(mount("1 2 0:1 / /run/ours/x rw - tmpfs none rw"));
        assert!(mount("1 2 0:1 / /x rw - overlay overlay rw,lowerdir=/tmp/MARK/l"));
        assert!(mount("1 2 0:1 /run/ours/k /x rw - ext4 /dev/vda rw"));
        assert!(!mount("1 2 0:1 / /run/oursnot rw - tmpfs none rw"));
    }

    #[test]
    fn our_own_table_comes_first() {
        let mut unreadable = Vec::new();
        let tables = read(&[], &mut unreadable);
        assert!(tables[0].mounts.iter().any(|mount| mount.point == "/proc"));
        assert_eq!(tables[0].reach("/x"), PathBuf::from("/x"));
        assert_eq!(unreadable, []);
    }
}
