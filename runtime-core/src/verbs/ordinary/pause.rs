//! Pause, resume and update of an ordinary container, by the OCI runtime.

use std::time::{Duration, Instant};

use oci_runtime::Case;

use super::kill::thaw;
use crate::{
    Error, Runtime,
    container::Container,
    events::TaskEvent,
    lifecycle::{Event, State},
    oci::Oci,
    verbs::update::check_lives,
};

/// How long the OCI runtime may take.
const WAIT: Duration = Duration::from_secs(10);

impl Runtime {
    pub(in crate::verbs) fn pause_ordinary(&self, container: &Container, oci: &Oci) -> Result<(), Error> {
        check(container, "pause", State::Running)?;
        let mut work = container.work();
        check(container, "pause", State::Running)?;
        let paused = oci.pause(until()).and_then(|()| {
            fault::point("pause.halted")?;
            self.change(container, &mut work, "pause", Event::Pause)
        });
        if let Err(e) = paused {
            // Also what was not answered in time may have been done.
            if let Err(e) = oci.resume(until()) {
                tracing::debug!(id = container.id, error = e.chain(), "there was nothing to be resumed");
            }
            return Err(e);
        }
        // A kill that came meanwhile may have been faster than the freezer.
        if container.live().killed == Some(libc::SIGKILL) {
            thaw(container, oci)?;
        }
        self.events.publish(TaskEvent::Paused { id: container.id.clone() });
        tracing::info!(id = container.id, "paused");
        Ok(())
    }

    pub(in crate::verbs) fn resume_ordinary(&self, container: &Container, oci: &Oci) -> Result<(), Error> {
        check(container, "resume", State::Paused)?;
        let mut work = container.work();
        check(container, "resume", State::Paused)?;
        // It may end at once: its end is told after this, for that waits for this verb.
        match oci.resume(until()) {
            // An earlier call has done it, and did not come to its end.
            Err(Error::Oci(e)) if e.case() == Some(Case::WrongState) => {}
            resumed => resumed?,
        }
        self.change(container, &mut work, "resume", Event::Resume)?;
        self.events.publish(TaskEvent::Resumed { id: container.id.clone() });
        tracing::info!(id = container.id, "resumed");
        Ok(())
    }

    pub(in crate::verbs) fn update_ordinary(
        &self,
        container: &Container,
        oci: &Oci,
        resources: &[u8],
    ) -> Result<(), Error> {
        let _work = container.work();
        check_lives(container)?;
        oci.update(resources, until())?;
        tracing::info!(id = container.id, "updated");
        Ok(())
    }
}

fn check(container: &Container, verb: &'static str, wanted: State) -> Result<(), Error> {
    match container.snapshot().state {
        state if state == wanted => Ok(()),
        state => Err(Error::WrongState { id: container.id.clone(), verb, state }),
    }
}

fn until() -> Instant {
    Instant::now() + fault::deadline("deadline.pause", WAIT)
}
