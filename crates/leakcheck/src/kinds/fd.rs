//! Open descriptors of a process that the scope looks into: `TARGET #N of PID@START`, where N counts those that are open
//! on the same, or on the same sort of thing (`pipe`, `anon_inode:[eventfd]`). One that was closed and opened again is no
//! difference; one more is.

use crate::entry::Found;
use crate::host::View;

pub(super) fn collect(view: &View<'_>, found: &mut Found<'_>) {
    for inside in &view.insides {
        super::count_each(&inside.fds, inside.id, "fds", found);
    }
}
