//! Delete: the same unwind, over the committed record. And the cancellation of a Create that is at work.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::{
    Error, Runtime,
    container::Container,
    events::TaskEvent,
    lifecycle::{Event, State},
    record::{Exit, Record, RunDir},
    recover::{Told, leave},
    steps::{Cx, Held, LOGGER_WAIT, describe, unwind},
    verbs::ordinary::{exit_of as ordinary_exit, thaw},
};

/// How long a Create that was cancelled may take to roll back (containerd waits for 5 s).
const CANCEL_WAIT: Duration = Duration::from_secs(4);
/// How long those that are just being executed in an ordinary container are waited for, and as long again when they were
/// given up.
const EXECS_WAIT: Duration = Duration::from_secs(1);
/// How long the undo may take. CRI waits for 10 s, and has no loggers: theirs is added.
const UNWIND_WAIT: Duration = Duration::from_secs(8);

impl Runtime {
    /// Deletes a created or stopped container: its pid and how it ended.
    pub fn delete(&self, id: &str) -> Result<(u32, Exit), Error> {
        let container = self.get(id)?;
        match container.snapshot().state {
            State::Creating => Err(self.cancel(&container)),
            state @ (State::Starting | State::Running | State::Paused) => {
                Err(Error::WrongState { id: id.to_owned(), verb: "delete", state })
            }
            _ => {
                if container.oci().is_some() {
                    self.see_ends(&container);
                }
                let wait = fault::deadline("deadline.delete", UNWIND_WAIT);
                let wait = container.logger().map_or(wait, |_| wait + LOGGER_WAIT);
                let deadline = Instant::now() + wait;
                self.unwind_container(&container, Remains::Nothing, deadline)
            }
        }
    }

    /// Ends a container whatever its state, for its id's own `delete`, which prints the tombstone and removes it;
    /// until `deadline`.
    pub fn end(&self, id: &str, deadline: Instant) -> Result<(u32, Exit), Error> {
        let container = self.get(id)?;
        if container.snapshot().state == State::Creating {
            return Err(self.cancel(&container));
        }
        if container.oci().is_some() {
            self.see_ends(&container);
        }
        // A Start that is at work sees the death and gives way.
        if let Some(process) = container.process() {
            process.signal(Signal::KILL)?;
        }
        if let Some(oci) = container.oci()
            && let Err(e) = thaw(&container, &oci)
        {
            tracing::warn!(id, error = e.chain(), "whether it is frozen was not seen");
        }
        container.cancel.cancel();
        self.unwind_container(&container, Remains::Tombstone, deadline)
    }

    /// Whether an id is held by a container that its Create need not respect: containerd has removed its bundle and
    /// forgotten it, or its undo got stuck.
    pub fn is_in_the_way(&self, id: &str) -> bool {
        self.get(id).is_ok_and(|old| old.snapshot().state == State::UnwindBlocked || old.is_forsaken())
    }

    /// Ends such a container before its id is created anew.
    pub fn make_way(&self, id: &str) -> Result<(), Error> {
        match self.end(id, Instant::now() + UNWIND_WAIT) {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Tries again what could not be undone before.
    pub fn retry(&self, container: &Container, deadline: Instant) -> Result<(), Error> {
        self.unwind_container(container, Remains::Tombstone, deadline).map(drop)
    }

    /// Has a Create that is at work undo itself, unless its commit is faster. Does not wait.
    pub fn give_up(&self, container: &Container) {
        let process = {
            let mut live = container.live();
            live.cancelled = true;
            live.process.clone().filter(|_| live.state == State::Creating)
        };
        // The launcher's end makes the step that waits for it fail at once, and so does that of the OCI runtime.
        container.cancel.cancel();
        if let Some(process) = process
            && let Err(e) = process.signal(Signal::KILL)
        {
            tracing::warn!(id = container.id, error = %e, "the launcher was not killed");
        }
    }

    /// Gives a Create up; the error to answer.
    fn cancel(&self, container: &Container) -> Error {
        self.give_up(container);
        let id = container.id.clone();
        let gone = || self.get(&id).is_err();
        let deadline = Instant::now() + fault::deadline("deadline.cancel", CANCEL_WAIT);
        let settled = container
            .wait_until(deadline, |live| !matches!(live.state, State::Creating | State::Unwinding) || gone());
        match (settled, container.snapshot().state) {
            (true, State::Creating | State::Unwinding) => Error::NotFound { id },
            (true, State::UnwindBlocked) => {
                Error::UnwindBlocked { id, report: "the rollback of its creation is tried again".to_owned() }
            }
            // The commit was faster: it is an ordinary container now.
            (true, _) => match self.delete(&id) {
                Ok(_) => Error::NotFound { id },
                Err(e) => e,
            },
            (false, _) => Error::Deadline { id, verb: "delete" },
        }
    }

    fn unwind_container(
        &self,
        container: &Container,
        remains: Remains,
        deadline: Instant,
    ) -> Result<(u32, Exit), Error> {
        let id = &container.id;
        // Whoever is just being executed in it gets as far as he can, and is seen.
        container.close_execs(EXECS_WAIT, deadline.min(Instant::now() + 2 * EXECS_WAIT));
        let mut work = container.work();
        let before = container.snapshot();
        // Another Delete was faster, or a Start: both are known only now.
        let Some((dir, mut record)) = work.file.take() else {
            return Err(Error::NotFound { id: id.clone() });
        };
        if matches!(before.state, State::Running | State::Paused) && remains == Remains::Nothing {
            work.file = Some((dir, record));
            container.open_execs();
            return Err(Error::WrongState { id: id.clone(), verb: "delete", state: before.state });
        }
        container.enter("delete", Event::Unwind)?;
        container.was_deleted();
        work.gate = None;
        // A logger ends when nobody can write to it any more.
        container.live().stdio.ended();
        record.state = State::Unwinding;
        let mut cx = Cx::unwinding(&mut record, &dir, Held::No, &self.notes);
        // A stopped container's record says all that whoever goes on after a crash has to know.
        if before.state != State::Stopped
            && let Err(e) = saga::Context::persist(&mut cx)
        {
            tracing::warn!(id, error = e.chain(), "the record was not written");
        }
        if container.logger().is_some() {
            self.end_before_logger(container, cx.record, deadline);
        }
        let report = unwind(&mut cx, None, deadline);
        let exit = exit_of(container, &mut record);
        let stuck = if report.is_clean() {
            // A record that stays keeps its container: somebody has to try again.
            remains.leave(&dir, &mut record, exit).err().map(|e| e.chain())
        } else {
            Some(describe(&report))
        };
        if let Some(report) = stuck {
            tracing::error!(id, txid = record.txid, report, "clean-up is blocked; it is tried again");
            record.state = State::UnwindBlocked;
            record.tombstone = false;
            if let Err(e) = dir.write(&record) {
                tracing::warn!(id, error = e.chain(), "the record was not written");
            }
            work.file = Some((dir, record));
            container.enter("delete", Event::Block)?;
            return Err(Error::UnwindBlocked { id: id.clone(), report });
        }
        let pid = record.pid();
        drop(work);
        self.forget(id);
        self.follow_oom_score();
        if before.pid != 0 {
            for exec in container.execs() {
                self.exec_exited(container, &exec);
                exec.never_ran();
                exec.was_deleted();
            }
            container.ended(exit);
            self.tell_exit(container);
            self.events.publish(TaskEvent::Delete { id: id.clone(), pid, exit });
        }
        container.settle();
        tracing::info!(id, status = exit.status, "deleted");
        Ok((pid, exit))
    }

    /// Ends the process of a container that has not ended yet, and tells of it: whoever waits for that does not wait for
    /// a slow logger. What fails here the unwind tries again, and reports.
    fn end_before_logger(&self, container: &Container, record: &mut Record, deadline: Instant) {
        let Some(process) = container.process().filter(|_| record.exit.is_none()) else { return };
        let left = deadline.saturating_duration_since(Instant::now());
        let dead = process.signal(Signal::KILL).and_then(|_| process.wait(Some(left)));
        if matches!(dead, Ok(true)) {
            container.ended(exit_of(container, record));
            self.tell_exit(container);
        }
    }
}

/// How a container ended: killed by its unwind, unless the record knows better.
fn exit_of(container: &Container, record: &mut Record) -> Exit {
    *record.exit.get_or_insert_with(|| {
        let (killed, raw) = {
            let live = container.live();
            (live.killed, live.raw)
        };
        // One that had ended before anybody killed it.
        if raw.is_some() {
            return ordinary_exit(raw, killed, false);
        }
        killed.map_or_else(Exit::killed, Exit::by_signal)
    })
}

/// What an unwind leaves of a run directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Remains {
    Nothing,
    Tombstone,
}

impl Remains {
    fn leave(self, dir: &RunDir, record: &mut Record, exit: Exit) -> Result<(), Error> {
        let lock = dir.lock(Instant::now() + Duration::from_secs(1))?;
        match self {
            // Without its bundle its `delete` cannot come: nobody would read the tombstone. Without room for one its
            // `delete` knows less of the end than containerd, which was told; but it finds nothing that blocks the id.
            Self::Tombstone if !record.is_expired()? => leave(Told::Now, dir, record, exit, lock),
            Self::Nothing | Self::Tombstone => dir.remove(lock),
        }
    }
}
