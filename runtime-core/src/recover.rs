//! Unwinding a record whose owner is gone: the same undo, by whoever finds it.

use std::time::Instant;

use host_cgroup::Notes;
use record_store::{Lock, Read};

use crate::{
    Error, derive,
    layout::{self, Layout},
    lifecycle::State,
    owner,
    record::{Exit, Record, RunDir},
    steps::{Cx, Held, describe, unwind},
};

/// What became of a record.
#[derive(Debug)]
pub enum Outcome {
    /// There is none, or none that is ours.
    Nothing,
    /// Its owner lives: it is his.
    Owned(Box<Record>),
    /// Everything is undone; this is what is known of the container.
    Unwound(Box<Record>),
}

/// Whether whoever unwinds tells containerd how the container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Its own `delete`, which prints it.
    Now,
    /// Others: it must be kept until then.
    Later,
}

/// Unwinds the container's record if nobody owns it. A tombstone stays in its place. Where there is no room for one, the
/// record stays as it is, unless nobody needs it any more.
///
/// Others only try an owner lock; so the record lock is taken first, and the record and its owner are looked at again
/// under it.
pub fn unwind_orphan(
    layout: &Layout,
    namespace: &str,
    id: &str,
    told: Told,
    deadline: Instant,
) -> Result<Outcome, Error> {
    let Some(dir) = RunDir::open(&layout.container(namespace, id))? else { return Ok(Outcome::Nothing) };
    if let Read::Record(record) = dir.read()
        && !record.tombstone
        && owner::is_alive(layout, &record.owner)?
    {
        return Ok(Outcome::Owned(Box::new(record)));
    }
    let lock = match dir.lock(deadline) {
        Err(Error::Store(e)) if e.is_absent() => return Ok(Outcome::Nothing),
        result => result?,
    };
    let notes = Notes::new(layout.cgroup_notes());
    match dir.read() {
        Read::Absent => {
            if told == Told::Later && living_owner(layout, &dir)?.is_some() {
                // Lost under its daemon, which has it in memory, and ends it.
                return Ok(Outcome::Nothing);
            }
            // A directory without a record means that nothing happened, or that it was lost.
            unwind_derived(&notes, &dir, deadline)?;
            dir.remove(lock)?;
            Ok(Outcome::Nothing)
        }
        Read::Record(record) if record.tombstone => Ok(Outcome::Unwound(Box::new(record))),
        Read::Record(record) if owner::is_alive(layout, &record.owner)? => {
            Ok(Outcome::Owned(Box::new(record)))
        }
        Read::Record(mut record) if record.boot_id != proc_id::boot_id()? => {
            // Everything but the files went with the machine.
            leave(told, &dir, &mut record, Exit::killed(), lock)?;
            Ok(Outcome::Unwound(Box::new(record)))
        }
        Read::Record(record) => {
            let mut record = unwind_held(&notes, &dir, record, &lock, deadline)?;
            let exit = record.exit.unwrap_or_else(Exit::killed);
            leave(told, &dir, &mut record, exit, lock)?;
            Ok(Outcome::Unwound(Box::new(record)))
        }
        Read::Newer(_) | Read::Unreadable(_) if is_owned(layout, &dir)? => Err(Error::ForeignRecord {
            id: id.to_owned(),
            problem: "cannot be understood, and its daemon may live".to_owned(),
        }),
        // Not what it says, but that it cannot be read now: it may be whole.
        Read::Unreadable(e) if !e.is_garbled() => Err(e.into()),
        Read::Newer(schema) => {
            unwind_derived(&notes, &dir, deadline)?;
            Err(Error::ForeignRecord {
                id: id.to_owned(),
                problem: format!("has schema {schema}, newer than ours"),
            })
        }
        Read::Unreadable(e) => {
            let is_known = dir.transactions()?.iter().any(|txid| layout::is_txid(txid));
            unwind_derived(&notes, &dir, deadline)?;
            dir.dir().set_aside(layout::RECORD)?;
            let problem = format!("cannot be read ({})", Error::from(e).chain());
            if !is_known {
                // Nothing tells what to look for.
                return Err(Error::ForeignRecord { id: id.to_owned(), problem });
            }
            tracing::warn!(
                namespace,
                id,
                problem,
                "a record is set aside; what is known of it by other files is undone"
            );
            dir.remove(lock)?;
            Ok(Outcome::Nothing)
        }
    }
}

/// [`unwind_orphan`], and before that, for a sandbox, the same for the members that each of its dead `owners` left.
pub fn unwind_pod(
    layout: &Layout,
    namespace: &str,
    id: &str,
    group: &str,
    owners: &[String],
    told: Told,
    deadline: Instant,
) -> Result<Outcome, Error> {
    if group == id {
        for owner in owners {
            unwind_members(layout, namespace, id, owner, deadline)?;
        }
    }
    unwind_orphan(layout, namespace, id, told, deadline)
}

/// Unwinds the members of a pod whose daemon `owner` is dead, on behalf of its sandbox. Some containerds call nothing for
/// them. They go before the sandbox, whose pid namespace ends only after all in it; their tombstones wait for a `delete`
/// that may come. One that is stuck holds up the sandbox, but not the others.
fn unwind_members(
    layout: &Layout,
    namespace: &str,
    sandbox: &str,
    owner: &str,
    deadline: Instant,
) -> Result<(), Error> {
    if owner::is_alive(layout, owner)? {
        return Ok(());
    }
    let mut members = Vec::new();
    for (_, id) in layout.containers().into_iter().filter(|(ns, id)| ns == namespace && id != sandbox) {
        let Some(dir) = RunDir::open(&layout.container(namespace, &id))? else { continue };
        let is_member = match dir.read() {
            Read::Record(member) => member.group == sandbox && !member.tombstone,
            // What it says is unknown, but not whose it is.
            Read::Newer(_) | Read::Unreadable(_) => dir.owners()?.iter().any(|own| own == owner),
            Read::Absent => false,
        };
        members.extend(is_member.then_some(id));
    }
    let mut stuck = None;
    // Each has its share of the time, and so has the sandbox.
    for (id, behind) in members.iter().zip((0..members.len()).rev()) {
        let shares = u32::try_from(behind + 2).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / shares;
        match unwind_orphan(layout, namespace, id, Told::Later, Instant::now() + share) {
            // Its processes are ended as far as they can be found, and it itself is kept.
            Err(e @ Error::ForeignRecord { .. }) => tracing::warn!(id, error = e.chain(), "unwound"),
            Err(e) => drop(stuck.get_or_insert(e)),
            Ok(_) => {}
        }
    }
    stuck.map_or(Ok(()), Err)
}

/// Whether a directory whose record cannot be understood belongs to a daemon that lives, by its markers; one without
/// a marker that tells counts as owned.
pub(crate) fn is_owned(layout: &Layout, dir: &RunDir) -> Result<bool, Error> {
    for owner in dir.owners()? {
        if !layout::is_instance(&owner) || owner::is_alive(layout, &owner)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The daemon that lives whose directory without a record this is. A marker that names nobody is of a Create that was
/// cut off before it made anything.
pub(crate) fn living_owner(layout: &Layout, dir: &RunDir) -> Result<Option<String>, Error> {
    for owner in dir.owners()? {
        if layout::is_instance(&owner) && owner::is_alive(layout, &owner)? {
            return Ok(Some(owner));
        }
    }
    Ok(None)
}

/// Unwinds a record whose lock is held.
pub(crate) fn unwind_held(
    notes: &Notes,
    dir: &RunDir,
    mut record: Record,
    lock: &Lock,
    deadline: Instant,
) -> Result<Record, Error> {
    tracing::info!(namespace = record.namespace, id = record.id, txid = record.txid, state = %record.state, "unwinding");
    record.state = State::Unwinding;
    let mut cx = Cx::unwinding(&mut record, dir, Held::Throughout(lock), notes);
    if let Err(e) = saga::Context::persist(&mut cx) {
        tracing::warn!(error = e.chain(), "the record was not written");
    }
    let report = unwind(&mut cx, None, deadline);
    if report.is_clean() {
        return Ok(record);
    }
    record.state = State::UnwindBlocked;
    if let Err(e) = dir.write_locked(&record) {
        tracing::warn!(error = e.chain(), "the record was not written");
    }
    Err(Error::UnwindBlocked { id: record.id, report: describe(&report) })
}

/// Leaves a tombstone where everything is undone. Where there is no room for one, a full disk say, nothing stays if its
/// `delete` has what it says already, or has to do without it: else that would keep the id blocked.
pub(crate) fn leave(
    told: Told,
    dir: &RunDir,
    record: &mut Record,
    exit: Exit,
    lock: Lock,
) -> Result<(), Error> {
    match bury(dir, record, exit) {
        Err(e) if told == Told::Now => {
            tracing::warn!(
                id = record.id,
                error = e.chain(),
                "there is no room for a tombstone: nothing is kept"
            );
            dir.remove(lock)
        }
        buried => buried,
    }
}

/// Leaves a tombstone: bundle identity, pid and exit, until the id's own `delete` has printed them. The caller holds
/// the record lock.
fn bury(dir: &RunDir, record: &mut Record, exit: Exit) -> Result<(), Error> {
    record.tombstone = true;
    record.exit.get_or_insert(exit);
    record.state = State::Stopped;
    dir.write_locked(record)?;
    dir.clear()
}

/// Unwinds what can be derived where the record cannot be read: its transactions are known by their markers. It is
/// kept as it is.
pub(crate) fn unwind_derived(notes: &Notes, dir: &RunDir, deadline: Instant) -> Result<(), Error> {
    for txid in dir.transactions()?.into_iter().filter(|txid| layout::is_txid(txid)) {
        let mut record = derive::record(dir, &txid)?;
        let report = unwind(&mut Cx::unwinding(&mut record, dir, Held::Unwritten, notes), None, deadline);
        if !report.is_clean() {
            return Err(Error::UnwindBlocked { id: record.id, report: describe(&report) });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
