//! What containerd is told. Published after its commit, in order; a sink never blocks.

use crate::record::Exit;

/// Something that happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskEvent {
    /// It was created.
    Create {
        /// The id.
        id: String,
        /// The bundle.
        bundle: String,
        /// The launcher's pid.
        pid: u32,
        /// The root file system's mounts.
        rootfs: Vec<host_mount::RootfsMount>,
        /// Its stdio.
        stdio: crate::record::StdioPaths,
    },
    /// Its guest runs.
    Start {
        /// The id.
        id: String,
        /// The monitor's pid.
        pid: u32,
    },
    /// A process is to be executed in it.
    ExecAdded {
        /// The id.
        id: String,
        /// The process's own.
        exec: String,
    },
    /// It runs.
    ExecStarted {
        /// The id.
        id: String,
        /// The process's own.
        exec: String,
        /// Its pid.
        pid: u32,
    },
    /// It has ended.
    ExecExit {
        /// The id.
        id: String,
        /// The process's own.
        exec: String,
        /// The pid it had.
        pid: u32,
        /// How it ended.
        exit: Exit,
    },
    /// Its guest was halted.
    Paused {
        /// The id.
        id: String,
    },
    /// Its guest goes on.
    Resumed {
        /// The id.
        id: String,
    },
    /// The kernel killed its monitor, or a helper, for want of memory.
    Oom {
        /// The id.
        id: String,
    },
    /// Its monitor is gone.
    Exit {
        /// The id.
        id: String,
        /// The pid it had.
        pid: u32,
        /// How it ended.
        exit: Exit,
    },
    /// It was deleted.
    Delete {
        /// The id.
        id: String,
        /// The pid it had.
        pid: u32,
        /// How it ended.
        exit: Exit,
    },
}

/// Takes events, in order, and never blocks.
pub trait EventSink: Send + Sync {
    /// Queues one event.
    fn publish(&self, event: TaskEvent);
}
