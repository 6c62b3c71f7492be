//! Threads of a process that the scope looks into: `NAME #N of PID@START`, where N counts those of the same name. Threads
//! of a pool come and go; what is told is that there are more of them.

use crate::entry::Found;
use crate::host::View;

pub(super) fn collect(view: &View<'_>, found: &mut Found<'_>) {
    for inside in &view.insides {
        super::count_each(&inside.threads, inside.id, "threads", found);
    }
}
