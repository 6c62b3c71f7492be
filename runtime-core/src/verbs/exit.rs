//! The exit: seen through the pidfd, recorded, then told.

use std::sync::PoisonError;

use vmm_api::{GuestExit, RawExit, Reason};

use crate::{
    Runtime,
    container::{Container, Work},
    events::TaskEvent,
    launcher::reap,
    lifecycle::{Event, State},
    record::Exit,
    verbs::ordinary::see_status,
};

impl Runtime {
    /// The process of `container` has ended. Waits for the verb at work: a Start that sees the death itself has
    /// recorded it then, and only the event is left.
    pub fn exited(&self, container: &Container) {
        let mut work = match container.oci() {
            Some(oci) => {
                see_status(container);
                self.end_rest(container, &oci);
                container.work_or_give_up()
            }
            None => container.work(),
        };
        let live = container.snapshot();
        if live.exit.is_none() && matches!(live.state, State::Created | State::Running | State::Paused) {
            let exit = self.exit_of(container, live.state, &work);
            self.stop(container, &mut work, exit);
        }
        if live.exit.is_none() && live.state == State::UnwindBlocked {
            // What blocks the clean-up may be the death itself: whoever waits for it is answered all the same.
            let exit = self.exit_of(container, live.state, &work);
            if let Some((_, record)) = &mut work.file {
                record.exit = Some(exit);
            }
            container.ended(exit);
        }
        self.tell_exit(container);
        self.follow_oom_score();
    }

    /// Tells containerd of the end, once, whoever comes first: the one who sees it, or a Delete.
    pub(crate) fn tell_exit(&self, container: &Container) {
        let mut live = container.live();
        if let (Some(exit), false) = (live.exit, live.exit_told) {
            live.exit_told = true;
            // Before the exit: who hears of that looks no further.
            let told = live.oom_told;
            if live.last_stats.as_ref().is_some_and(|sample| sample.oom_kills > told) {
                self.events.publish(TaskEvent::Oom { id: container.id.clone() });
            }
            self.events.publish(TaskEvent::Exit { id: container.id.clone(), pid: live.pid, exit });
        }
    }

    fn exit_of(&self, container: &Container, state: State, work: &Work) -> Exit {
        if container.oci().is_some() {
            return self.exit_of_ordinary(container);
        }
        let raw = container.process().and_then(|process| reap(&process));
        let words = container.words();
        let (killed, pressed, said_before, control) = {
            let live = container.live();
            (live.killed, live.pressed, live.said_before, live.control.clone())
        };
        let end = control.and_then(|c| c.lock().unwrap_or_else(PoisonError::into_inner).hear());
        let said = words.map(|words| words.text_since(said_before)).unwrap_or_default();
        let starved = self.last_stats(container).is_some_and(|sample| sample.oom_kills > 0);
        let exit = match (killed, raw) {
            (None, Some(RawExit::Signal(libc::SIGKILL))) if starved => {
                Exit::now(128 + libc::SIGKILL.unsigned_abs(), Reason::OutOfMemory)
            }
            (Some(signal), _) => Exit::by_signal(signal),
            (None, Some(raw)) => {
                // Every monitor has exit codes of its own; before Start it is our launcher.
                let monitor = self.monitor(&work.monitor).ok().filter(|_| state != State::Created);
                let GuestExit { status, reason } =
                    monitor.map_or_else(|| raw.plain(), |m| m.exit(raw, end, &said));
                match pressed {
                    Some(signal) if reason == Reason::PowerOff => Exit::by_signal(signal),
                    _ => Exit::now(status, reason),
                }
            }
            (None, None) => Exit::now(255, Reason::Unknown),
        };
        let (status, reason) = (exit.status, exit.reason.map(|r| r.to_string()));
        tracing::info!(id = container.id, ?raw, ?killed, status, reason, "exited");
        if !said.is_empty() {
            tracing::info!(id = container.id, "the monitor's last words: {said}");
        }
        exit
    }

    /// Records the end and tells those who wait. The caller publishes the event.
    pub(crate) fn stop(&self, container: &Container, work: &mut Work, exit: Exit) {
        if let Some((dir, record)) = &mut work.file {
            record.state = State::Stopped;
            record.exit = Some(exit);
            record.last_words = container.words().map(|words| words.text()).filter(|text| !text.is_empty());
            record.usage = self.last_stats(container);
            if let Err(e) = dir.write(record) {
                // The end is true whether or not it could be written: `delete` says 137 then.
                tracing::error!(id = container.id, error = e.chain(), "the exit was not recorded");
            }
        }
        work.gate = None;
        if container.enter("stop", Event::Exit).is_ok() {
            container.ended(exit);
        }
    }
}
