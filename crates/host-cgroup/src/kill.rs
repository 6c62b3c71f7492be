//! Killing what is inside a leaf, and nothing else.
//!
//! `cgroup.kill` of the v2 leaf does it at once and misses no fork. What it does not reach (older kernels; a process
//! that somebody moved out of the v2 leaf only) is killed one by one: read the leaf, open pidfds, read the leaf
//! *again*, signal through the pidfds of those that are still in it. A number that was used anew in between is either
//! not listed any more, or its pidfd belongs to a dead process, or it is in the leaf and thus ours. Never the freezer:
//! a frozen v1 cgroup does not die.
//!
//! The calling process is never signalled, even if somebody put it into the leaf; neither is number 0, which stands
//! for a process that our pid namespace cannot see.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use crate::files::{Files, is_absent};
use crate::plan::Ours;
use crate::wait::Backoff;
use crate::{Error, LeafPlan, Version};

/// Pidfds that are open at a time: far below any limit on open files.
const BATCH: usize = 128;

/// The processes in the leaf and in cgroups below it, in all hierarchies, sorted. Those that this pid namespace
/// cannot see are left out.
pub fn procs(files: &dyn Files, plan: &LeafPlan) -> Result<Vec<u32>, Error> {
    procs_in(files, plan.hierarchies.iter().map(|h| h.leaf_dir()))
}

/// The processes in these directories and below them, in all of them together.
pub(crate) fn procs_in(files: &dyn Files, dirs: impl Iterator<Item = PathBuf>) -> Result<Vec<u32>, Error> {
    let mut all = BTreeSet::new();
    for dir in dirs {
        all.extend(members(files, &dir)?);
    }
    all.remove(&0);
    Ok(all.into_iter().collect())
}

/// Kills every process in the leaf until none is left in any hierarchy.
///
/// At the deadline: the last error, or [`Error::StillAlive`]. A killed process counts as gone when the kernel has taken
/// it out of the leaf; whoever must know that it has let go of everything asks its pidfd.
pub fn kill(files: &dyn Files, plan: &LeafPlan, deadline: Instant) -> Result<(), Error> {
    kill_in_all(files, &plan.ours(), deadline)
}

/// Kills every process in these directories.
pub(crate) fn kill_in_all(files: &dyn Files, ours: &[Ours], deadline: Instant) -> Result<(), Error> {
    let mut backoff = Backoff::until(deadline);
    loop {
        let mut alive = BTreeSet::new();
        let mut failure = None;
        let of = |version| ours.iter().filter(move |own| own.version == version);
        for own in of(Version::V2).chain(of(Version::V1)) {
            match kill_in(files, own, &mut alive) {
                Ok(()) => {}
                Err(error) => failure = Some(error),
            }
        }
        if alive.is_empty() && failure.is_none() {
            return Ok(());
        }
        if !backoff.pause() {
            return Err(failure.unwrap_or(Error::StillAlive { procs: alive.into_iter().collect() }));
        }
    }
}

/// One round in one hierarchy. `seen` holds those that earlier hierarchies of this round have dealt with.
fn kill_in(
    files: &dyn Files,
    Ours { dir: leaf, version, .. }: &Ours,
    seen: &mut BTreeSet<u32>,
) -> Result<(), Error> {
    let own = getpid().as_raw_pid().unsigned_abs();
    let listed = members(files, leaf)?;
    let new: Vec<u32> = listed.iter().copied().filter(|pid| !seen.contains(pid)).collect();
    seen.extend(&new);
    // The kernel would not spare us.
    if *version == Version::V2 && !listed.is_empty() && !listed.contains(&own) {
        let file = leaf.join("cgroup.kill");
        match files.write(&file, "1") {
            Ok(()) => return Ok(()),
            // Before Linux 5.14.
            Err(e) if is_absent(e) => {}
            Err(e) => return Err(Error::io("writing", file)(e)),
        }
    }
    for batch in new.chunks(BATCH) {
        let others = batch.iter().copied().filter(|&pid| pid != own);
        signal_batch(files, leaf, others, Signal::KILL, &|_| true)?;
    }
    Ok(())
}

/// Sends a signal, once, to every process in these directories that is meant; who has got it.
pub(crate) fn signal_in_all(
    files: &dyn Files,
    dirs: impl Iterator<Item = PathBuf>,
    signal: Signal,
    is_meant: &dyn Fn(u32) -> bool,
) -> Result<BTreeSet<u32>, Error> {
    let own = getpid().as_raw_pid().unsigned_abs();
    let (mut seen, mut got) = (BTreeSet::from([own]), BTreeSet::new());
    for dir in dirs {
        let new: Vec<u32> = members(files, &dir)?.into_iter().filter(|pid| seen.insert(*pid)).collect();
        for batch in new.chunks(BATCH) {
            got.extend(signal_batch(files, &dir, batch.iter().copied(), signal, is_meant)?);
        }
    }
    Ok(got)
}

/// What a pid says of a process is asked behind its pidfd: whoever has the number then is it, or it is dead.
fn signal_batch(
    files: &dyn Files,
    leaf: &Path,
    pids: impl Iterator<Item = u32>,
    signal: Signal,
    is_meant: &dyn Fn(u32) -> bool,
) -> Result<Vec<u32>, Error> {
    let mut got = Vec::new();
    let mut open: Vec<(u32, OwnedFd)> = Vec::new();
    for number in pids {
        let Some(pid) = i32::try_from(number).ok().filter(|&n| n > 0).and_then(Pid::from_raw) else {
            continue;
        };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => open.push((number, fd)),
            Err(e) if proc_id::is_no_process(e) => {}
            Err(source) => return Err(Error::Signal { pid: number, source }),
        }
    }
    if open.is_empty() {
        return Ok(got);
    }
    let still = members(files, leaf)?;
    for (pid, fd) in open {
        if !still.contains(&pid) || !is_meant(pid) {
            continue;
        }
        match pidfd_send_signal(&fd, signal) {
            Ok(()) => got.push(pid),
            Err(Errno::SRCH) => {}
            Err(source) => return Err(Error::Signal { pid, source }),
        }
    }
    Ok(got)
}

/// The processes in a cgroup and below it; none if it is not there. Sorted, with 0 for those that cannot be seen.
pub(crate) fn members(files: &dyn Files, dir: &Path) -> Result<Vec<u32>, Error> {
    let mut all = BTreeSet::new();
    collect(files, dir, &mut all)?;
    Ok(all.into_iter().collect())
}

fn collect(files: &dyn Files, dir: &Path, all: &mut BTreeSet<u32>) -> Result<(), Error> {
    let file = dir.join("cgroup.procs");
    match files.read(&file) {
        Ok(text) => {
            for line in text.lines() {
                let unclear = |_| Error::Content { file: file.clone(), text: line.to_owned() };
                all.insert(line.trim().parse().map_err(unclear)?);
            }
        }
        // Not there; or a threaded v2 cgroup, whose processes are listed by the one above it.
        Err(e) if is_absent(e) || e == Errno::OPNOTSUPP => {}
        Err(e) => return Err(Error::io("reading", file)(e)),
    }
    match files.subdirs(dir) {
        Ok(children) => children.iter().try_for_each(|child| collect(files, child, all)),
        Err(e) if is_absent(e) => Ok(()),
        Err(e) => Err(Error::io("listing", dir)(e)),
    }
}
