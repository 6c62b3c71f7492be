//! Pods, as a kubelet makes them: a containerd with Kubernetes' interface (CRI), a bridge of the test's own, cgroups of
//! the test's own, and `crictl`.
//!
//! A test makes a [`Node`], runs a [`Pod`] on it, members in the pod, and ends with [`Node::finish`]. What has one name
//! for all of a host (the namespace `k8s.io`, the folder of CNI's results) is told apart by containerd's address and by
//! ids that nobody else has.

mod config;
mod container;
mod crictl;
mod daemons;
mod image;
mod log;
mod netns;
mod network;
mod node;
mod parent;
mod pod;
mod status;

pub use container::Container;
pub use crictl::{Member, Sandbox};
pub use log::Line;
pub use netns::{Scene, within};
pub use network::Network;
pub use node::{Node, Setup};
pub use parent::Parent;
pub use pod::{Handler, Pod, Share};
pub use status::Exit;

pub(super) use config::{configuration, imports};
pub(super) use image::pack;
pub(super) use network::{RESULTS, remove as remove_network};
