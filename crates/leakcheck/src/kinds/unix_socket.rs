//! Unix sockets by path or abstract name, bound ones and leftover files. A bound one counts if its path is in scope or
//! if a process in scope has it open; what matters of many connections to one path is the path.

use std::collections::{HashMap, HashSet};

use crate::entry::Found;
use crate::host::View;

pub(super) fn collect(view: &View<'_>, found: &mut Found<'_>) {
    let fds = view.processes.iter().flat_map(|process| &process.fds);
    let held: HashSet<&str> = fds.filter_map(|(_, target)| inode_of(target)).collect();
    let mut bound: HashMap<&str, &str> = HashMap::new();
    for namespace in &view.namespaces {
        for (inode, path) in namespace.unix.lines().filter_map(parse) {
            found.looked_at += 1;
            if view.scope.covers(path) || held.contains(inode) {
                bound.insert(path, namespace.name.as_str());
            }
        }
    }
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

fn inode_of(target: &str) -> Option<&str> {
    target.strip_prefix("socket:[")?.strip_suffix(']')
}

/// Inode and path of a line `Num RefCount Protocol Flags Type St Inode Path`; None for the many without a path, for
/// the head line, and for the rest of a path with a line break in it.
fn parse(line: &str) -> Option<(&str, &str)> {
    let (number, mut rest) = line.split_once(": ")?;
    u64::from_str_radix(number, 16).ok()?;
    let mut field = "";
    for _ in 0..6 {
        rest = rest.trim_start();
        (field, rest) = rest.split_once(' ')?;
    }
    Some((field, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_with_a_path_count() {
        let line = "0000000016b0e0cd: 00000002 00000000 00010000 0001 01   115 /run/a b.sock";
        assert_eq!(parse(line), Some(("115", "/run/a b.sock")));
        assert_eq!(parse("0000000016b0e0cd: 00000003 00000000 00000000 0001 03   115"), None);
        assert_eq!(parse("Num       RefCount Protocol Flags    Type St Inode Path"), None);
    }
}
