//! `start`: gives the address of the pod's daemon, and makes that daemon where there is none.
//!
//! It is the most exposed moment: if it fails, or is killed, nobody calls `delete`. So everything it makes is either
//! undone here or tied to it: the daemon leaves by itself unless `start` lets it go after the answer is out.

use std::{
    fs, io,
    io::Write,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::{
            fs::DirBuilderExt,
            net::{UnixListener, UnixStream},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use proc_id::Process;
use runtime_core::{
    config::Config,
    layout::{Layout, hex_digest},
    owner::{self, Owner},
    pod::{Pod, PodFile, inode_of, remove_socket},
    request::{annotations, group_of},
};
use rustix::{
    fs::Mode,
    io::{FdFlags, fcntl_setfd},
    pipe::{PipeFlags, pipe_with},
    process::{Signal, umask},
};

use crate::{bootstrap::Asked, error::Error, flags::Flags, private};

/// How long another `start` of the same pod may hold the pod lock.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How long a daemon that lives may take to answer, or to finish leaving.
const DAEMON_WAIT: Duration = Duration::from_secs(3);

/// Runs the action.
pub fn run(flags: &Flags) -> Result<(), Error> {
    // Descriptors that containerd happened to inherit are not for a daemon that lives on.
    runtime_core::launcher::close_inherited(&[]);
    let asked = Asked::read(flags)?;
    let group = group_of(&annotations(Path::new("."))?, &flags.id)?;
    let layout = Layout::new(&Config::load()?.root, &flags.address);
    let pod = Pod::open(&layout, &flags.namespace, &group)?;
    let lock = pod.lock(Instant::now() + LOCK_WAIT)?;

    if let Some(address) = running(&layout, &pod, flags, &group)? {
        write_address(&address)?;
        return asked.answer(&address);
    }
    if let Some(stale) = pod.read() {
        remove_socket(&stale)?;
    }
    let socket = asked.socket_dir.join(hex_digest(&[&flags.address, &flags.namespace, &group]));
    let started = Started::new(flags, &layout, &pod, &group, socket);
    match started.and_then(|started| started.answer(&asked)) {
        Ok(()) => Ok(()),
        Err(failed) => {
            // A `start` that fails gets no clean-up call: nothing of it may stay.
            match pod.read() {
                Some(file) => pod.remove(&file, lock)?,
                None => pod.unlock(lock)?,
            }
            Err(failed)
        }
    }
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
        if !file.leaving && private::ping(&file.socket, &flags.id, left) {
            return Ok(Some(address(&file.socket)));
        }
        if left.is_zero() {
            return Err(Error::DaemonSilent { group: group.to_owned() });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A daemon that was made by this `start` and is not let go yet.
struct Started<'a> {
    pod: &'a Pod,
    file: PodFile,
    owner: Option<Owner>,
    daemon: Option<(Child, Process)>,
    release: Option<fs::File>,
}

impl<'a> Started<'a> {
    fn new(
        flags: &Flags,
        layout: &Layout,
        pod: &'a Pod,
        group: &str,
        socket: PathBuf,
    ) -> Result<Self, Error> {
        let owner = Owner::create(layout)?;
        let file = pod.file_of(owner.instance(), socket);
        let mut started = Self { pod, file, owner: Some(owner), daemon: None, release: None };
        // Before the socket is made, so that whoever cleans up knows where it is.
        pod.write(&started.file)?;
        fault::point("start.pod").map_err(runtime_core::Error::from)?;
        let listener = listen(&started.file.socket)?;
        started.file.inode = inode_of(&started.file.socket);
        started.spawn(flags, group, &listener)?;
        pod.write(&started.file)?;
        Ok(started)
    }

    fn spawn(&mut self, flags: &Flags, group: &str, listener: &UnixListener) -> Result<(), Error> {
        let (wait, release) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::system("make a pipe"))?;
        let Some(owner) = &self.owner else { return Ok(()) };
        // This process has one thread and spawns one child: it is safe to let these three be inherited.
        let fds: Vec<RawFd> = [listener.as_fd(), owner.fd().as_fd(), wait.as_fd()]
            .into_iter()
            .map(|fd| fcntl_setfd(fd, FdFlags::empty()).map(|()| fd.as_raw_fd()))
            .collect::<Result<_, _>>()
            .map_err(Error::system("hand over descriptors"))?;
        let list = fds.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("containerd-shim-urunc-v2")
            .args(["-namespace", &flags.namespace, "-address", &flags.address, "-id", &flags.id])
            .args(["-group", group, "-instance", owner.instance(), "-fds", &list])
            .arg("-socket")
            .arg(&self.file.socket)
            .args(flags.debug.then_some("-debug"))
            .arg("daemon")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().map_err(Error::system("spawn the daemon"))?;
        let process = Process::of_child(child.id())?;
        self.file.daemon = Some(process.id().clone());
        self.daemon = Some((child, process));
        self.release = Some(release.into());
        Ok(())
    }

    /// Prints the address and lets the daemon go.
    fn answer(mut self, asked: &Asked) -> Result<(), Error> {
        fault::point("start.answer").map_err(runtime_core::Error::from)?;
        let address = address(&self.file.socket);
        write_address(&address)?;
        asked.answer(&address)?;
        if let Some(mut release) = self.release.take() {
            release.write_all(b"g").map_err(Error::system("let the daemon go"))?;
        }
        self.daemon = None;
        self.owner = None;
        Ok(())
    }
}

impl Drop for Started<'_> {
    /// What was made and not let go is undone: the daemon first, then what it has.
    fn drop(&mut self) {
        if let Some((mut child, process)) = self.daemon.take() {
            process.signal(Signal::KILL).ok();
            child.wait().ok();
        }
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
        if UnixStream::connect(socket).is_ok() {
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

/// Takes the descriptors that `start` handed over, and makes them ours alone.
pub fn take_fds(flags: &Flags) -> Result<[OwnedFd; 3], Error> {
    use std::os::fd::FromRawFd;
    let [listener, owner, release] = flags.fds[..] else {
        return Err(Error::Usage { problem: "-fds needs three numbers".to_owned() });
    };
    runtime_core::launcher::close_inherited(&flags.fds);
    // SAFETY: `start` made these descriptors inheritable for us, and nothing else in this fresh process has them.
    let fds = [listener, owner, release].map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    for fd in &fds {
        fcntl_setfd(fd, FdFlags::CLOEXEC).map_err(Error::system("keep its descriptors"))?;
    }
    Ok(fds)
}
