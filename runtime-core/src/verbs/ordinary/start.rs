//! Start of an ordinary container: the OCI runtime lets its first process become the program.

use std::time::{Duration, Instant};

use oci_runtime::Status;

use crate::{
    Error, Runtime,
    container::{Container, Work as ContainerWork},
    lifecycle::State,
    steps::{Cx, Held, START, Work, ordinary_start_steps},
    verbs::start::Stage,
};

/// How long the OCI runtime may take to tell how a container is whose Start failed.
const LOOK_WAIT: Duration = Duration::from_secs(5);

impl Runtime {
    pub(in crate::verbs) fn start_ordinary(
        &self,
        container: &Container,
        work: &mut ContainerWork,
        deadline: Instant,
    ) -> Result<(), Stage> {
        let Some((dir, record)) = &mut work.file else {
            return Err(Stage::Before(Error::NotFound { id: container.id.clone() }));
        };
        let state = record.state;
        record.state = State::Starting;
        let start = Work::OciStart { container, deadline };
        let mut cx = Cx::new(record, dir, Held::No, &self.notes, start);
        if let Err(e) = saga::run(START, &ordinary_start_steps(), &mut cx) {
            record.state = state;
            return Err(stage(container, e));
        }
        self.commit(container, work).map_err(Stage::Behind)
    }
}

/// Whether its program has begun to run, whatever went wrong.
fn stage(container: &Container, error: Error) -> Stage {
    let is_dead = container.process().is_none_or(|process| process.is_dead().unwrap_or(true));
    let seen = container.oci().map(|oci| oci.state(Instant::now() + LOOK_WAIT));
    match seen {
        Some(Ok(Status::Created)) if !is_dead => Stage::Before(error),
        _ => Stage::Behind(error),
    }
}
