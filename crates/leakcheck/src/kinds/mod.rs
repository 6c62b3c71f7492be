//! One file per kind: which of the things on the host count, what they are called, and what a reader wants to know
//! of them. A new kind is a file here, a variant of [`Kind`] and a line in [`collect`].

mod cgroup;
mod file;
mod link;
mod loop_device;
mod mount;
mod netns;
mod process;
mod unix_socket;

use crate::entry::{Found, Kind};
use crate::error::Error;
use crate::host::View;

/// Everything of one kind that is in scope. An error means that the kind could not be looked at at all.
pub(crate) fn collect<'a>(kind: Kind, view: &View<'a>) -> Result<Found<'a>, Error> {
    let mut found = Found::new(kind, view.scope);
    match kind {
        Kind::Process => process::collect(view, &mut found),
        Kind::NetNs => netns::collect(view, &mut found),
        Kind::Link => link::collect(view, &mut found),
        Kind::Mount => mount::collect(view, &mut found),
        Kind::Cgroup => cgroup::collect(view, &mut found),
        Kind::UnixSocket => unix_socket::collect(view, &mut found),
        Kind::File => file::collect(view, &mut found),
        Kind::LoopDevice => loop_device::collect(view, &mut found)?,
    }
    Ok(found)
}
