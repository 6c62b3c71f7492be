//! Cgroup directories, of v1 and v2.

use std::fs;
use std::path::PathBuf;

use leakcheck::{Kind, Scope, Snapshot};

use crate::guards::{Folder, Ground, Running, skip, unique, wait_for};

/// The mount points of all hierarchies of this type.
fn all_mounted(fstype: &str) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let lines = table.lines().filter(|line| line.contains(&format!(" - {fstype} ")));
    lines.map(|line| line.split(' ').nth(4).unwrap().into()).collect()
}

/// The mount point of a hierarchy of this type.
pub fn mounted(fstype: &str) -> Option<PathBuf> {
    all_mounted(fstype).into_iter().next()
}

/// A name like that of a transaction's leaf.
pub fn leaf() -> String {
    let hex: String = unique("").chars().rev().filter(char::is_ascii_hexdigit).take(14).collect();
    format!("urunc-{hex}")
}

fn is_found(fstype: &str, words: &str) {
    let trees = all_mounted(fstype);
    if trees.is_empty() {
        return skip("a cgroup directory", &format!("no {fstype} is mounted"));
    }
    for tree in trees {
        let ground = Ground::new();
        let outer = Folder::make(tree.join(&ground.marker)).unwrap();
        let entry = ground.one(Kind::Cgroup);
        assert_eq!(entry.name, outer.0.to_string_lossy());
        assert!(entry.detail.starts_with(words) && entry.detail.ends_with("empty"), "{entry:?}");
        let inner = Folder::make(outer.0.join("inner")).unwrap();
        assert_eq!(ground.look().of(Kind::Cgroup).count(), 2);
        drop(inner);
        drop(outer);
        ground.is_clean();
    }
}

#[test]
fn in_every_v1_hierarchy() {
    is_found("cgroup", "v1 ");
}

#[test]
fn in_the_v2_tree() {
    is_found("cgroup2", "v2");
}

#[test]
fn a_strangers_is_not_reported() {
    let ground = Ground::new();
    let Some(tree) = mounted("cgroup2").or_else(|| mounted("cgroup")) else {
        return skip("a stranger's cgroup", "no hierarchy is mounted");
    };
    let _folder = Folder::make(tree.join(unique("stranger"))).unwrap();
    ground.is_clean();
}

#[test]
fn a_leaf_of_ours_without_a_stranger_in_it_needs_no_marker() {
    let scope = Scope::new().marker(unique("leakcheck"));
    let Some(tree) = mounted("cgroup2").or_else(|| mounted("cgroup")) else {
        return skip("a leaf of ours", "no hierarchy is mounted");
    };
    let leaf = Folder::make(tree.join(leaf())).unwrap();
    let path = leaf.0.to_string_lossy().into_owned();
    let has = |scope: &Scope| Snapshot::take(scope).entries().iter().any(|entry| entry.name == path);
    assert!(has(&scope));
    assert!(!has(&scope.clone().only_marked()));
    let stranger = Running::stranger();
    fs::write(leaf.0.join("cgroup.procs"), stranger.pid().to_string()).unwrap();
    assert!(!has(&scope));
    drop(stranger);
    wait_for("the leaf to be nobody's", || has(&scope));
    drop(leaf);
    assert!(!has(&scope));
}
