//! A narrow layer over the kernel's rtnetlink, tc and tun, and over network namespaces.
//!
//! What for: to tie a tap to the interface of a pod by tc, so that every frame that arrives at one goes out at the
//! other. All of it acts in the network namespace of the *calling thread*; no program is run.
//!
//! The order of use: [`find`] and [`enter`] (by a process of one thread), [`look`], [`make_tap`], [`make_ingress`] and
//! [`redirect`] for both directions; to undo, [`remove_redirect`], then [`remove_ingress`] if it was made by us.
//!
//! What it owns: filters whose action carries our [`Mark`]. They alone are removed one by one; an ingress qdisc is
//! removed only when it is empty, a `clsact` never. A tap is a lease: it ends with its file descriptor, and the
//! filters and the qdisc at the tap's own ingress end with the tap.
//!
//! When it fails: every failure is an [`Error`] with what was tried, at which interface, and the kernel's own words.
//! A failed call has left nothing, except [`make_tap`], whose tap goes with the descriptor. An interface that is gone
//! means *absent* in all removals and probes. What dies in the middle leaves at most one whole filter with its mark,
//! or an empty ingress qdisc.

pub mod beside;
mod error;
mod link;
mod lock;
mod mac;
mod mark;
mod message;
mod netlink;
mod netns;
mod tap;
mod tc;

pub use error::Error;
pub use link::{Address, Ingress, Interface, Route, look};
pub use mac::Mac;
pub use mark::{Mark, Txid};
pub use netns::{NetnsId, enter, find};
pub use tap::make_tap;
pub use tc::{
    IngressRemoval, has_redirect, make_ingress, redirect, remove_ingress, remove_redirect, remove_stale,
};
