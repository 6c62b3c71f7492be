//! Exec: a further process in an ordinary container. It is added, started, waited for and deleted by its own id.
//!
//! What the OCI runtime is just making belongs to nobody yet, so a container's undo, and its exit, first let nobody more
//! in and wait for those. Whoever slips through is found in the container's cgroup.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use proc_id::Process;
use rustix::process::Signal;
use serde_json::Value;
use vmm_api::Reason;

use super::{exit::exit_of, kill::send, oci_of};
use crate::{
    Error, Runtime,
    container::{Container, Starting},
    contract::invalid,
    events::TaskEvent,
    exec::{Exec, ExecState},
    launcher::reap,
    layout,
    lifecycle::State,
    oci::orphans::end_strays,
    record::{Exit, StdioPaths},
    stdio::{self, Stdio, Target, Targets},
};

/// How long the OCI runtime may take to start a process.
const START_WAIT: Duration = Duration::from_secs(20);
/// How long a process that must not be may take to be dead.
const DYING: Duration = Duration::from_secs(2);
/// How long it is waited until the record is asked for again.
const PAUSE: Duration = Duration::from_millis(2);
/// The exit status of a process that never ran.
const NEVER_RAN: u32 = 128;

impl Runtime {
    /// Adds a process: `spec` is the OCI specification's `process` as JSON. Nothing is made.
    pub fn exec_add(&self, id: &str, exec: &str, spec: &[u8], stdio: &StdioPaths) -> Result<(), Error> {
        let container = self.get(id)?;
        oci_of(
            &container,
            "exec",
            "what runs there is no process of this host, and none is started in it from outside",
        )?;
        if !layout::is_identifier(exec) {
            return Err(crate::contract::invalid_name("exec_id", exec));
        }
        let no_process = |problem: String| invalid("spec", "", &problem, "give the JSON of an OCI process");
        let spec = match serde_json::from_slice(spec) {
            Ok(Value::Object(mut process)) if process.contains_key("args") => {
                // Whether it has a terminal says the request, as for runc's shim.
                process.insert("terminal".to_owned(), stdio.terminal.into());
                Value::Object(process)
            }
            Ok(_) => return Err(no_process("is no OCI process".to_owned())),
            Err(e) => return Err(no_process(format!("is no JSON: {e}"))),
        };
        stdio::check(stdio)?;
        if let Target::Logger(_) = Targets::of(stdio)?.stdout {
            return Err(Error::Unsupported {
                feature: "stdout: binary:// stdio of an exec".to_owned(),
                remedy: "use FIFOs or file://",
            });
        }
        check_runs(&container, "exec")?;
        container.add_exec(Exec::new(exec, stdio.clone(), spec.to_string().into_bytes()))?;
        self.events.publish(TaskEvent::ExecAdded { id: id.to_owned(), exec: exec.to_owned() });
        Ok(())
    }

    /// Starts it: the process, and its pid.
    pub fn exec_start(&self, id: &str, exec: &str) -> Result<(Arc<Exec>, u32), Error> {
        let container = self.get(id)?;
        let exec = container.exec(exec)?;
        let _work = exec.work();
        expect(&container, &exec, "start", ExecState::Added)?;
        let started = check_runs(&container, "start an exec").and_then(|()| {
            let starting = container.begin_exec()?;
            self.exec_make(&container, &exec, &starting)
        });
        container.look_for_strays(|| end_strays(self, &container));
        match started {
            Ok(pid) => {
                let (id, exec_id) = (id.to_owned(), exec.id.clone());
                tracing::info!(id, exec = exec_id, pid, "executed");
                self.events.publish(TaskEvent::ExecStarted { id, exec: exec_id, pid });
                Ok((exec.clone(), pid))
            }
            Err(e) => {
                // Whoever waits for it is answered.
                exec.live().exit_told = true;
                exec.ended(Exit::now(NEVER_RAN, Reason::NeverRan));
                Err(e)
            }
        }
    }

    fn exec_make(&self, container: &Container, exec: &Exec, starting: &Starting<'_>) -> Result<u32, Error> {
        let oci = oci_of(container, "exec", "")?;
        let mut stdio = Stdio::open_plain(&exec.stdio)?;
        let deadline = Instant::now() + fault::deadline("deadline.exec", START_WAIT);
        let number = layout::random_hex(layout::TXID_BYTES)?;
        fault::point("exec.before")?;
        let process = oci
            .exec(&exec.spec, exec.stdio.terminal, &number, &mut stdio, exec.cancel.clone(), deadline)
            .inspect_err(|_| starting.may_have_strayed())?;
        if let Err(e) =
            fault::point("exec.made").map_err(Error::from).and_then(|()| note(container, exec, &process))
        {
            // One that does not die at once is in the container's cgroup, and ends with it.
            if process.signal(Signal::KILL).is_err() || !process.wait(Some(DYING)).unwrap_or(false) {
                tracing::warn!(id = container.id, exec = exec.id, pid = process.pid(), "it does not die");
            }
            reap(&process);
            return Err(e);
        }
        exec.runs(Arc::new(process), stdio);
        Ok(exec.snapshot().1)
    }

    /// Its process has ended. Waits for its Start: that is told first.
    pub fn exec_exited(&self, container: &Container, exec: &Exec) {
        let _work = exec.work();
        let (process, before) = {
            let live = exec.live();
            (live.process.clone(), live.exit)
        };
        let Some(process) = process else { return };
        if before.is_none() {
            let raw = reap(&process);
            exec.ended(match raw {
                Some(_) => exit_of(raw, None, false),
                // The container's end was its own.
                None => Exit::killed(),
            });
        }
        let mut live = exec.live();
        if let (Some(exit), false) = (live.exit, live.exit_told) {
            live.exit_told = true;
            let (id, exec) = (container.id.clone(), exec.id.clone());
            tracing::info!(id, exec, status = exit.status, "an exec exited");
            self.events.publish(TaskEvent::ExecExit { id, exec, pid: live.pid, exit });
        }
    }

    /// Sends it a signal.
    pub fn exec_kill(&self, id: &str, exec: &str, signal: u32) -> Result<(), Error> {
        let container = self.get(id)?;
        let exec = container.exec(exec)?;
        let signal = crate::verbs::kill::number(signal)?;
        let (state, process) = {
            let live = exec.live();
            (live.state, live.process.clone())
        };
        let gone = || Error::NoExec { container: container.id.clone(), id: exec.id.clone() };
        match (state, process) {
            (ExecState::Running, Some(process)) => match send(&process, signal)? {
                true => Ok(()),
                false => Err(gone()),
            },
            (ExecState::Added, _) => expect(&container, &exec, "kill", ExecState::Running),
            _ => Err(gone()),
        }
    }

    /// Forgets one that has ended, or was never started: its pid and how it ended.
    pub fn exec_delete(&self, id: &str, exec: &str) -> Result<(Arc<Exec>, u32, Exit), Error> {
        let container = self.get(id)?;
        let exec = container.exec(exec)?;
        let exit = {
            let _work = exec.work();
            if exec.snapshot().0 == ExecState::Running {
                return Err(state_error(&container, &exec, "delete", ExecState::Running));
            }
            container.forget_exec(&exec.id);
            exec.was_deleted();
            exec.never_ran()
        };
        if let Some((_, record)) = &mut container.work().file {
            // Written with whatever comes next: one that is dead harms nobody.
            // Another one may have its id by now.
            let is_it = exec.process().is_some_and(|own| record.execs.get(&exec.id) == Some(own.id()));
            if is_it {
                record.execs.remove(&exec.id);
            }
        }
        let pid = exec.snapshot().1;
        Ok((exec, pid, exit))
    }
}

/// Writes down who it is. One that has ended meanwhile need not be known to anybody but us: it is not waited for
/// whoever is at work, for he may be waiting for the container's end, which waits for us to reap.
fn note(container: &Container, exec: &Exec, process: &Process) -> Result<(), Error> {
    while !process.is_dead()? {
        let Some(mut work) = container.try_work() else {
            process.wait(Some(PAUSE))?;
            continue;
        };
        let gone = || Error::Ended { id: container.id.clone() };
        let (dir, record) = work.file.as_mut().ok_or_else(gone)?;
        record.execs.insert(exec.id.clone(), process.id().clone());
        return dir.write(record);
    }
    Ok(())
}

/// Only a container that runs, or is to be started, has room for another process.
fn check_runs(container: &Container, verb: &'static str) -> Result<(), Error> {
    match container.snapshot().state {
        State::Created | State::Starting | State::Running => Ok(()),
        state => Err(Error::WrongState { id: container.id.clone(), verb, state }),
    }
}

fn expect(container: &Container, exec: &Exec, verb: &'static str, wanted: ExecState) -> Result<(), Error> {
    match exec.snapshot().0 {
        state if state == wanted => Ok(()),
        state => Err(state_error(container, exec, verb, state)),
    }
}

fn state_error(container: &Container, exec: &Exec, verb: &'static str, state: ExecState) -> Error {
    Error::ExecState {
        container: container.id.clone(),
        id: exec.id.clone(),
        verb,
        state: match state {
            ExecState::Added => "has not been started",
            ExecState::Running => "runs",
            ExecState::Stopped => "has ended",
        },
    }
}
