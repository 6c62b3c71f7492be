//! `exec`: a further process in a container.

use std::{path::Path, time::Instant};

use proc_id::Process;

use crate::{Console, Error, Runtime, Streams, started::PidFile};

/// What is to be executed.
#[derive(Debug)]
pub struct Exec<'a> {
    /// The container.
    pub id: &'a str,
    /// The process: the JSON of an OCI `process`.
    pub process: &'a [u8],
    /// A name in a folder of the caller's that the runtime can write the pid to; there for the time of the call. Two
    /// calls at a time need two.
    pub pid_file: &'a Path,
    /// Where the terminal goes to if the process asks for one.
    pub console: Option<&'a Console>,
    /// Its stdio, if it has no terminal.
    pub streams: Streams,
}

impl Runtime {
    /// Starts a process in a container that is created or running; the result is that process, which may be dead
    /// already, but is not reaped (see [`create`](Self::create)).
    ///
    /// It has to be reaped, soon: as long as it is a zombie, the init of its pid namespace cannot end, not of SIGKILL
    /// either. That holds for one that nobody has named, too: when there is no such program, crun leaves what it had
    /// made to the sub-reaper. So after a failed call the caller reaps those of its children that it does not know.
    ///
    /// After an error, [`Case::Absent`](crate::Case::Absent) and [`Case::NotRunning`](crate::Case::NotRunning) apart,
    /// and after our own death there may even be a living process (crun 1.8 lets it run when it cannot write the pid
    /// file): it is in the container's cgroup.
    pub fn exec(&self, what: Exec<'_>, deadline: Instant) -> Result<Process, Error> {
        let Exec { id, process, pid_file, console, streams } = what;
        let mut call = self.call("exec", id)?;
        let file = PidFile::new(pid_file)?;
        call.part("--process", process)?;
        call.command().arg("--detach").arg("--pid-file").arg(pid_file);
        if let Some(console) = console {
            call.command().arg("--console-socket").arg(console.path());
        }
        call.streams(streams);
        call.dies_with_us();
        let runtime = call.runtime().to_owned();
        call.run(deadline)?;
        file.process(&runtime, "exec", id)
    }
}
