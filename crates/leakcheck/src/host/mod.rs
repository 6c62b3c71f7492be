//! How the host is read: once per snapshot, for all kinds together. What of it counts is decided in `kinds`.

pub(crate) mod address;
mod family;
pub(crate) mod files;
pub(crate) mod inside;
pub(crate) mod link;
pub(crate) mod mounts;
pub(crate) mod namespaces;
mod netlink;
mod proc_dir;
pub(crate) mod processes;
pub(crate) mod traffic;
pub(crate) mod unix;
mod visit;

pub(crate) use proc_dir::ProcessId;

use crate::entry::Unreadable;
use crate::scope::Scope;

/// What several kinds look at.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub scope: &'a Scope,
    pub processes: Vec<processes::Process>,
    /// How many processes the host has.
    pub process_count: usize,
    /// All other processes.
    pub strangers: Vec<processes::Stranger>,
    /// The insides of the processes that the scope looks into.
    pub insides: Vec<inside::Inside>,
    /// The caller's own mount table is the first.
    pub tables: Vec<mounts::Table>,
    pub namespaces: Vec<namespaces::Namespace>,
    pub files: Vec<files::FileSeen>,
    /// How many files were looked at.
    pub file_count: usize,
    pub unreadable: Vec<Unreadable>,
}

impl<'a> View<'a> {
    /// Looks. What cannot be read is in `unreadable`.
    pub fn look(scope: &'a Scope) -> Self {
        let processes::Processes { in_scope: processes, strangers, zombies, looked_at, mut unreadable } =
            processes::Processes::read(scope);
        let insides = inside::look(scope.processes(), &zombies, &mut unreadable);
        let tables = mounts::read(&processes, &mut unreadable);
        let mut namespaces = namespaces::find(scope, &processes, &tables, &mut unreadable);
        visit::all(&mut namespaces, &mut unreadable);
        let (files, file_count) = files::walk(scope, &tables, &mut unreadable);
        Self {
            scope,
            processes,
            process_count: looked_at,
            strangers,
            insides,
            tables,
            namespaces,
            files,
            file_count,
            unreadable,
        }
    }
}

/// Whether we may look at pid 1's namespaces. Init can have more privileges than a root in a container or a virtual
/// machine has; then the caller's namespaces are taken for the host's.
fn init_is_open() -> bool {
    std::fs::read_link("/proc/1/ns/net").is_ok()
}
