//! `create`: a container whose init waits for `start`.

use std::{path::Path, time::Instant};

use proc_id::Process;

use crate::{Console, Error, Runtime, Streams, started::PidFile};

/// What is to be created.
#[derive(Debug)]
pub struct Create<'a> {
    /// The container's id, unique below the runtime's root.
    pub id: &'a str,
    /// The folder with `config.json`, an absolute path.
    pub bundle: &'a Path,
    /// A name in a folder of the caller's that the runtime can write the pid to; there for the time of the call.
    pub pid_file: &'a Path,
    /// Where the terminal goes to if the spec asks for one.
    pub console: Option<&'a Console>,
    /// The stdio of the container's init, if it has no terminal.
    pub streams: Streams,
    /// The root is changed by a move and a chroot, not by pivot_root: for root file systems on a ramdisk.
    pub no_pivot: bool,
    /// Its init keeps the caller's session keyring.
    pub no_new_keyring: bool,
}

impl Runtime {
    /// Creates a container; the result is its init, which may be dead already, but is not reaped: that is the caller's,
    /// who has to be a sub-reaper and must not reap children that it does not know while this runs.
    ///
    /// [`Case::Exists`](crate::Case::Exists): nothing was done. After any other error, and after our own death, which
    /// is the runtime's death as well, the container may be there in part:
    ///
    /// * its state below the root, which [`delete`](Self::delete) with `force` removes if the runtime can read it; else
    ///   the folder `ROOT/ID` is to be removed;
    /// * an init that nobody started, as the child of whoever is the next reaper. No file names it for sure: it is in
    ///   the cgroup that the spec names, whose path the caller has to know before this call, and it is to be ended
    ///   there. The runtime puts it there before it lets it do anything; one that is not there yet waits for the
    ///   runtime's first message and exits when the runtime is dead;
    /// * cgroups, empty then, and what hooks have made.
    pub fn create(&self, what: Create<'_>, deadline: Instant) -> Result<Process, Error> {
        let Create { id, bundle, pid_file, console, streams, no_pivot, no_new_keyring } = what;
        let mut call = self.call("create", id)?;
        let file = PidFile::new(pid_file)?;
        let command = call.command();
        command.arg("--bundle").arg(bundle).arg("--pid-file").arg(pid_file);
        if let Some(console) = console {
            command.arg("--console-socket").arg(console.path());
        }
        if no_pivot {
            command.arg("--no-pivot");
        }
        if no_new_keyring {
            command.arg("--no-new-keyring");
        }
        call.streams(streams);
        call.dies_with_us();
        let runtime = call.runtime().to_owned();
        call.run(deadline)?;
        file.process(&runtime, "create", id)
    }
}
