//! Pause and resume: the monitor halts its guest and lets it go on. Nothing else of the container changes.
//!
//! The guest is halted before the record says so, and goes on before the record says so: a record that is wrong after
//! a crash is unwound like any other. What fails is taken back, so that a guest which is called running runs.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use vmm_api::{Control, ControlError};

use crate::{
    Error, Runtime,
    container::{Container, Work},
    events::TaskEvent,
    lifecycle::{Event, State},
};

/// How long the monitor may take to halt its guest, or to let it go on.
const MONITOR_WAIT: Duration = Duration::from_secs(5);
/// How long it may take to take that back.
const BACK_WAIT: Duration = Duration::from_secs(1);

type Channel = Arc<Mutex<Box<dyn Control>>>;

impl Runtime {
    /// Halts a running guest.
    pub fn pause(&self, id: &str) -> Result<(), Error> {
        let container = self.get(id)?;
        if let Some(oci) = container.oci() {
            return self.pause_ordinary(&container, &oci);
        }
        let (mut work, channel) = begin(&container, "pause", State::Running)?;
        let mut control = channel.lock().unwrap_or_else(PoisonError::into_inner);
        let halted = control.pause(until(MONITOR_WAIT));
        if matches!(halted, Err(ControlError::Closed)) {
            // Its end is just being seen.
            return Err(Error::WrongState { id: id.to_owned(), verb: "pause", state: State::Stopped });
        }
        let paused = halted.map_err(Error::from).and_then(|()| {
            fault::point("pause.halted")?;
            self.change(&container, &mut work, "pause", Event::Pause)
        });
        if let Err(e) = paused {
            // Also what was not answered in time may have been done, or be done yet.
            back(&container, control.go(until(BACK_WAIT)));
            return Err(e);
        }
        self.events.publish(TaskEvent::Paused { id: id.to_owned() });
        tracing::info!(id, "paused");
        Ok(())
    }

    /// Lets a paused guest go on.
    pub fn resume(&self, id: &str) -> Result<(), Error> {
        let container = self.get(id)?;
        if let Some(oci) = container.oci() {
            return self.resume_ordinary(&container, &oci);
        }
        let (mut work, channel) = begin(&container, "resume", State::Paused)?;
        let mut control = channel.lock().unwrap_or_else(PoisonError::into_inner);
        // It may end at once: its end is told after this.
        let resumed = self.change(&container, &mut work, "resume", Event::Resume);
        let resumed = resumed.and_then(|()| Ok(control.go(until(MONITOR_WAIT))?));
        if let Err(e) = resumed {
            back(&container, control.pause(until(BACK_WAIT)));
            if container.snapshot().state == State::Running {
                self.change(&container, &mut work, "resume", Event::Pause)?;
            }
            return Err(e);
        }
        self.events.publish(TaskEvent::Resumed { id: id.to_owned() });
        tracing::info!(id, "resumed");
        Ok(())
    }

    /// Writes the record, then changes what is answered.
    pub(super) fn change(
        &self,
        container: &Container,
        work: &mut Work,
        verb: &'static str,
        event: Event,
    ) -> Result<(), Error> {
        let wrong = |state| Error::WrongState { id: container.id.clone(), verb, state };
        let before = container.snapshot().state;
        let after = before.after(event).ok_or_else(|| wrong(before))?;
        let (dir, record) = work.file.as_mut().ok_or_else(|| Error::NotFound { id: container.id.clone() })?;
        record.state = after;
        if let Err(e) = dir.write(record) {
            record.state = before;
            return Err(e);
        }
        container.enter(verb, event).map(drop)
    }
}

fn until(wait: Duration) -> Instant {
    Instant::now() + fault::deadline("deadline.pause", wait)
}

/// What a verb works on, if the container is in the one state that allows it.
fn begin<'a>(
    container: &'a Container,
    verb: &'static str,
    wanted: State,
) -> Result<(std::sync::MutexGuard<'a, Work>, Channel), Error> {
    let in_state = || {
        let live = container.live();
        if live.state == wanted {
            Ok(live.control.clone())
        } else {
            Err(Error::WrongState { id: container.id.clone(), verb, state: live.state })
        }
    };
    // A verb that is at work, which may take long, is not waited for in vain.
    in_state()?;
    let work = container.work();
    let Some(channel) = in_state()? else {
        return Err(Error::Unsupported {
            feature: format!("{verb} of a pod's sandbox"),
            remedy: "it runs nothing; pause the pod's containers",
        });
    };
    Ok((work, channel))
}

/// Tells of a failure that could not be taken back. A monitor that is gone has nothing to take back.
fn back(container: &Container, result: Result<(), ControlError>) {
    match result {
        Ok(()) | Err(ControlError::Closed) => {}
        Err(e) => tracing::error!(id = container.id, error = %e, "the guest may be halted, or not"),
    }
}
