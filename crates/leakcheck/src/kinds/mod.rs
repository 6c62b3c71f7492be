//! One file per kind: which of the things on the host count, what they are called, and what a reader wants to know
//! of them. A new kind is a file here, a variant of [`Kind`] and a line in [`collect`].

mod address;
mod cgroup;
mod fd;
mod file;
mod filter;
mod holder;
mod link;
mod loop_device;
mod mount;
mod netns;
mod process;
mod qdisc;
mod thread;
mod unix_socket;
mod zombie;

use std::collections::BTreeMap;

use crate::entry::{Found, Kind};
use crate::error::Error;
use crate::host::{ProcessId, View};

/// Everything of one kind that is in scope. An error means that the kind could not be looked at at all.
pub(crate) fn collect<'a>(kind: Kind, view: &View<'a>) -> Result<Found<'a>, Error> {
    let mut found = Found::new(kind, view.scope);
    match kind {
        Kind::Process => process::collect(view, &mut found),
        Kind::NetNs => netns::collect(view, &mut found),
        Kind::Link => link::collect(view, &mut found),
        Kind::Address => address::collect(view, &mut found),
        Kind::Qdisc => qdisc::collect(view, &mut found),
        Kind::Filter => filter::collect(view, &mut found),
        Kind::Mount => mount::collect(view, &mut found),
        Kind::Cgroup => cgroup::collect(view, &mut found),
        Kind::UnixSocket => unix_socket::collect(view, &mut found),
        Kind::File => file::collect(view, &mut found),
        Kind::LoopDevice => loop_device::collect(view, &mut found)?,
        Kind::Holder => holder::collect(view, &mut found)?,
        Kind::Fd => fd::collect(view, &mut found),
        Kind::Thread => thread::collect(view, &mut found),
        Kind::Zombie => zombie::collect(view, &mut found),
    }
    Ok(found)
}

/// More numbers of fds or threads than this tell a reader nothing more.
const NUMBERS: usize = 12;

/// Adds each of a process's things of a sort as the first, second, ... of its sort.
fn count_each(things: &BTreeMap<String, Vec<i32>>, id: ProcessId, plural: &str, found: &mut Found<'_>) {
    for (sort, numbers) in things {
        let shown = numbers.iter().take(NUMBERS).map(i32::to_string).collect::<Vec<_>>().join(" ");
        let all = match numbers.len().saturating_sub(NUMBERS) {
            0 => shown,
            more => format!("{shown} and {more} more"),
        };
        for nth in 1..=numbers.len() {
            found.looked_at += 1;
            found.add(format!("{sort} #{nth} of {id}"), format!("{plural} {all}"));
        }
    }
}
