//! What daemon and launcher say to each other: one JSON message per packet, fds beside it.

use std::path::PathBuf;

use host_mount::RootfsMount;
use host_net::{Interface, Mark, NetnsId, Txid};
use serde::{Deserialize, Serialize};

use crate::request::{Namespace, Sysctl};

/// From the daemon.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToLauncher {
    /// The first message; fds: a pidfd of the daemon, then those of [`Setup::doors`].
    Setup(Setup),
    /// The only first message of a helper instead: to enter the network namespace of the fd, and to act in it.
    Enter,
    /// Asks for an fd of the image's root once more.
    Image,
    /// Asks what is in its network namespace now.
    Look,
    /// Changes something in its network namespace.
    Network(NetworkAct),
    /// The gate; fds: stdin, stdout, the control channel.
    Exec(Exec),
    /// The gate of a sandbox: from here on it only holds its namespaces.
    Hold,
}

/// Something that is done in a network namespace, by the launcher in it or by a helper that entered it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkAct {
    /// Removes what dead containers left at the interface, and makes its ingress qdisc where there is none.
    Ingress {
        /// The interface.
        index: u32,
    },
    /// Makes the tap, which the launcher keeps, and ties it to the interface.
    Tie {
        /// The interface.
        index: u32,
        /// The tap's name.
        tap: String,
        /// Its MTU, in bytes.
        mtu: u32,
        /// Whose it is.
        mark: Mark,
    },
    /// Removes a transaction's filter from the interface.
    Untie {
        /// The interface.
        index: u32,
        /// The transaction.
        txid: Txid,
    },
    /// Whether a transaction's filter is at the interface.
    IsTied {
        /// The interface.
        index: u32,
        /// The transaction.
        txid: Txid,
    },
    /// Removes the interface's ingress qdisc, unless somebody has a filter in it.
    RemoveIngress {
        /// The interface.
        index: u32,
    },
}

/// How the launcher sets itself up.
#[derive(Debug, Serialize, Deserialize)]
pub struct Setup {
    /// How to get into the leaf of each hierarchy, in the order of the fds.
    pub doors: Vec<Door>,
    /// A directory of the host over which the launcher, in its own mount namespace, mounts the private root.
    pub place: PathBuf,
    /// The namespaces to join or to make.
    pub namespaces: Vec<Namespace>,
    /// The host name, for a UTS namespace that is made.
    pub hostname: Option<String>,
    /// Kernel parameters of its namespaces.
    pub sysctls: Vec<Sysctl>,
    /// The root file system; `None`: a sandbox, which has an empty root.
    pub view: Option<View>,
}

/// What the launcher of a guest shows to its monitor.
#[derive(Debug, Serialize, Deserialize)]
pub struct View {
    /// The mounts of the container's root file system; empty: it is at `root` already.
    pub rootfs: Vec<RootfsMount>,
    /// Where it is then.
    pub root: PathBuf,
    /// Folders of the host to show in the private root beside `/usr`.
    pub folders: Vec<PathBuf>,
}

/// How to get into a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Door {
    /// By writing `0` to the fd: a v1 cgroup's `tasks`.
    Write,
    /// By being cloned into the fd: a v2 cgroup's directory.
    Clone,
}

/// What the launcher becomes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Exec {
    /// The program.
    pub program: PathBuf,
    /// Its arguments, without argv\[0\].
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<String>,
    /// The device nodes that it needs.
    pub devices: Vec<Device>,
    /// The kernel's path in the image.
    pub kernel: String,
    /// The initrd's.
    pub initrd: Option<String>,
    /// Whether the monitor gets the tap.
    pub tap: bool,
}

/// A device node.
#[derive(Debug, Serialize, Deserialize)]
pub struct Device {
    /// Its name below `/dev`.
    pub name: String,
    /// Its major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
}

/// From the launcher.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FromLauncher {
    /// The launcher goes on as another process; fd: its pidfd.
    Child,
    /// Set up; fd: the image's root, unless it is a sandbox.
    Ready(Network),
    /// The answer to [`ToLauncher::Image`]; fd: the image's root.
    Image,
    /// The answer to [`ToLauncher::Look`].
    Network(Network),
    /// The answer to [`ToLauncher::Network`]: what was asked about is so, or was changed by it. Of
    /// [`NetworkAct::Ingress`] and [`NetworkAct::Tie`]: the qdisc is ours.
    Done(bool),
    /// The answer to [`ToLauncher::Hold`], the last word.
    Holding,
    /// It could not go on, and ends.
    Failed {
        /// What it was doing.
        action: String,
        /// The error's number, 0: none.
        errno: i32,
    },
}

/// The launcher's network namespace, and the name that the pod has on the network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Network {
    /// The host name, if it is of a UTS namespace of the container's own.
    pub hostname: Option<String>,
    /// Which it is.
    pub netns: NetnsId,
    /// Whether it is the host's.
    pub is_host: bool,
    /// The interface whose place a guest can take.
    pub interface: Option<Interface>,
}
