//! What is done in the pod's network namespace: by the launcher, which is in it, while it waits at its gate; and by a
//! helper, a short-lived process of the same kind that enters it to undo what a dead launcher left.
//!
//! The tap is the launcher's and ends with it, or with the monitor that it becomes. Filters and qdiscs do not: they are
//! steps of the transaction.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use host_net::{IngressRemoval, Mark, NetnsId};
use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
    system::uname,
};

use super::{Failure, Setup, fault_at, receive, send};
use crate::launcher::{
    message::{self, FromLauncher, NetworkAct, ToLauncher},
    socket::Socket,
};
use crate::request::NamespaceKind;

/// The network namespace that this process is in.
pub struct Network {
    netns: NetnsId,
    is_host: bool,
    hostname: Option<String>,
    /// `/dev/net/tun`, which belongs to the namespace in which it was opened. `None`: the host has none.
    tun: Option<OwnedFd>,
    /// The tap and its index.
    tap: Option<(OwnedFd, u32)>,
}

impl Network {
    /// Opens what is needed later, when `/dev` and `/proc` of the host are not in sight any more.
    pub fn open(setup: &Setup, host: NetnsId) -> Result<Self, Failure> {
        let netns = NetnsId::current()?;
        let is_host = netns == host;
        let own_name = setup.namespaces.iter().any(|ns| ns.kind == NamespaceKind::Uts);
        let hostname = own_name.then(|| uname().nodename().to_string_lossy().into_owned());
        Ok(Self { netns, is_host, hostname, tun: if is_host { None } else { open_tun()? }, tap: None })
    }

    /// What is in it now. In the host's own nothing is looked at.
    pub fn look(&self) -> Result<message::Network, Failure> {
        let interface = if self.is_host { None } else { host_net::look()? };
        Ok(message::Network { interface, ..self.unseen() })
    }

    /// Which it is.
    pub fn unseen(&self) -> message::Network {
        message::Network {
            netns: self.netns,
            is_host: self.is_host,
            hostname: self.hostname.clone(),
            interface: None,
        }
    }

    /// Changes something in it, or tells.
    pub fn act(&mut self, act: &NetworkAct) -> Result<bool, Failure> {
        if self.is_host {
            return Err(Failure {
                action: "touch the host's network".to_owned(),
                errno: Errno::PERM.raw_os_error(),
            });
        }
        match act {
            NetworkAct::Ingress { index } => {
                // What a dead tap left would swallow every frame; a qdisc that was made for it is ours to remove.
                let stale = host_net::remove_stale(*index)?;
                fault_at("launcher.stale-gone")?;
                let made = host_net::make_ingress(*index)?;
                fault_at("launcher.ingress")?;
                Ok(made || stale.iter().any(|mark| mark.ingress_made))
            }
            NetworkAct::Tie { index, tap, mtu, mark } => self.tie(*index, tap, *mtu, *mark),
            act => undo(act),
        }
    }

    /// Whether the qdisc was made once more.
    fn tie(&mut self, index: u32, name: &str, mtu: u32, mut mark: Mark) -> Result<bool, Failure> {
        let tap = match &self.tap {
            // A Start that failed has left it, and Start was called again.
            Some((_, tap)) => *tap,
            None => self.make_tap(name, mtu)?,
        };
        fault_at("launcher.tap")?;
        host_net::make_ingress(tap)?;
        // A kernel that cannot do that has guests all the same, which the pod's other containers do not reach.
        host_net::beside::let_meet(tap)?;
        host_net::remove_redirect(tap, &mark.txid)?;
        host_net::redirect(tap, index, &mark)?;
        fault_at("launcher.half-tied")?;
        // Whoever had it before may just have taken his empty qdisc along.
        let made = host_net::make_ingress(index)?;
        mark.ingress_made |= made;
        host_net::redirect(index, tap, &mark)?;
        Ok(made)
    }

    fn make_tap(&mut self, name: &str, mtu: u32) -> Result<u32, Failure> {
        let none = || Failure {
            action: "make a tap: the host has no /dev/net/tun (modprobe tun)".to_owned(),
            errno: Errno::NODEV.raw_os_error(),
        };
        let tun = self.tun.take().ok_or_else(none)?;
        let index = host_net::make_tap(tun.as_fd(), name, mtu)?;
        self.tap = Some((tun, index));
        Ok(index)
    }

    /// The tap, for the monitor.
    pub fn into_tap(self) -> Option<OwnedFd> {
        self.tap.map(|(fd, _)| fd)
    }
}

/// The acts that need no tap.
fn undo(act: &NetworkAct) -> Result<bool, Failure> {
    Ok(match act {
        NetworkAct::Untie { index, txid } => host_net::remove_redirect(*index, txid)? > 0,
        NetworkAct::IsTied { index, txid } => host_net::has_redirect(*index, txid)?,
        NetworkAct::RemoveIngress { index } => host_net::remove_ingress(*index)? == IngressRemoval::Removed,
        NetworkAct::Ingress { .. } | NetworkAct::Tie { .. } => false,
    })
}

fn open_tun() -> Result<Option<OwnedFd>, Failure> {
    match open(Path::new("/dev/net/tun"), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        // Without it a guest has no network; one that needs none must run all the same.
        Err(Errno::NOENT | Errno::NODEV | Errno::NXIO) => Ok(None),
        Err(e) => Err(Failure::of("open /dev/net/tun")(e)),
    }
}

/// A helper: enters the network namespace, acts as it is told, and ends with its socket.
pub fn help(socket: &Socket, fds: Vec<OwnedFd>) -> Result<(), Failure> {
    let Some(netns) = fds.into_iter().next() else { return Ok(()) };
    host_net::enter(&netns)?;
    send(socket, &FromLauncher::Done(true), &[])?;
    while let Some((ToLauncher::Network(act), _)) = receive(socket)? {
        send(socket, &FromLauncher::Done(undo(&act)?), &[])?;
    }
    Ok(())
}
