//! `delete`: containerd's last word on a container. It runs after every task, also after a clean one, while the daemon
//! may still be leaving or living; twice at once; or for an id that was created anew meanwhile.
//!
//! It has 5 s and takes 4. It prints the recorded exit, else 137, and exits 0 only when everything that any file of
//! ours tells of is verifiably gone, or not ours. What it cannot finish goes to a detached `gc`.

use std::{
    ffi::OsStr,
    fs,
    io::{Write, stdout},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use containerd_shim_protos::api::DeleteResponse;
use protobuf::Message;
use record_store::Read;
use runtime_core::{
    config::Config,
    layout::{Layout, hex_digest, is_instance, is_txid},
    owner,
    pod::Pod,
    record::{BundleId, Exit, Record, RunDir},
    recover::{Outcome, Told, unwind_orphan, unwind_pod},
    request::{Outline, group_of},
    sweep::{remove_tombstone, tidy},
};

use crate::{
    error::Error,
    events::timestamp,
    flags::Flags,
    living::{ACKNOWLEDGE, Known, await_dying, hand_over, living, not_clean},
    logging,
    standby::{Standby, Work},
};

/// How long it takes at most: containerd gives 5 s.
const BUDGET: Duration = Duration::from_secs(4);
/// How much longer it may take where the clean-up hangs.
const SLACK: Duration = Duration::from_millis(300);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(300);

/// Runs the action.
pub fn run(flags: &Flags) -> Result<(), Error> {
    logging::to_stderr(flags.debug);
    let deadline = Instant::now() + BUDGET;
    let layout = Layout::new(&Config::root()?, &flags.address);
    let group = group(flags);
    let Some(dir) = RunDir::open(&layout.container(&flags.namespace, &flags.id))? else {
        // A daemon that was killed before or after its last container leaves its socket and its pod file.
        let is_served = Pod::find(&layout, &flags.namespace, &group)?.is_some_and(|pod| pod.read().is_some());
        let standby = is_served.then(|| stand_by(flags, &group, Work::Remains)).flatten();
        await_dying(&layout, &flags.namespace, &group)?;
        forget_daemon(flags, &layout, &group);
        tell(None)?;
        standby.into_iter().for_each(Standby::dismiss);
        return Ok(());
    };
    let found = match dir.read() {
        Read::Record(record) => Some(record),
        Read::Absent | Read::Newer(_) | Read::Unreadable(_) => None,
    };
    let txid = match &found {
        Some(record) if !is_meant(record)? => return tell(None),
        Some(record) => (!record.tombstone).then(|| record.txid.clone()),
        None => dir.transactions()?.into_iter().find(|txid| is_txid(txid)),
    };
    let stand_by = || txid.as_deref().and_then(|txid| stand_by(flags, &group, Work::Transaction(txid)));
    let standby = stand_by();
    let said = Arc::new(AtomicBool::new(false));
    watch_over(&flags.id, found.clone(), deadline + SLACK, &said);
    let ended = end(flags, &layout, &group, deadline);
    if said.swap(true, Ordering::SeqCst) {
        // The answer is out, and says that it is not done: the process is about to end.
        std::thread::park();
    }
    match ended {
        Ok(Some(record)) => {
            tell(Some(&record))?;
            remove_tombstone(&dir, &record)?;
            forget_daemon(flags, &layout, &group);
        }
        Ok(None) => {
            await_dying(&layout, &flags.namespace, &group)?;
            forget_daemon(flags, &layout, &group);
            tell(found.as_ref())?;
        }
        Err(failed) => {
            if standby.is_none() {
                // Once more: there may be room for it now.
                drop(stand_by());
            }
            tell(found.as_ref())?;
            forget_daemon(flags, &layout, &group);
            return Err(failed);
        }
    }
    standby.into_iter().for_each(Standby::dismiss);
    Ok(())
}

/// Whether a record speaks of this very bundle. By the working directory, never by path: the path of an id that was
/// created anew shows the new bundle.
fn is_meant(record: &Record) -> Result<bool, Error> {
    Ok(BundleId::of(Path::new("."))?.as_ref() == Some(&record.bundle))
}

/// Before anything is undone: somebody who goes on with it if this process does not come to its end.
fn stand_by(flags: &Flags, group: &str, work: Work<'_>) -> Option<Standby> {
    let standby = Standby::spawn(flags, group, work);
    standby.inspect_err(|e| tracing::warn!(id = flags.id, error = e.chain(), "nobody stands by")).ok()
}

/// An undo may block in the kernel, deadline or not. Then the answer is given in its place, and the rest is left to
/// whoever stands by: containerd would kill this process and ask no more.
fn watch_over(id: &str, found: Option<Record>, deadline: Instant, said: &Arc<AtomicBool>) {
    let (id, said) = (id.to_owned(), said.clone());
    std::thread::spawn(move || {
        std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
        if said.swap(true, Ordering::SeqCst) {
            return;
        }
        tracing::error!(id, "the clean-up hangs; it goes on without this process");
        if let Err(e) = tell(found.as_ref()) {
            tracing::error!(id, error = e.chain(), "the answer was not given");
        }
        std::process::exit(1);
    });
}

/// Sees to it that nothing is left of the container; what is known of it then.
fn end(flags: &Flags, layout: &Layout, group: &str, deadline: Instant) -> Result<Option<Record>, Error> {
    let (namespace, id) = (&flags.namespace, &flags.id);
    let socket = own_socket(flags, group);
    let socket = socket.as_deref();
    loop {
        let Some(dir) = RunDir::open(&layout.container(namespace, id))? else { return Ok(None) };
        match dir.read() {
            Read::Record(record) if !is_meant(&record)? => return Ok(None),
            Read::Record(record) => return clean_up(layout, &record, socket, deadline).map(Some),
            Read::Absent => {
                unwind_orphan(layout, namespace, id, Told::Now, Instant::now() + ACKNOWLEDGE)?;
                return Ok(None);
            }
            Read::Newer(_) | Read::Unreadable(_) => {
                if !clean_up_unknown(flags, layout, group, &dir, socket, deadline)? {
                    return Ok(None);
                }
            }
        }
    }
}

/// Removes what daemons that are gone left; also where the pod file is lost that names this pod's socket.
fn forget_daemon(flags: &Flags, layout: &Layout, group: &str) {
    tidy(layout);
    let Some(socket) = own_socket(flags, group) else { return };
    let forgotten = Pod::find(layout, &flags.namespace, group)
        .and_then(|pod| pod.map_or(Ok(()), |pod| pod.forget_deserted(&socket)));
    if let Err(e) = forgotten {
        tracing::warn!(error = e.chain(), "the socket of a dead daemon was not removed");
    }
}

/// The pod's socket, by what `start` wrote into the bundle.
fn own_socket(flags: &Flags, group: &str) -> Option<PathBuf> {
    let address = fs::read_to_string("address").ok()?;
    let socket = PathBuf::from(address.trim().strip_prefix("unix://")?);
    let name = hex_digest(&[&flags.address, &flags.namespace, group]);
    (socket.file_name() == Some(OsStr::new(&name))).then_some(socket)
}

/// Sees to it that nothing is left; the record as it is then.
fn clean_up(
    layout: &Layout,
    found: &Record,
    socket: Option<&Path>,
    deadline: Instant,
) -> Result<Record, Error> {
    let Record { namespace, id, group, .. } = found;
    let owners = [found.owner.clone()];
    let mut last = found.clone();
    let mut handed_over = false;
    let mut pause = Duration::from_millis(10);
    loop {
        let unwound = unwind_pod(layout, namespace, id, group, &owners, Told::Now, deadline);
        let outcome = match unwound {
            Ok(outcome) => outcome,
            // containerd asks once, and keeps the id blocked if it fails: what was only in the way gets another try.
            Err(e)
                if !matches!(e, runtime_core::Error::ForeignRecord { .. })
                    && Instant::now() + pause < deadline =>
            {
                tracing::warn!(id, error = e.chain(), "it is tried again");
                std::thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        match outcome {
            // The id was created anew meanwhile: that one is not meant, and ours is gone.
            Outcome::Owned(record) | Outcome::Unwound(record) if record.txid != found.txid => {
                return Ok(last);
            }
            Outcome::Unwound(record) => return Ok(*record),
            // Somebody else removed it, after it was clean: a `delete` at the same time, or the daemon itself.
            Outcome::Nothing => return Ok(last),
            Outcome::Owned(record) => {
                if !handed_over {
                    hand_over(layout, &Known::of(&record, socket), deadline)?;
                    handed_over = true;
                }
                last = *record;
            }
        }
        if Instant::now() >= deadline {
            return Err(not_clean(id, "its daemon is still at work"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The same where the record cannot be understood: whose it is its markers tell, and a daemon that lives has the truth
/// in memory. `true`: that one has ended it, and has written another record or removed it.
fn clean_up_unknown(
    flags: &Flags,
    layout: &Layout,
    group: &str,
    dir: &RunDir,
    socket: Option<&Path>,
    deadline: Instant,
) -> Result<bool, Error> {
    let (namespace, id) = (&flags.namespace, &flags.id);
    let owners: Vec<String> = dir.owners()?.into_iter().filter(|owner| is_instance(owner)).collect();
    while let Some(owner) = living(layout, &owners)? {
        hand_over(layout, &Known::by_markers(flags, group, dir, owner, socket)?, deadline)?;
        while owner::is_alive(layout, owner)? {
            if matches!(dir.read(), Read::Absent | Read::Record(_)) {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Err(not_clean(id, "its daemon is still at work"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    unwind_pod(layout, namespace, id, group, &owners, Told::Now, deadline)?;
    Ok(false)
}

/// The group, by the bundle as far as it is still there.
fn group(flags: &Flags) -> String {
    let group = Outline::read(Path::new(".")).and_then(|outline| group_of(&outline.annotations, &flags.id));
    group.unwrap_or_else(|_| flags.id.clone())
}

/// Prints what containerd makes the end of the task from: what is recorded, else that it was killed.
fn tell(record: Option<&Record>) -> Result<(), Error> {
    let exit = record.and_then(|record| record.exit).unwrap_or_else(Exit::killed);
    let response = DeleteResponse {
        pid: record.map_or(0, Record::pid),
        exit_status: exit.status,
        exited_at: timestamp(exit.at),
        ..DeleteResponse::default()
    };
    let bytes =
        response.write_to_bytes().map_err(|source| Error::Message { action: "write the answer", source })?;
    let mut out = stdout().lock();
    out.write_all(&bytes).and_then(|()| out.flush()).map_err(Error::system("print the answer"))
}
