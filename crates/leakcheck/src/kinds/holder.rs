//! Strangers that hold something of ours: `PID@START`. By itself such a process is none of ours, and so is what descends
//! from it; but it keeps alive what we let go, and was perhaps made by us.
//!
//! Ours are, for this: files in scope, also deleted ones; named sockets in scope; loop devices in scope; taps with our
//! name or a marker in it; network namespaces in scope, also when it lives in one.

use std::collections::HashSet;

use super::{link, loop_device, unix_socket};
use crate::entry::Found;
use crate::error::Error;
use crate::host::View;
use crate::host::processes::Stranger;
use crate::host::unix::inode_of;

/// More fds than this tell a reader nothing more.
const SHOWN: usize = 3;

pub(super) fn collect(view: &View<'_>, found: &mut Found<'_>) -> Result<(), Error> {
    let ours = Ours {
        view,
        sockets: unix_socket::bound(view).into_iter().map(|(inode, _, _)| inode).collect(),
        devices: match view.strangers.iter().flat_map(|s| &s.fds).any(|(_, t)| t.starts_with("/dev/loop")) {
            true => loop_device::in_scope(view)?.into_iter().map(|device| device.path).collect(),
            false => HashSet::new(),
        },
        namespaces: view.namespaces.iter().filter(|space| !space.home).map(|space| space.link()).collect(),
    };
    found.looked_at = view.strangers.len();
    for stranger in &view.strangers {
        let mut held: Vec<String> = stranger
            .fds
            .iter()
            .filter_map(|(fd, target)| Some(format!("fd {fd} is {}", ours.what(stranger, *fd, target)?)))
            .collect();
        if ours.namespaces.contains(stranger.netns.as_str()) {
            held.insert(0, format!("lives in {}", stranger.netns));
        }
        if held.is_empty() {
            continue;
        }
        let more = match held.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        held.truncate(SHOWN);
        found.add(stranger.id.to_string(), format!("{}: {}{more}", stranger.comm, held.join(", ")));
    }
    Ok(())
}

struct Ours<'a> {
    view: &'a View<'a>,
    /// Inodes.
    sockets: HashSet<&'a str>,
    /// Paths.
    devices: HashSet<String>,
    /// `net:[INODE]`.
    namespaces: HashSet<&'a str>,
}

impl Ours<'_> {
    /// What of ours an fd is open on.
    fn what(&self, stranger: &Stranger, fd: i32, target: &str) -> Option<String> {
        if let Some(inode) = inode_of(target) {
            return self.sockets.contains(inode).then(|| format!("a socket of ours ({target})"));
        }
        if target.ends_with("/net/tun") {
            return self.tap(stranger, fd);
        }
        let ours = self.namespaces.contains(target)
            || self.devices.contains(target)
            || (target.starts_with('/') && self.view.scope.covers(target));
        ours.then(|| target.to_owned())
    }

    fn tap(&self, stranger: &Stranger, fd: i32) -> Option<String> {
        let info = std::fs::read_to_string(format!("/proc/{}/fdinfo/{fd}", stranger.id.pid)).ok()?;
        let name = info.lines().find_map(|line| line.strip_prefix("iff:"))?.trim();
        link::is_our_tap(self.view, name).then(|| format!("the tap {name}"))
    }
}
