//! The insides of processes that the scope looks into: what their fds are open on, their threads, their zombies.

use std::collections::{BTreeMap, HashMap};

use super::proc_dir::{ProcDir, ProcessId, Stat};
use super::processes::reopen;
use crate::entry::{Kind, Unreadable};
use crate::error::{Error, vanished};

#[derive(Debug)]
pub(crate) struct Inside {
    pub id: ProcessId,
    /// The numbers of the fds, by what they are open on.
    pub fds: BTreeMap<String, Vec<i32>>,
    /// The ids of the threads, by their names. Which is which nobody can tell who looks later, nor does it matter.
    pub threads: BTreeMap<String, Vec<i32>>,
    /// Its children that it has not waited for.
    pub zombies: Vec<Stat>,
}

/// A process that is gone is reported: of it nothing can be said, least of all that it holds no more than before.
pub(crate) fn look(ids: &[ProcessId], zombies: &[Stat], unreadable: &mut Vec<Unreadable>) -> Vec<Inside> {
    let mut insides = Vec::new();
    for id in ids {
        match look_into(*id, zombies) {
            Ok(inside) => insides.push(inside),
            Err((kind, error)) => unreadable.push(Unreadable::new(kind, &error)),
        }
    }
    insides
}

fn look_into(id: ProcessId, zombies: &[Stat]) -> Result<Inside, (Kind, Error)> {
    let gone = || (Kind::Process, Error::Gone { process: id.to_string() });
    let failed = |kind: Kind, name: &str, source: std::io::Error| match vanished(&source) {
        true => gone(),
        false => (kind, Error::read(format!("/proc/{}/{name}", id.pid), source)),
    };
    let (dir, stat) = reopen(id).ok_or_else(gone)?;
    if stat.is_zombie() {
        return Err(gone());
    }
    let sockets = dir.read("net/unix").map_err(|error| failed(Kind::Fd, "net/unix", error))?;
    let names: HashMap<&str, &str> = super::unix::named(&sockets).collect();
    let mut inside = Inside { id, fds: BTreeMap::new(), threads: BTreeMap::new(), zombies: Vec::new() };
    for (fd, target) in dir.fds(|_| true).map_err(|error| failed(Kind::Fd, "fd", error))? {
        inside.fds.entry(sort_of(&target, &names)).or_default().push(fd);
    }
    for thread in dir.numbers("task").map_err(|error| failed(Kind::Thread, "task", error))? {
        // One that cannot be read has ended since.
        if let Ok(name) = dir.read(&format!("task/{thread}/comm")) {
            inside.threads.entry(name.trim_end().to_owned()).or_default().push(thread);
        }
    }
    inside.zombies.extend(zombies.iter().filter(|zombie| zombie.ppid == id.pid).cloned());
    still_there(&dir).ok_or_else(gone)?;
    Ok(inside)
}

fn still_there(dir: &ProcDir) -> Option<()> {
    dir.stat().ok()??.state.ne(&'Z').then_some(())
}

/// The target of an fd without the number that only this one has: `pipe:[123]` is a `pipe`. A socket with a name is
/// called by it.
fn sort_of(target: &str, sockets: &HashMap<&str, &str>) -> String {
    let numbered = target.strip_suffix(']').and_then(|target| target.split_once(":["));
    match numbered {
        Some(("socket", inode)) => match sockets.get(inode) {
            Some(path) => format!("unix socket {path}"),
            None => "socket".to_owned(),
        },
        Some((sort, number)) if number.bytes().all(|b| b.is_ascii_digit()) => sort.to_owned(),
        _ => target.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fds_are_sorted_by_what_they_are_open_on() {
        let sockets = HashMap::from([("7", "/run/s")]);
        let sort = |target: &str| sort_of(target, &sockets);
        assert_eq!(sort("socket:[7]"), "unix socket /run/s");
        assert_eq!(sort("socket:[8]"), "socket");
        assert_eq!(sort("pipe:[8]"), "pipe");
        assert_eq!(sort("anon_inode:[pidfd]"), "anon_inode:[pidfd]");
        assert_eq!(sort("/tmp/x:[y] (deleted)"), "/tmp/x:[y] (deleted)");
    }

    #[test]
    fn one_that_is_gone_is_told() {
        let me = ProcessId::of(std::process::id() as i32).unwrap();
        let mut unreadable = Vec::new();
        let insides = look(&[me, ProcessId { start: me.start - 1, ..me }], &[], &mut unreadable);
        assert_eq!(insides.len(), 1);
        assert!(insides[0].threads.values().flatten().any(|thread| *thread == me.pid));
        assert!(insides[0].fds.values().flatten().any(|fd| *fd == 0));
        assert!(unreadable.len() == 1 && unreadable[0].reason.ends_with("is gone"), "{unreadable:?}");
    }
}
