//! `gc` (hidden): finishes one container's clean-up that a `delete` could not finish, or that of a daemon for which nobody
//! is called. It stands by until it is its turn. Detached, bounded, and only for that very transaction or daemon.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use record_store::Read;
use runtime_core::{
    Error as CoreError,
    config::Config,
    layout::{Layout, is_instance, is_txid},
    record::{Record, RunDir},
    recover::{Outcome, Told, unwind_pod},
    sweep::tidy,
};

use crate::{
    error::Error,
    flags::Flags,
    living::{Known, await_dying, dies, hand_over, living},
    standby,
};

/// How long it tries.
const BOUND: Duration = Duration::from_secs(600);
/// How long one try may take.
const EACH: Duration = Duration::from_secs(10);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long it stays behind its work for the bundle to go.
const LINGER: Duration = Duration::from_secs(4);
/// How often it looks, then.
const LOOK: Duration = Duration::from_millis(200);

/// Runs the action.
pub fn run(flags: &Flags) -> Result<(), Error> {
    runtime_core::launcher::close_inherited(&[]);
    rustix::process::setsid().map_err(Error::system("make a session"))?;
    if !standby::await_turn()? {
        return Ok(());
    }
    let layout = Layout::new(&Config::root()?, &flags.address);
    let done = finish(flags, &layout);
    tidy(&layout);
    done?;
    see_tombstones_off(flags, &layout);
    Ok(())
}

/// Waits for a daemon that is just dying, and undoes what is meant, again and again.
fn finish(flags: &Flags, layout: &Layout) -> Result<(), Error> {
    await_dying(layout, &flags.namespace, &flags.group)?;
    if !flags.instance.is_empty() {
        // Its end of the pipe is gone before its owner lock, and its pod file may be.
        dies(layout, &flags.instance)?;
    }
    let end = Instant::now() + BOUND;
    let mut pause = Duration::from_millis(200);
    let mut left = meant(flags, layout);
    while !left.is_empty() && Instant::now() < end {
        let mut again = Vec::new();
        for id in left {
            if !is_done(flags, layout, &id)? {
                again.push(id);
            }
        }
        left = again;
        if !left.is_empty() {
            sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
    Ok(())
}

/// The containers that there may be something to do for: the one of a transaction, or all of a daemon, the sandbox first.
fn meant(flags: &Flags, layout: &Layout) -> Vec<String> {
    let Flags { namespace, id, group, txid, instance, .. } = flags;
    if !txid.is_empty() {
        return vec![id.clone()];
    }
    if instance.is_empty() {
        return vec![];
    }
    let mut all: Vec<_> = layout.containers().into_iter().filter(|(ns, _)| ns == namespace).collect();
    all.sort_by_key(|(_, id)| id != group);
    all.into_iter().map(|(_, id)| id).collect()
}

/// Tries it once; whether nothing more is to be done.
fn is_done(flags: &Flags, layout: &Layout, id: &str) -> Result<bool, Error> {
    let Flags { namespace, group, .. } = flags;
    let Some(dir) = RunDir::open(&layout.container(namespace, id))? else { return Ok(true) };
    let Some(Ours { record, owners }) = ours(&dir, flags)? else { return Ok(true) };
    let deadline = Instant::now() + fault::deadline("deadline.gc", EACH);
    match living(layout, &owners)? {
        // It is ending.
        Some(_) if flags.txid.is_empty() => {}
        // Its `delete` may not have come to ask it.
        Some(owner) => {
            let known = match &record {
                Some(record) => Known::of(record, None),
                None => Known::by_markers(flags, group, &dir, owner, None)?,
            };
            if let Err(e) = hand_over(layout, &known, deadline) {
                tracing::debug!(id, error = e.chain(), "its daemon did not take it over");
            }
        }
        None => match unwind_pod(layout, namespace, id, group, &owners, Told::Later, deadline) {
            // There is nothing more that anybody could do.
            Ok(Outcome::Unwound(_) | Outcome::Nothing) | Err(CoreError::ForeignRecord { .. }) => {
                return Ok(true);
            }
            Ok(Outcome::Owned(_)) | Err(_) => {}
        },
    }
    Ok(false)
}

/// A pod's containerd removes the bundle of a container whose `delete` was killed, or never came, and asks for nothing more:
/// then its tombstone waits for nobody.
fn see_tombstones_off(flags: &Flags, layout: &Layout) {
    let end = Instant::now() + LINGER;
    let waits = |id: &String| {
        let dir = RunDir::open(&layout.container(&flags.namespace, id));
        let read = dir.ok().flatten().map(|dir| dir.read());
        matches!(read, Some(Read::Record(record)) if record.tombstone && is_meant(&record, flags))
    };
    while Instant::now() < end && meant(flags, layout).iter().any(waits) {
        tidy(layout);
        sleep(LOOK);
    }
}

/// The container, as it was found at one look.
struct Ours {
    /// `None`: it cannot be understood.
    record: Option<Record>,
    owners: Vec<String>,
}

/// `None`: it is done by somebody else, or another container of that id by now.
fn ours(dir: &RunDir, flags: &Flags) -> Result<Option<Ours>, Error> {
    match dir.read() {
        Read::Record(record) if is_meant(&record, flags) && !record.tombstone => {
            Ok(Some(Ours { owners: vec![record.owner.clone()], record: Some(record) }))
        }
        Read::Record(_) => Ok(None),
        Read::Absent | Read::Newer(_) | Read::Unreadable(_) => {
            let owners: Vec<_> = dir.owners()?.into_iter().filter(|owner| is_instance(owner)).collect();
            let is_its = |txid: &String| is_txid(txid) && *txid == flags.txid;
            let is_its = dir.transactions()?.iter().any(is_its) || owners.contains(&flags.instance);
            Ok(is_its.then_some(Ours { record: None, owners }))
        }
    }
}

fn is_meant(record: &Record, flags: &Flags) -> bool {
    record.txid == flags.txid || record.owner == flags.instance
}
