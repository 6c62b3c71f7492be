//! `delete`: containerd's last word on a container. It runs after every task, also after a clean one, while the daemon
//! may still be leaving or living; twice at once; or for an id that was created anew meanwhile.
//!
//! It has 5 s and takes 4. It prints the recorded exit, else 137, and exits 0 only when everything is verifiably gone
//! or not ours. What it cannot finish goes to a detached `gc`.

use std::{
    ffi::OsStr,
    fs,
    io::{Write, stdout},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
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
    layout::{Layout, hex_digest, is_instance},
    owner,
    pod::Pod,
    record::{BundleId, Exit, Record, RunDir},
    recover::{Outcome, Told, unwind_members, unwind_members_of, unwind_orphan},
    request::{annotations, group_of},
    sweep::{remove_tombstone, tidy},
};
use rustix::process::Signal;

use crate::{error::Error, events::timestamp, flags::Flags, logging, private};

/// How long it takes at most: containerd gives 5 s.
const BUDGET: Duration = Duration::from_secs(4);
/// How much longer it may take where the clean-up hangs.
const SLACK: Duration = Duration::from_millis(300);
/// How long a living daemon may take to acknowledge that it takes over.
const ACKNOWLEDGE: Duration = Duration::from_millis(500);

/// How long a daemon that does not answer any more may take to be gone.
const DYING: Duration = Duration::from_secs(1);

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(300);

/// Runs the action.
pub fn run(flags: &Flags) -> Result<(), Error> {
    logging::to_stderr(flags.debug);
    let deadline = Instant::now() + BUDGET;
    let layout = Layout::new(&Config::root()?, &flags.address);
    let Some((dir, record)) = find(flags, &layout)? else { return print(0, Exit::killed()) };
    let said = Arc::new(AtomicBool::new(false));
    watch_over(flags, &record, deadline + SLACK, &said);
    let result = clean_up(flags, &layout, &record, deadline);
    if said.swap(true, Ordering::SeqCst) {
        // The answer is out, and says that it is not done: the process is about to end.
        std::thread::park();
    }
    match &result {
        Ok(record) => {
            print(record.pid(), record.exit.unwrap_or_else(Exit::killed))?;
            remove_tombstone(&dir, record)?;
            forget_daemon(flags, &layout);
        }
        Err(_) => {
            print(record.pid(), record.exit.unwrap_or_else(Exit::killed))?;
            detach_gc(flags, &record.txid)?;
        }
    }
    result.map(drop)
}

/// An undo may block in the kernel, deadline or not. Then the answer is given in its place, and the rest is left to
/// `gc`: containerd would kill this process and ask no more.
fn watch_over(flags: &Flags, record: &Record, deadline: Instant, said: &Arc<AtomicBool>) {
    let (flags, record, said) = (flags.clone(), record.clone(), said.clone());
    std::thread::spawn(move || {
        std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
        if said.swap(true, Ordering::SeqCst) {
            return;
        }
        tracing::error!(
            id = record.id,
            txid = record.txid,
            "the clean-up hangs; it goes on without this process"
        );
        let answered = print(record.pid(), record.exit.unwrap_or_else(Exit::killed));
        for failed in [answered, detach_gc(&flags, &record.txid)].into_iter().filter_map(Result::err) {
            tracing::error!(id = record.id, error = failed.chain(), "the answer was not given");
        }
        std::process::exit(1);
    });
}

/// The container's record, if it speaks of this very bundle.
fn find(flags: &Flags, layout: &Layout) -> Result<Option<(RunDir, Record)>, Error> {
    let none = || {
        // A daemon that was killed before or after its last container leaves its socket and its pod file.
        await_dying_daemon(flags, layout)?;
        forget_daemon(flags, layout);
        Ok(None)
    };
    let Some(dir) = RunDir::open(&layout.container(&flags.namespace, &flags.id))? else { return none() };
    let record = match dir.read() {
        Read::Record(record) => record,
        Read::Absent => {
            unwind_orphan(layout, &flags.namespace, &flags.id, Told::Now, Instant::now() + ACKNOWLEDGE)?;
            return none();
        }
        // Its processes are ended as far as they can be found; it itself is kept, and that is an error.
        Read::Newer(_) | Read::Unreadable(_) => {
            let unwound = clean_up_unknown(flags, layout, &dir, Instant::now() + BUDGET);
            forget_daemon(flags, layout);
            return if unwound? { find(flags, layout) } else { none() };
        }
    };
    // By the working directory, never by path: the path of an id that was created anew shows the new bundle.
    if BundleId::of(Path::new("."))?.as_ref() != Some(&record.bundle) {
        return Ok(None);
    }
    Ok(Some((dir, record)))
}

/// containerd calls as soon as the connection breaks, which may be before a daemon that was killed has let go of its
/// owner lock: then it is waited for. One that answers lives, and stays.
fn await_dying_daemon(flags: &Flags, layout: &Layout) -> Result<(), Error> {
    let pod = Pod::find(layout, &flags.namespace, &group(flags))?;
    let Some(file) = pod.and_then(|pod| pod.read()) else { return Ok(()) };
    if !owner::is_alive(layout, &file.owner)? || private::is_alive(&file.socket, ACKNOWLEDGE) {
        return Ok(());
    }
    dies(layout, &file.owner).map(drop)
}

/// Removes what daemons that are gone left; also where the pod file is lost that names this pod's socket, by what
/// `start` wrote into the bundle.
fn forget_daemon(flags: &Flags, layout: &Layout) {
    tidy(layout);
    let group = group(flags);
    let name = hex_digest(&[&flags.address, &flags.namespace, &group]);
    let Ok(address) = fs::read_to_string("address") else { return };
    let Some(socket) = address.trim().strip_prefix("unix://").map(Path::new) else { return };
    if socket.file_name() != Some(OsStr::new(&name)) {
        return;
    }
    let forgotten = Pod::find(layout, &flags.namespace, &group)
        .and_then(|pod| pod.map_or(Ok(()), |pod| pod.forget_deserted(socket)));
    if let Err(e) = forgotten {
        tracing::warn!(error = e.chain(), "the socket of a dead daemon was not removed");
    }
}

/// Whether the daemon is dead soon.
fn dies(layout: &Layout, owner: &str) -> Result<bool, Error> {
    let deadline = Instant::now() + DYING;
    while owner::is_alive(layout, owner)? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(true)
}

/// Sees to it that nothing is left; the record as it is then.
fn clean_up(flags: &Flags, layout: &Layout, found: &Record, deadline: Instant) -> Result<Record, Error> {
    let (namespace, id) = (&flags.namespace, &flags.id);
    let mut last = found.clone();
    let mut handed_over = false;
    let mut pause = Duration::from_millis(10);
    loop {
        let unwound = unwind_members_of(layout, found, deadline)
            .and_then(|()| unwind_orphan(layout, namespace, id, Told::Now, deadline));
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
                    hand_over(layout, &Known::of(&record), deadline)?;
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
fn clean_up_unknown(flags: &Flags, layout: &Layout, dir: &RunDir, deadline: Instant) -> Result<bool, Error> {
    let (namespace, id, group) = (&flags.namespace, &flags.id, group(flags));
    let owners: Vec<String> = dir.owners()?.into_iter().filter(|owner| is_instance(owner)).collect();
    while let Some(owner) = living(layout, &owners)? {
        let known = Known { namespace, id, group: &group, owner, txids: dir.transactions()? };
        hand_over(layout, &known, deadline)?;
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
    if group == *id {
        for owner in &owners {
            unwind_members(layout, namespace, id, owner, deadline)?;
        }
    }
    unwind_orphan(layout, namespace, id, Told::Now, deadline)?;
    Ok(false)
}

/// The first one that lives.
fn living<'a>(layout: &Layout, owners: &'a [String]) -> Result<Option<&'a String>, Error> {
    for owner in owners {
        if owner::is_alive(layout, owner)? {
            return Ok(Some(owner));
        }
    }
    Ok(None)
}

/// What must be known of a container to hand it over.
struct Known<'a> {
    namespace: &'a str,
    id: &'a str,
    group: &'a str,
    owner: &'a str,
    /// More than one only where the record cannot be understood.
    txids: Vec<String>,
}

impl<'a> Known<'a> {
    fn of(record: &'a Record) -> Self {
        let Record { namespace, id, group, owner, txid, .. } = record;
        Self { namespace, id, group, owner, txids: vec![txid.clone()] }
    }
}

/// Asks the daemon that lives to end the container. One that does not even acknowledge is killed, if that harms no
/// other container than those of this pod's end.
fn hand_over(layout: &Layout, known: &Known<'_>, deadline: Instant) -> Result<(), Error> {
    let file = Pod::open(layout, known.namespace, known.group)?.read().filter(|f| f.owner == known.owner);
    let Some(file) = file else {
        // One that is dying needs no asking.
        if dies(layout, known.owner)? {
            return Ok(());
        }
        return Err(not_clean(known.id, "its daemon lives but nobody knows where"));
    };
    if known.txids.iter().any(|txid| private::end(&file.socket, known.id, txid, ACKNOWLEDGE)) {
        return Ok(());
    }
    if known.group != known.id && !is_only_record(layout, known)? {
        // One that is dying does not answer either.
        if dies(layout, known.owner)? {
            return Ok(());
        }
        return Err(not_clean(known.id, "its daemon does not answer, and other containers depend on it"));
    }
    let Some(daemon) = file.daemon.as_ref().map(proc_id::ProcessId::open).transpose()?.flatten() else {
        return Ok(());
    };
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

/// The group, by the bundle as far as it is still there.
fn group(flags: &Flags) -> String {
    let group = annotations(Path::new(".")).and_then(|annotations| group_of(&annotations, &flags.id));
    group.unwrap_or_else(|_| flags.id.clone())
}

fn not_clean(id: &str, reason: &str) -> Error {
    Error::NotClean { id: id.to_owned(), reason: reason.to_owned() }
}

fn print(pid: u32, exit: Exit) -> Result<(), Error> {
    let response = DeleteResponse {
        pid,
        exit_status: exit.status,
        exited_at: timestamp(exit.at),
        ..DeleteResponse::default()
    };
    let bytes =
        response.write_to_bytes().map_err(|source| Error::Message { action: "write the answer", source })?;
    let mut out = stdout().lock();
    out.write_all(&bytes).and_then(|()| out.flush()).map_err(Error::system("print the answer"))
}

/// Leaves the rest to a process of its own: own session, bounded, its stdio on /dev/null, for an inherited pipe would
/// hold containerd.
fn detach_gc(flags: &Flags, txid: &str) -> Result<(), Error> {
    let group = group(flags);
    Command::new("/proc/self/exe")
        .arg0("containerd-shim-urunc-v2")
        .args(["-namespace", &flags.namespace, "-address", &flags.address, "-id", &flags.id])
        .args(["-group", &group, "-txid", txid, "gc"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(drop)
        .map_err(Error::system("leave the rest to gc"))
}
