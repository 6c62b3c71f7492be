//! The launcher's own side: a fresh process with one thread, from its spawn to its exec.
//!
//! Whatever fails is one message on the socket and the end of the process; the end of the daemon ends it, too. It
//! makes nothing that outlives it: no directory, no mount that the host sees.

mod exec;
mod hold;
mod namespaces;
mod network;
mod root;

use std::{
    io::Write,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{Mode, OFlags, open},
    io::{Errno, fcntl_dupfd_cloexec},
    process::{
        DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal, setsid, umask,
    },
    stdio::dup2_stdin,
};

use super::{
    Setup,
    message::{Door, FromLauncher, ToLauncher},
    socket::Socket,
};

/// Where the image's root is in the private root.
const IMAGE: &str = "/image";

/// What could not be done, and the error's number.
#[derive(Debug)]
pub(super) struct Failure {
    action: String,
    errno: i32,
}

impl Failure {
    /// Of a layer's error, whose number is somewhere in its chain.
    fn of_error(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut source = error.source();
        let mut errno = Errno::INVAL.raw_os_error();
        while let Some(e) = source {
            if let Some(io) = e.downcast_ref::<std::io::Error>() {
                errno = io.raw_os_error().unwrap_or(errno);
            }
            source = e.source();
        }
        let action = error.to_string();
        Self { action: action.strip_prefix("cannot ").unwrap_or(&action).to_owned(), errno }
    }

    fn of<E: Into<Errno>>(action: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |e| Self { action: action.into(), errno: e.into().raw_os_error() }
    }
}

impl From<host_mount::Error> for Failure {
    fn from(error: host_mount::Error) -> Self {
        Self::of_error(&error)
    }
}

impl From<host_net::Error> for Failure {
    fn from(error: host_net::Error) -> Self {
        Self::of_error(&error)
    }
}

/// A fault that a test injected, as a failure.
fn fault_at(name: &'static str) -> Result<(), Failure> {
    fault::point(name).map_err(|f| Failure { action: f.to_string(), errno: Errno::IO.raw_os_error() })
}

/// Runs the launcher; never returns.
pub fn main() -> ! {
    let socket = match take_socket() {
        Ok(socket) => socket,
        Err(e) => {
            // Nobody to tell but our stderr, which the daemon reads.
            writeln!(std::io::stderr(), "launcher: no socket on stdin: {e}").ok();
            std::process::exit(2);
        }
    };
    let code = match run(&socket) {
        Ok(()) => 0,
        Err(failure) => {
            let message = FromLauncher::Failed { action: failure.action, errno: failure.errno };
            socket.send(&message, &[]).ok();
            1
        }
    };
    std::process::exit(code)
}

/// Takes the socket from fd 0, and closes whatever else was inherited: containerd hands its own leftovers on.
fn take_socket() -> Result<Socket, Errno> {
    let socket = fcntl_dupfd_cloexec(rustix::stdio::stdin(), 10)?;
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    dup2_stdin(&null)?;
    drop(null);
    crate::launcher::close_inherited(&[socket.as_raw_fd()]);
    Ok(socket.into())
}

fn run(socket: &Socket) -> Result<(), Failure> {
    umask(Mode::from_raw_mode(0o022));
    setsid().map_err(Failure::of("make a session"))?;
    let (setup, fds) = match receive(socket)? {
        Some((ToLauncher::Setup(setup), fds)) => (setup, fds),
        Some((ToLauncher::Enter, fds)) => return network::help(socket, fds),
        _ => return Ok(()),
    };
    let mut fds = fds.into_iter();
    let Some(daemon) = fds.next() else { return Ok(()) };
    // Out of the way of the numbers that the monitor's fds get.
    let daemon = {
        let low = daemon;
        fcntl_dupfd_cloexec(&low, 10).map_err(Failure::of("keep its descriptors"))?
    };
    let mut unified = None;
    for (door, fd) in setup.doors.iter().zip(fds) {
        match door {
            Door::Write => drop(rustix::io::write(&fd, b"0").map_err(Failure::of("join its cgroup"))?),
            Door::Clone => unified = Some(fd),
        }
    }
    fault_at("launcher.joined")?;
    tie_to(&daemon)?;
    if setup.view.is_none() {
        // Its program is the host's shim: no member of a shared pid namespace may reach it through /proc/1/exe.
        set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Failure::of("hide its program"))?;
    }
    let host = setup.view.as_ref().map(root::Host::look).transpose()?;
    let left = namespaces::Host::look()?;
    namespaces::enter(&setup.namespaces)?;
    match namespaces::clone_once(unified.as_ref())? {
        namespaces::Cloned::Parent(pidfd) => {
            fault_at("launcher.cloned")?;
            return send(socket, &FromLauncher::Child, &[pidfd.as_fd()]);
        }
        namespaces::Cloned::Child => {}
    }
    drop(unified);
    tie_to(&daemon)?;
    fault_at("launcher.namespaces")?;
    namespaces::configure(&setup, &left)?;
    let network = network::Network::open(&setup, left.network)?;
    match (&setup.view, host) {
        (Some(view), Some(host)) => root::build(&setup.place, view, &host)?,
        _ => root::build_empty(&setup.place)?,
    }
    fault_at("launcher.root")?;
    let seen = if setup.view.is_some() { network.look()? } else { network.unseen() };
    match setup.view {
        Some(_) => show_image(socket, &FromLauncher::Ready(seen))?,
        None => send(socket, &FromLauncher::Ready(seen), &[])?,
    }
    wait_at_gate(socket, &setup, network, &daemon)
}

fn wait_at_gate(
    socket: &Socket,
    setup: &Setup,
    mut network: network::Network,
    daemon: &OwnedFd,
) -> Result<(), Failure> {
    loop {
        let mut fds = [PollFd::new(socket, PollFlags::IN), PollFd::new(daemon, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(Failure::of("wait at the gate")(e)),
        }
        if !fds[1].revents().is_empty() {
            return Ok(());
        }
        if fds[0].revents().is_empty() {
            continue;
        }
        match receive(socket)? {
            Some((ToLauncher::Image, _)) => show_image(socket, &FromLauncher::Image)?,
            Some((ToLauncher::Look, _)) => send(socket, &FromLauncher::Network(network.look()?), &[])?,
            Some((ToLauncher::Network(act), _)) => {
                send(socket, &FromLauncher::Done(network.act(&act)?), &[])?;
            }
            Some((ToLauncher::Exec(what), mut fds)) => {
                let Some(view) = &setup.view else { return Ok(()) };
                fds.extend(network.into_tap().filter(|_| what.tap));
                return exec::become_monitor(&what, fds, view, daemon);
            }
            Some((ToLauncher::Hold, _)) => {
                drop(network);
                return hold::hold(socket, daemon);
            }
            Some((ToLauncher::Setup(_) | ToLauncher::Enter, _)) | None => return Ok(()),
        }
    }
}

fn show_image(socket: &Socket, message: &FromLauncher) -> Result<(), Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let image = open(IMAGE, flags, Mode::empty()).map_err(Failure::of("open the image"))?;
    send(socket, message, &[image.as_fd()])
}

/// Dies with the daemon: by its parent-death signal, and, should the daemon have died before that was set, by a look
/// at its pidfd. (The parent's pid says nothing: it is always 0 in a new pid namespace.)
fn tie_to(daemon: &OwnedFd) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(Failure::of("tie itself to the daemon"))?;
    let mut fds = [PollFd::new(daemon, PollFlags::IN)];
    match poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(0) => Ok(()),
        Ok(_) => std::process::exit(0),
        Err(e) => Err(Failure::of("look at the daemon")(e)),
    }
}

fn receive(socket: &Socket) -> Result<Option<(ToLauncher, Vec<OwnedFd>)>, Failure> {
    socket.receive().map_err(|e| Failure {
        action: format!("understand the daemon ({e})"),
        errno: e.raw_os_error().unwrap_or(Errno::PROTO.raw_os_error()),
    })
}

fn send(socket: &Socket, message: &FromLauncher, fds: &[BorrowedFd<'_>]) -> Result<(), Failure> {
    socket.send(message, fds).map_err(|e| Failure {
        action: "answer the daemon".to_owned(),
        errno: e.raw_os_error().unwrap_or(Errno::PROTO.raw_os_error()),
    })
}

fn path(text: &str) -> PathBuf {
    PathBuf::from(text)
}
