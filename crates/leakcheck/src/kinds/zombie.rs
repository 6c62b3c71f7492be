//! Children that a process that the scope looks into has not waited for: `PID@START`.

use crate::entry::Found;
use crate::host::View;

pub(super) fn collect(view: &View<'_>, found: &mut Found<'_>) {
    for inside in &view.insides {
        for zombie in &inside.zombies {
            found.looked_at += 1;
            found.add(zombie.id().to_string(), format!("{}: not waited for by {}", zombie.comm, inside.id));
        }
    }
}
