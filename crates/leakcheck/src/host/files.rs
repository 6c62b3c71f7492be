//! Files below the roots and the shared folders of the scope.
//!
//! The walk never enters a mount: what is in a guest's root file system is not ours to list, and the mount itself is
//! another kind. A folder with more entries than any run directory has is given up with a report.

use std::collections::HashSet;
use std::fs::{DirEntry, FileType};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::mounts::Table;
use crate::entry::{Kind, Unreadable};
use crate::error::{Error, present};
use crate::scope::Scope;

/// More than thousands of containers leave in their run directories.
const LIMIT: usize = 100_000;

/// A file in scope.
#[derive(Debug)]
pub(crate) struct FileSeen {
    pub path: String,
    pub kind: FileType,
}

impl FileSeen {
    pub fn is_socket(&self) -> bool {
        self.kind.is_socket()
    }
}

/// The files in scope, and how many were looked at.
pub(crate) fn walk(
    scope: &Scope,
    tables: &[Table],
    unreadable: &mut Vec<Unreadable>,
) -> (Vec<FileSeen>, usize) {
    let mounts = tables.first().into_iter().flat_map(|table| &table.mounts);
    let mounts = mounts.map(|mount| Path::new(mount.point.as_str())).collect();
    let mut looked_at = 0;
    let mut found = Vec::new();
    for folder in scope.folders() {
        let mut walk = Walk { scope, mounts: &mounts, seen: 0, next: vec![folder.into()], found: &mut found };
        while let Some(folder) = walk.next.pop() {
            if let Err(error) = walk.list(&folder) {
                unreadable.push(Unreadable::new(Kind::File, &error));
            }
        }
        looked_at += walk.seen;
    }
    (found, looked_at)
}

struct Walk<'a> {
    scope: &'a Scope,
    mounts: &'a HashSet<&'a Path>,
    seen: usize,
    next: Vec<PathBuf>,
    found: &'a mut Vec<FileSeen>,
}

impl Walk<'_> {
    fn list(&mut self, folder: &Path) -> Result<(), Error> {
        let Some(entries) = present(std::fs::read_dir(folder), folder)? else { return Ok(()) };
        for entry in entries {
            if let Some(entry) = present(entry, folder)? {
                self.look(&entry)?;
            }
        }
        Ok(())
    }

    fn look(&mut self, entry: &DirEntry) -> Result<(), Error> {
        let path = entry.path();
        let Some(kind) = present(entry.file_type(), &path)? else { return Ok(()) };
        self.seen += 1;
        if self.seen > LIMIT {
            self.next.clear();
            return Err(Error::TooMany { path, limit: LIMIT });
        }
        let name = path.to_string_lossy();
        if self.scope.covers(&name) {
            self.found.push(FileSeen { path: name.into_owned(), kind });
        }
        if kind.is_dir() && !self.mounts.contains(path.as_path()) {
            self.next.push(path);
        }
        Ok(())
    }
}
