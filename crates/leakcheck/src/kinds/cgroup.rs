//! Cgroup directories, by their paths, in every mounted hierarchy of v1 and in the v2 tree. One counts if its path is
//! in scope, or if it is a leaf with our name in which no stranger lives: then nobody owns it.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::entry::Found;
use crate::error::{Error, present};
use crate::host::View;
use crate::host::mounts::Mount;
use crate::ours;

pub(super) fn collect(view: &View<'_>, found: &mut Found<'_>) {
    let Some(table) = view.tables.first() else { return };
    let ours: HashSet<i32> = view.processes.iter().map(|process| process.id.pid).collect();
    let mut seen = HashSet::new();
    for mount in table.mounts.iter().filter(|mount| mount.fstype.starts_with("cgroup")) {
        // A hierarchy that is mounted twice is walked once; a part of it elsewhere is walked for itself.
        if !seen.insert((&mount.device, &mount.root)) {
            continue;
        }
        let mut next = vec![PathBuf::from(&mount.point)];
        while let Some(folder) = next.pop() {
            match children(&folder) {
                Ok(children) => {
                    found.looked_at += children.len();
                    children.iter().for_each(|child| judge(child, mount, view, &ours, found));
                    next.extend(children);
                }
                Err(error) => found.miss(&error),
            }
        }
    }
}

fn judge(folder: &Path, mount: &Mount, view: &View<'_>, ours: &HashSet<i32>, found: &mut Found<'_>) {
    let path = folder.to_string_lossy();
    let covered = view.scope.covers(&path);
    let leaf = folder.file_name().and_then(|name| name.to_str()).is_some_and(ours::is_leaf);
    let candidate = covered || (leaf && view.scope.counts_our_names());
    if !candidate {
        return;
    }
    let members = match members(folder) {
        Ok(Some(members)) => members,
        Ok(None) => return,
        Err(error) => {
            found.miss(&error);
            Vec::new()
        }
    };
    if covered || members.iter().all(|pid| ours.contains(pid)) {
        let hierarchy = match mount.fstype.as_str() {
            "cgroup2" => "v2".to_owned(),
            _ => format!("v1 {}", controllers(&mount.fs_options)),
        };
        let members = match members.as_slice() {
            [] => "empty".to_owned(),
            pids => format!("holds {}", pids.iter().map(i32::to_string).collect::<Vec<_>>().join(" ")),
        };
        found.add(path.into_owned(), format!("{hierarchy}, {members}"));
    }
}

/// The cgroups right below this one. The link count of such a directory is 2 and one for each child, so that the many
/// without children, each full of control files, need not be listed.
fn children(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut children = Vec::new();
    match present(std::fs::metadata(folder), folder)? {
        Some(stat) if stat.nlink() > 2 => {}
        _ => return Ok(children),
    }
    let entries = present(std::fs::read_dir(folder), folder)?;
    for entry in entries.into_iter().flatten() {
        let Some(entry) = present(entry, folder)? else { continue };
        if present(entry.file_type(), folder)?.is_some_and(|kind| kind.is_dir()) {
            children.push(entry.path());
        }
    }
    Ok(children)
}

/// The pids in a cgroup; None if it is gone. A threaded cgroup does not tell (EOPNOTSUPP): its processes are listed
/// in the cgroup above.
fn members(folder: &Path) -> Result<Option<Vec<i32>>, Error> {
    let path = folder.join("cgroup.procs");
    match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => Ok(Some(Vec::new())),
        other => {
            let pids = |text: String| text.lines().filter_map(|line| line.parse().ok()).collect();
            Ok(present(other, &path)?.map(pids))
        }
    }
}

/// The controllers among a v1 hierarchy's options, or its name.
fn controllers(options: &str) -> String {
    let ours =
        options.split(',').filter(|option| !matches!(*option, "rw" | "ro" | "xattr" | "clone_children"));
    ours.collect::<Vec<_>>().join(",")
}
