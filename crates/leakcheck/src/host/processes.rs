//! The processes in scope, and what all others have open. Owns the rule of what makes a process ours.
//!
//! A process that vanishes while it is read is skipped. One that cannot be read for another reason is listed as
//! unreadable, and counts if what could be read of it says so.

use std::io;
use std::time::Duration;

use super::family::{caller_and_ancestors, with_descendants};
use super::proc_dir::{ProcDir, ProcessId, Stat};
use crate::entry::{Kind, Unreadable};
use crate::error::{Error, vanished};
use crate::ours;
use crate::scope::Scope;

#[derive(Debug)]
pub(crate) struct Process {
    pub id: ProcessId,
    pub stat: Stat,
    /// The arguments with spaces between them; empty for a zombie.
    pub command: String,
    /// Number and target of each open fd.
    pub fds: Vec<(i32, String)>,
}

impl Process {
    /// The process's folder, if the pid still is this process.
    pub fn dir(&self) -> Option<ProcDir> {
        reopen(self.id).map(|(dir, _)| dir)
    }
}

/// A process that is not ours by any mark of its own. Whether it holds something of ours is decided later.
#[derive(Debug)]
pub(crate) struct Stranger {
    pub id: ProcessId,
    pub comm: String,
    /// Number and target of each open fd.
    pub fds: Vec<(i32, String)>,
    /// `net:[INODE]`: where it lives.
    pub netns: String,
}

pub(super) fn reopen(id: ProcessId) -> Option<(ProcDir, Stat)> {
    let dir = ProcDir::open(id.pid).ok()?;
    let stat = dir.stat().ok()??;
    (stat.id() == id).then_some((dir, stat))
}

#[derive(Debug, Default)]
pub(crate) struct Processes {
    pub in_scope: Vec<Process>,
    pub strangers: Vec<Stranger>,
    /// Those that nobody has waited for, whoever's they are.
    pub zombies: Vec<Stat>,
    /// How many there are on the host, kernel threads not counted.
    pub looked_at: usize,
    pub unreadable: Vec<Unreadable>,
}

impl Processes {
    pub fn read(scope: &Scope) -> Self {
        let mut unreadable = Vec::new();
        let all = list(&mut unreadable).unwrap_or_else(|error| {
            unreadable.push(Unreadable::new(Kind::Process, &error));
            Vec::new()
        });
        let bystanders = caller_and_ancestors(&all);
        let others = all.iter().map(Stat::id).filter(|id| !bystanders.contains(&id.pid)).collect();
        let (marked, mut strangers) = marked(others, scope, &mut unreadable);
        let ours = with_descendants(marked, &all, &bystanders);
        let looked_at = all.len();
        let zombies = all.iter().filter(|stat| stat.is_zombie()).cloned().collect();
        strangers.retain(|stranger| !ours.contains(&stranger.id.pid));
        let ours = all.into_iter().filter(|stat| ours.contains(&stat.pid));
        let in_scope = ours.filter_map(|stat| describe(stat, &mut unreadable)).collect();
        Self { in_scope, strangers, zombies, looked_at, unreadable }
    }
}

/// Every process but the kernel's threads.
fn list(unreadable: &mut Vec<Unreadable>) -> Result<Vec<Stat>, Error> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc").map_err(|e| Error::read("/proc", e))? {
        let name = entry.map_err(|e| Error::read("/proc", e))?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(dir) = ProcDir::open(pid) else { continue };
        let stat = Reader { dir, pid, unreadable }.get("stat", ProcDir::stat).flatten();
        all.extend(stat.filter(|stat| !stat.kernel_thread));
    }
    Ok(all)
}

/// The pids of the processes that are ours by themselves, and all others.
///
/// A process in the middle of an exec has neither arguments nor environment for a moment, and one that is ending has
/// lost them while it still frees its memory and holds its files. Those are asked again a little later; one that is
/// still ending then is reported: nobody can tell whose it is.
fn marked(
    mut ids: Vec<ProcessId>,
    scope: &Scope,
    unreadable: &mut Vec<Unreadable>,
) -> (Vec<i32>, Vec<Stranger>) {
    const ROUNDS: usize = 5;
    const PAUSE: Duration = Duration::from_millis(2);
    let caller = Caller::new();
    let (mut ours, mut strangers) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        ids.retain(|&id| {
            // A host has more processes than we may have fds, so each folder is closed again at once.
            let Some((dir, stat)) = reopen(id) else { return false };
            let mut reader = Reader { dir, pid: id.pid, unreadable };
            match reader.whose(scope, &stat) {
                Whose::Ours => ours.push(id.pid),
                Whose::Strangers => strangers.extend(reader.observe(stat, &caller)),
                Whose::Starting if round < ROUNDS => return true,
                Whose::Starting => strangers.extend(reader.observe(stat, &caller)),
                Whose::Ending if round < ROUNDS => return true,
                Whose::Ending => {
                    let error = Error::Ending { process: id.to_string(), born: id.start };
                    unreadable.push(Unreadable::new(Kind::Process, &error));
                }
            }
            false
        });
        if ids.is_empty() || round == ROUNDS {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    (ours, strangers)
}

/// Who takes the snapshot.
struct Caller {
    pid: i32,
    command: Option<String>,
}

impl Caller {
    fn new() -> Self {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self { pid, command: ProcDir::open(pid).and_then(|dir| dir.read("cmdline")).ok() }
    }
}

/// What else is worth knowing about a process in scope, unless it is gone by now.
fn describe(stat: Stat, unreadable: &mut Vec<Unreadable>) -> Option<Process> {
    let id = stat.id();
    let mut reader = Reader { dir: reopen(id)?.0, pid: id.pid, unreadable };
    let command = reader.text("cmdline").replace('\0', " ").trim_end().to_owned();
    let fds = reader.get("fd", |dir| dir.fds(|_| true)).unwrap_or_default();
    Some(Process { id, stat, command, fds })
}

enum Whose {
    Ours,
    Strangers,
    /// It has a program, but no arguments and no environment yet. (Or never: then it is a stranger's.)
    Starting,
    /// It has no memory any more.
    Ending,
}

/// Reads of one process; what fails without the process being gone is noted and reads as nothing.
struct Reader<'a> {
    dir: ProcDir,
    pid: i32,
    unreadable: &'a mut Vec<Unreadable>,
}

impl Reader<'_> {
    /// Whose the process itself is; the cheap questions come first.
    fn whose(&mut self, scope: &Scope, stat: &Stat) -> Whose {
        let command = self.text("cmdline");
        if scope.names(&command) {
            return Whose::Ours;
        }
        let cgroups = self.text("cgroup");
        let orphan = scope.counts_our_names() && stat.ppid == 1;
        if scope.names(&cgroups) || (orphan && cgroups.lines().any(ours::is_in_leaf)) {
            return Whose::Ours;
        }
        let program = self.link("exe");
        if scope.covers(&program) || scope.covers(&self.link("cwd")) {
            return Whose::Ours;
        }
        let environment = self.text("environ");
        if scope.names(&environment) {
            return Whose::Ours;
        }
        // A zombie has nothing left to hold.
        let alive = !stat.is_zombie();
        match (command.is_empty() && environment.is_empty() && alive, program.is_empty()) {
            (false, _) => Whose::Strangers,
            (true, true) => Whose::Ending,
            (true, false) => Whose::Starting,
        }
    }

    /// What a stranger has open, if it has anything. A child of the caller between fork and exec has all that the caller
    /// has, for a moment: it is the caller still. Its arguments are read first, for its fds are not older than those.
    fn observe(&mut self, stat: Stat, caller: &Caller) -> Option<Stranger> {
        if stat.is_zombie() || (stat.ppid == caller.pid && self.dir.read("cmdline").ok() == caller.command) {
            return None;
        }
        // Pipes and the kernel's own objects have no name by which they could be ours.
        let wanted =
            |target: &[u8]| [&b"/"[..], b"socket:", b"net:"].iter().any(|sort| target.starts_with(sort));
        let fds = self.get("fd", |dir| dir.fds(wanted)).unwrap_or_default();
        Some(Stranger { id: stat.id(), netns: self.link("ns/net"), comm: stat.comm, fds })
    }

    fn text(&mut self, name: &str) -> String {
        self.get(name, |dir| dir.read(name)).unwrap_or_default()
    }

    fn link(&mut self, name: &str) -> String {
        self.get(name, |dir| dir.link(name)).unwrap_or_default()
    }

    fn get<T>(&mut self, name: &str, read: impl Fn(&ProcDir) -> io::Result<T>) -> Option<T> {
        match read(&self.dir) {
            Ok(value) => Some(value),
            Err(error) if vanished(&error) => None,
            Err(error) => {
                let error = Error::read(format!("/proc/{}/{name}", self.pid), error);
                self.unreadable.push(Unreadable::new(Kind::Process, &error));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_that_went_to_another_process_is_not_the_old_one() {
        let me = rustix::process::getpid().as_raw_nonzero().get();
        let id = ProcDir::open(me).unwrap().stat().unwrap().unwrap().id();
        assert!(reopen(id).is_some());
        assert!(reopen(ProcessId { start: id.start - 1, ..id }).is_none());
    }
}
