//! Processes: `PID@START`. Which ones count is decided where they are read, since the other kinds ask for it too.

use crate::entry::Found;
use crate::host::View;

/// A command line longer than this tells a reader nothing more.
const COMMAND: usize = 160;

pub(super) fn collect(view: &View<'_>, found: &mut Found<'_>) {
    found.looked_at = view.process_count;
    for process in &view.processes {
        let stat = &process.stat;
        let state = if stat.state == 'Z' { "a zombie, " } else { "" };
        let command: String = process.command.chars().take(COMMAND).collect();
        let detail = format!("{}: {state}child of {}: {command}", stat.comm, stat.ppid);
        found.add(process.id.to_string(), detail);
    }
}
