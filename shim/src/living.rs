//! A daemon that lives while a `delete` wants an end of its container: it is asked, and left to it. One that does not
//! answer - stopped, stuck - is killed by its recorded identity, but never by the `delete` of one member of a pod, for
//! its death ends every guest.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use proc_id::ProcessId;
use record_store::Read;
use runtime_core::{
    layout::Layout,
    owner,
    pod::Pod,
    record::{Record, RunDir},
};
use rustix::process::Signal;

use crate::{error::Error, flags::Flags, private};

/// How long a living daemon may take to acknowledge that it takes over.
pub const ACKNOWLEDGE: Duration = Duration::from_millis(500);
/// How long a daemon that does not answer any more may take to be gone.
const DYING: Duration = Duration::from_secs(1);

/// The first one that lives.
pub fn living<'a>(layout: &Layout, owners: &'a [String]) -> Result<Option<&'a String>, Error> {
    for owner in owners {
        if owner::is_alive(layout, owner)? {
            return Ok(Some(owner));
        }
    }
    Ok(None)
}

/// What must be known of a container to hand it over.
pub struct Known<'a> {
    namespace: &'a str,
    id: &'a str,
    group: &'a str,
    owner: &'a str,
    /// More than one only where the record cannot be understood.
    txids: Vec<String>,
    /// The daemon, by the record.
    daemon: Option<&'a ProcessId>,
    /// The pod's socket, by the bundle: for a pod file that is lost.
    socket: Option<&'a Path>,
}

impl<'a> Known<'a> {
    /// By the record.
    pub fn of(record: &'a Record, socket: Option<&'a Path>) -> Self {
        let Record { namespace, id, group, owner, txid, daemon, .. } = record;
        Self { namespace, id, group, owner, txids: vec![txid.clone()], daemon: daemon.as_ref(), socket }
    }

    /// By the markers, where the record cannot be understood.
    pub fn by_markers(
        flags: &'a Flags,
        group: &'a str,
        dir: &RunDir,
        owner: &'a str,
        socket: Option<&'a Path>,
    ) -> Result<Self, Error> {
        let (namespace, id, txids) = (&flags.namespace, &flags.id, dir.transactions()?);
        Ok(Self { namespace, id, group, owner, txids, daemon: None, socket })
    }
}

/// Asks the daemon that lives to end the container. One that does not even acknowledge is killed, if that harms no
/// other container than those of this pod's end.
pub fn hand_over(layout: &Layout, known: &Known<'_>, deadline: Instant) -> Result<(), Error> {
    let file = Pod::open(layout, known.namespace, known.group)?.read();
    // At the pod's socket another daemon would acknowledge as well: it is this one's only where no file says otherwise.
    let (socket, daemon) = match &file {
        Some(file) if file.owner != known.owner => (None, known.daemon),
        Some(file) => (Some(file.socket.as_path()), file.daemon.as_ref().or(known.daemon)),
        None => (known.socket, known.daemon),
    };
    let Some(socket) = socket else {
        // One that is dying needs no asking.
        if dies(layout, known.owner)? {
            return Ok(());
        }
        return Err(not_clean(known.id, "its daemon lives but nobody knows where"));
    };
    if known.txids.iter().any(|txid| private::end(socket, known.id, txid, ACKNOWLEDGE)) {
        return Ok(());
    }
    if known.group != known.id && !is_only_record(layout, known)? {
        // One that is dying does not answer either.
        if dies(layout, known.owner)? {
            return Ok(());
        }
        return Err(not_clean(known.id, "its daemon does not answer, and other containers depend on it"));
    }
    let Some(daemon) = daemon.map(ProcessId::open).transpose()?.flatten() else { return Ok(()) };
    // Still the owner? Then this very process is the daemon that does not answer.
    if owner::is_alive(layout, known.owner)? {
        tracing::warn!(id = known.id, pid = daemon.pid(), "the daemon does not answer: it is killed");
        daemon.signal(Signal::KILL)?;
        daemon.wait(Some(deadline.saturating_duration_since(Instant::now())))?;
    }
    Ok(())
}

/// Whether no other record is of the same owner. What a record says that cannot be understood is unknown, but not whose
/// it is.
fn is_only_record(layout: &Layout, known: &Known<'_>) -> Result<bool, Error> {
    for (namespace, id) in layout.containers().into_iter().filter(|(_, id)| id != known.id) {
        let Some(dir) = RunDir::open(&layout.container(&namespace, &id))? else { continue };
        let is_its = match dir.read() {
            Read::Record(other) => other.owner == known.owner && !other.tombstone,
            Read::Absent | Read::Newer(_) | Read::Unreadable(_) => {
                dir.owners()?.iter().any(|owner| owner == known.owner)
            }
        };
        if is_its {
            return Ok(false);
        }
    }
    Ok(true)
}

/// containerd calls as soon as the connection breaks, which may be before a daemon that was killed has let go of its
/// owner lock: then it is waited for. One that answers lives, and stays.
pub fn await_dying(layout: &Layout, namespace: &str, group: &str) -> Result<(), Error> {
    let pod = Pod::find(layout, namespace, group)?;
    let Some(file) = pod.and_then(|pod| pod.read()) else { return Ok(()) };
    if !owner::is_alive(layout, &file.owner)? || private::is_alive(&file.socket, ACKNOWLEDGE) {
        return Ok(());
    }
    dies(layout, &file.owner).map(drop)
}

/// Whether the daemon is dead soon.
pub fn dies(layout: &Layout, owner: &str) -> Result<bool, Error> {
    let deadline = Instant::now() + DYING;
    while owner::is_alive(layout, owner)? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(true)
}

/// What a `delete` says that could not do all of it in its time.
pub fn not_clean(id: &str, reason: &str) -> Error {
    Error::NotClean { id: id.to_owned(), reason: reason.to_owned() }
}
