//! Joining and making the namespaces of the spec, and the one clone behind it.
//!
//! A process cannot move itself into a pid namespace, nor cheaply into a v2 cgroup: it makes a child that is born there
//! and goes on in its place. The first stage makes nothing and ends at once.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
};

use host_net::NetnsId;
use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
    system::sethostname,
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space},
};

use super::{Failure, Setup};
use crate::request::{Namespace, NamespaceKind};

/// Who we are after [`clone_once`].
pub enum Cloned {
    /// The first stage, with the child's pidfd.
    Parent(OwnedFd),
    /// The child.
    Child,
}

/// Joins and makes the namespaces, and a mount namespace in any case.
pub fn enter(namespaces: &[Namespace]) -> Result<(), Failure> {
    let mut fresh = UnshareFlags::NEWNS;
    for ns in namespaces {
        let (flag, link) = match ns.kind {
            NamespaceKind::Network => (UnshareFlags::NEWNET, LinkNameSpaceType::Network),
            NamespaceKind::Ipc => (UnshareFlags::NEWIPC, LinkNameSpaceType::InterProcessCommunication),
            NamespaceKind::Uts => (UnshareFlags::NEWUTS, LinkNameSpaceType::HostNameAndNISDomainName),
            NamespaceKind::Cgroup => (UnshareFlags::NEWCGROUP, LinkNameSpaceType::ControlGroup),
            NamespaceKind::Pid => (UnshareFlags::NEWPID, LinkNameSpaceType::ProcessID),
        };
        match &ns.path {
            None => fresh |= flag,
            Some(path) => {
                let action = || format!("join the {:?} namespace {}", ns.kind, path.display());
                let fd = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                    .map_err(|e: Errno| Failure::of(action())(e))?;
                move_into_link_name_space(fd.as_fd(), Some(link))
                    .map_err(|e: Errno| Failure::of(action())(e))?;
            }
        }
    }
    // SAFETY: this process has one thread and shares no fd table with another one.
    unsafe { rustix::thread::unshare_unsafe(fresh) }.map_err(Failure::of("make its namespaces"))
}

/// The namespaces of the daemon, in which a launcher begins: the host's, where nothing is changed.
pub struct Host {
    /// The network.
    pub network: NetnsId,
    names: Vec<(NamespaceKind, PathBuf)>,
}

impl Host {
    /// Looks before any is left.
    pub fn look() -> Result<Self, Failure> {
        let kinds = [NamespaceKind::Network, NamespaceKind::Ipc, NamespaceKind::Uts];
        let names = kinds.into_iter().map(|kind| Ok((kind, current(kind)?)));
        Ok(Self { network: NetnsId::current()?, names: names.collect::<Result<_, Failure>>()? })
    }

    fn is_still(&self, kind: NamespaceKind) -> Result<bool, Failure> {
        Ok(self.names.contains(&(kind, current(kind)?)))
    }
}

/// The namespace that we are in, as the kernel names it: `net:[4026531840]`.
fn current(kind: NamespaceKind) -> Result<PathBuf, Failure> {
    let file = match kind {
        NamespaceKind::Network => "net",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Uts => "uts",
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Pid => "pid",
    };
    let path = Path::new("/proc/self/ns").join(file);
    fs::read_link(&path).map_err(|e| Failure {
        action: format!("look at {}", path.display()),
        errno: e.raw_os_error().unwrap_or(Errno::IO.raw_os_error()),
    })
}

/// Names the host and sets the kernel parameters of the namespaces, while the host's `/proc` is in sight.
pub fn configure(setup: &Setup, host: &Host) -> Result<(), Failure> {
    let own = |ns: &Namespace| ns.kind == NamespaceKind::Uts && ns.path.is_none();
    if let Some(hostname) = &setup.hostname
        && setup.namespaces.iter().any(own)
    {
        sethostname(hostname.as_bytes()).map_err(Failure::of(format!("set the host name {hostname:?}")))?;
    }
    for sysctl in &setup.sysctls {
        let file = Path::new("/proc/sys").join(&sysctl.file);
        if host.is_still(sysctl.kind)? {
            let name = sysctl.file.display();
            let action =
                format!("set linux.sysctl {name}: its {:?} namespace is the host's own", sysctl.kind);
            return Err(Failure { action, errno: Errno::PERM.raw_os_error() });
        }
        fs::write(&file, &sysctl.value).map_err(|e| Failure {
            action: format!("write {:?} to {}", sysctl.value, file.display()),
            errno: e.raw_os_error().unwrap_or(Errno::IO.raw_os_error()),
        })?;
    }
    Ok(())
}

/// Makes the child that goes on: in the pid namespace that was entered, and in the v2 cgroup `unified`. It is a child of the daemon (`CLONE_PARENT`), so that
/// PDEATHSIG means the daemon's death and the daemon reaps it.
pub fn clone_once(unified: Option<&OwnedFd>) -> Result<Cloned, Failure> {
    /// clone3(2): place the child in the cgroup `cgroup` (Linux 5.7).
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    #[repr(C, align(8))]
    #[derive(Default)]
    struct CloneArgs {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: (libc::CLONE_PARENT | libc::CLONE_PIDFD).cast_unsigned().into(),
        pidfd: (&raw mut pidfd) as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = unified {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: without CLONE_VM this is a fork: the child has a copy of our memory and of our only thread. `args` has
    // the size that is given and lives across the call; the kernel writes `pidfd` in the parent only.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match result {
        0 => Ok(Cloned::Child),
        // SAFETY: the kernel has just made this fd for us.
        1.. => Ok(Cloned::Parent(unsafe { OwnedFd::from_raw_fd(pidfd) })),
        _ => {
            let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
            Err(Failure { action: "clone itself into its cgroup and pid namespace".to_owned(), errno })
        }
    }
}
