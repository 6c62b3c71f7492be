//! `start`: gives the address of the pod's daemon, and makes that daemon where there is none.
//!
//! It is the most exposed moment: if it fails, or is killed, nobody calls `delete`. So the daemon is spawned before
//! anything else is made: it removes what a `start` that dies has made, and leaves. What fails is undone here.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{fs::DirBuilderExt, net::UnixListener},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use runtime_core::{
    config::Config,
    layout::{Layout, hex_digest},
    owner::{self, Owner},
    pod::{Pod, PodFile, inode_of, is_deserted, remove_socket},
    request::{Outline, group_of},
};
use rustix::{
    fs::Mode,
    process::{Resource, getrlimit, umask},
};

use crate::{
    bootstrap::Asked,
    error::Error,
    flags::Flags,
    handover::Daemon,
    private,
    standby::{self, Work},
};

/// How many files a daemon must be able to open: one container takes about 36.
const LEAST_DESCRIPTORS: u64 = 64;
/// How long another `start` of the same pod may hold the pod lock.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How long a daemon that lives may take to answer, or to finish leaving.
const DAEMON_WAIT: Duration = Duration::from_secs(3);

/// Runs the action.
pub fn run(flags: &Flags) -> Result<(), Error> {
    // Descriptors that containerd happened to inherit are not for a daemon that lives on.
    runtime_core::launcher::close_inherited(&[]);
    enough_descriptors()?;
    let asked = Asked::read(flags)?;
    let group = group_of(&Outline::read(Path::new("."))?.annotations, &flags.id)?;
    let layout = Layout::new(&Config::load()?.root, &flags.address);
    let pod = Pod::open(&layout, &flags.namespace, &group)?;
    // Before the first file of ours is made: a pod that is not served yet gets its daemon, which tidies up if we die.
    let served = pod.read().map(|file| owner::is_alive(&layout, &file.owner)).transpose()?.unwrap_or(false);
    let keeper = if served { None } else { Some(Keeper::spawn(flags, &group)?) };
    fault::point("start.spawned").map_err(runtime_core::Error::from)?;
    let lock = pod.lock(Instant::now() + LOCK_WAIT)?;
    match locked(flags, &asked, &layout, &pod, &group, keeper) {
        Ok(()) => Ok(()),
        Err(failed) => {
            // A `start` that fails gets no clean-up call: nothing of it may stay.
            match pod.read() {
                Some(file) if owner::is_alive(&layout, &file.owner)? => {}
                Some(file) => pod.remove(&file, lock)?,
                None => pod.unlock(lock)?,
            }
            Err(failed)
        }
    }
}

/// A daemon that cannot open a file can neither take a call nor leave.
fn enough_descriptors() -> Result<(), Error> {
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < LEAST_DESCRIPTORS => {
            Err(Error::TooFewDescriptors { limit, least: LEAST_DESCRIPTORS })
        }
        _ => Ok(()),
    }
}

/// What is done under the pod lock: the answer is the address of the daemon that serves, or of a new one.
fn locked(
    flags: &Flags,
    asked: &Asked,
    layout: &Layout,
    pod: &Pod,
    group: &str,
    keeper: Option<Keeper>,
) -> Result<(), Error> {
    fault::point("start.locked").map_err(runtime_core::Error::from)?;
    if let Some(address) = running(layout, pod, flags, group)? {
        write_address(&address)?;
        return asked.answer(&address);
    }
    let keeper = match keeper {
        Some(keeper) => keeper,
        None => Keeper::spawn(flags, group)?,
    };
    if let Some(stale) = pod.read() {
        remove_socket(&stale)?;
    }
    let socket = asked.socket_dir.join(hex_digest(&[&flags.address, &flags.namespace, group]));
    Started::new(layout, pod, keeper, socket)?.answer(flags, group, asked)
}

/// The address of a daemon that answers. A daemon that leaves is waited for; one that lives and is silent is an error:
/// there is never a second one beside it.
fn running(layout: &Layout, pod: &Pod, flags: &Flags, group: &str) -> Result<Option<String>, Error> {
    let Some(file) = pod.read() else { return Ok(None) };
    let deadline = Instant::now() + DAEMON_WAIT;
    loop {
        if !owner::is_alive(layout, &file.owner)? {
            return Ok(None);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if private::ping(&file.socket, &flags.id, left) {
            return Ok(Some(address(&file.socket)));
        }
        if left.is_zero() {
            return Err(Error::DaemonSilent { group: group.to_owned() });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The daemon that is to be, and the instance it is spawned as.
struct Keeper {
    instance: String,
    daemon: Daemon,
}

impl Keeper {
    fn spawn(flags: &Flags, group: &str) -> Result<Self, Error> {
        let instance = owner::new_instance()?;
        let daemon = Daemon::spawn(flags, group, &instance)?;
        Ok(Self { instance, daemon })
    }
}

/// What this `start` made for a daemon that is not let go yet.
struct Started<'a> {
    pod: &'a Pod,
    file: PodFile,
    owner: Option<Owner>,
    daemon: Option<Daemon>,
    /// The end of the one who stands by for it.
    line: Option<OwnedFd>,
}

impl<'a> Started<'a> {
    fn new(layout: &Layout, pod: &'a Pod, keeper: Keeper, socket: PathBuf) -> Result<Self, Error> {
        let Keeper { instance, mut daemon } = keeper;
        let owner = Owner::create(layout, instance)?;
        let mut file = pod.file_of(owner.instance(), socket);
        file.daemon = daemon.id().cloned();
        let mut started = Self { pod, file, owner: None, daemon: None, line: None };
        // Before the socket is made, so that whoever cleans up knows where it is.
        let listener = pod.write(&started.file).map_err(Error::from).and_then(|()| {
            fault::point("start.pod").map_err(runtime_core::Error::from)?;
            listen(&started.file.socket)
        });
        started.file.inode = listener.as_ref().ok().and_then(|_| inode_of(&started.file.socket));
        let handed = listener.and_then(|listener| {
            fault::point("start.bound").map_err(runtime_core::Error::from)?;
            pod.write(&started.file)?;
            let (line, its) = standby::line()?;
            daemon.hand_over(&listener, owner.fd(), &its)?;
            Ok(line)
        });
        (started.owner, started.daemon) = (Some(owner), Some(daemon));
        started.line = Some(handed?);
        Ok(started)
    }

    /// Prints the address and lets the daemon go. If that one is killed before containerd's first call, containerd asks
    /// nobody to clean up, and only one `delete` does if a Create was never answered: until then somebody stands by.
    fn answer(mut self, flags: &Flags, group: &str, asked: &Asked) -> Result<(), Error> {
        fault::point("start.answer").map_err(runtime_core::Error::from)?;
        let address = address(&self.file.socket);
        write_address(&address)?;
        asked.answer(&address)?;
        if let Some(line) = self.line.take() {
            // A daemon without one serves as well.
            drop(standby::spawn(flags, group, Work::Daemon(&self.file.owner), line).ok());
        }
        if let Some(daemon) = self.daemon.take() {
            daemon.let_go()?;
        }
        self.owner = None;
        Ok(())
    }
}

impl Drop for Started<'_> {
    /// What was made and not let go is undone: the daemon first, then what it has.
    fn drop(&mut self) {
        self.daemon = None;
        if let Some(owner) = self.owner.take() {
            // Bound by us, and not what a stranger has there.
            if self.file.inode.is_some() {
                remove_socket(&self.file).ok();
            }
            owner.end().ok();
            // The pod file goes with the pod lock, which the caller holds.
            self.pod.write(&self.file).ok();
        }
    }
}

fn address(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

/// Binds and listens, so that the socket accepts before `start` ends: 0600 in a 0700 folder.
fn listen(socket: &Path) -> Result<UnixListener, Error> {
    let folder = socket.parent().unwrap_or(Path::new("/"));
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(folder) {
        Ok(()) => {}
        Err(e) => return Err(Error::file("make", folder)(e)),
    }
    let before = umask(Mode::from_raw_mode(0o177));
    let mut bound = UnixListener::bind(socket);
    if let Err(e) = &bound
        && e.kind() == io::ErrorKind::AddrInUse
    {
        // No daemon of ours is there: we hold the pod lock. Either a stranger listens, or nobody does.
        if !is_deserted(socket) {
            umask(before);
            return Err(Error::SocketInUse { path: socket.to_owned() });
        }
        fs::remove_file(socket).map_err(Error::file("remove the stale socket", socket))?;
        bound = UnixListener::bind(socket);
    }
    umask(before);
    bound.map_err(Error::file("listen at", socket))
}

/// containerd 1.6 and 1.7 find their shims again by this file of the bundle, which the shim has to write. Others
/// ignore it.
fn write_address(address: &str) -> Result<(), Error> {
    let (new, path) = (".address", "address");
    fs::write(new, address).and_then(|()| fs::rename(new, path)).map_err(Error::file("write", path))
}
