//! Drives the host's OCI runtime, runc or crun: one call, one process, one deadline.
//!
//! It knows the runtimes' command line and their words, and nothing of records or of who asks: the caller journals,
//! locks (the runtimes themselves do not exclude each other), and owns the state below `--root`. All calls block.
//!
//! * **Nothing lies about.** What a runtime reads (a process, resources) and writes (its log, its answer) are files in
//!   memory, which it opens as `/proc/OURS/fd/N`: they end with us, and no descriptor is inherited but the
//!   container's stdio. Only what must have a name lies in a folder that the caller gives: the pid file for the time
//!   of one call, the console socket for the life of a [`Console`].
//! * **A session of its own.** A signal for our process group does not meet the runtime; and what it has started and
//!   not yet let go (hooks, the first stages of an init) is found by that session when the deadline passes: it is
//!   ended with the runtime. A container's processes have sessions of their own.
//! * **Who dies with us.** `create`, `start`, `exec` and `pause` make something, or hold it: a runtime that went on
//!   with them after our death would race with the recovery, which could find nothing and be overtaken. So they die
//!   with the thread that waits for them (PDEATHSIG), which lives as long as they do. `delete`, `resume` and `update`
//!   go on: to end a thing, or to leave it whole, is what the recovery wants too.
//! * **Waiting.** The caller is the sub-reaper of what the runtimes leave to it, and waits for children by pidfd
//!   alone: one who reaped whatever ends would take the runtimes' exit status from us, and would free the number of an
//!   init before [`Runtime::create`] has a pidfd of it.
//!
//! The crate `runc` of containerd's rust-extensions (0.4.0) is not the base: its calls have no deadline (the option
//! is stored and never read) and hold no pidfd, its errors are one text, it reads the answer of a `create` through
//! pipes that the container keeps open, it leaves a process's file to a temporary folder, and it has no console socket.

mod call;
mod cancel;
mod classify;
mod console;
mod create;
mod delete;
mod error;
mod exec;
mod features;
mod find;
mod handed;
mod pause;
mod resume;
mod start;
mod started;
mod state;
mod update;
mod version;

use std::path::PathBuf;

pub use call::Streams;
pub use cancel::Cancel;
pub use console::Console;
pub use create::Create;
pub use error::{Case, Error};
pub use exec::Exec;
pub use find::find;
pub use state::{State, Status};
pub use version::{Version, probe};

/// An OCI runtime and the place where it keeps its state.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// The program ([`find`]).
    pub program: PathBuf,
    /// Its `--root`: of one caller alone, since whoever has the same id there has the same container.
    pub root: PathBuf,
    /// Cgroups are made by systemd: `cgroupsPath` is `slice:prefix:name`.
    pub systemd_cgroup: bool,
    /// By which its calls can be given up.
    pub cancel: Cancel,
}
