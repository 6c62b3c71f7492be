//! Unix sockets by path or abstract name, bound ones and leftover files. A bound one counts if its path is in scope or
//! if a process in scope has it open; what matters of many connections to one path is the path.

use std::collections::{HashMap, HashSet};

use crate::entry::Found;
use crate::host::View;
use crate::host::unix::{inode_of, named};

pub(super) fn collect(view: &View<'_>, found: &mut Found<'_>) {
    let bound: HashMap<&str, &str> =
        bound(view).into_iter().map(|(_, path, namespace)| (path, namespace)).collect();
    found.looked_at = view.namespaces.iter().map(|namespace| named(&namespace.unix).count()).sum();
    for file in view.files.iter().filter(|file| file.is_socket()) {
        found.looked_at += 1;
        if !bound.contains_key(file.path.as_str()) {
            found.add(file.path.clone(), "a file that nobody listens on".to_owned());
        }
    }
    for (path, namespace) in bound {
        found.add(path.to_owned(), format!("bound, in {namespace}"));
    }
}

/// The bound ones that count: inode, path and namespace.
pub(super) fn bound<'a>(view: &'a View<'_>) -> Vec<(&'a str, &'a str, &'a str)> {
    let fds = view.processes.iter().flat_map(|process| &process.fds);
    let held: HashSet<&str> = fds.filter_map(|(_, target)| inode_of(target)).collect();
    let mut bound = Vec::new();
    for namespace in &view.namespaces {
        for (inode, path) in named(&namespace.unix) {
            if view.scope.covers(path) || held.contains(inode) {
                bound.push((inode, path, namespace.name.as_str()));
            }
        }
    }
    bound
}
