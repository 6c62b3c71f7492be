//! How many descriptors a process may have open (`RLIMIT_NOFILE`, getrlimit(2)).
//!
//! A daemon serves a whole pod, and systemd gives it 1,024: it takes what it may, as Go's runtime does in every program.
//! Whom it executes gets what it was given itself: containers inherit that, and some programs take more for what they
//! have to close.

use std::{io, sync::OnceLock};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What this process was given, once it has taken more.
static GIVEN: OnceLock<Rlimit> = OnceLock::new();

/// Raises the limit of this process as far as it may. An error: it stays as it was.
pub fn raise() -> io::Result<()> {
    let given = getrlimit(Resource::Nofile);
    if given.current == given.maximum {
        return Ok(());
    }
    setrlimit(Resource::Nofile, Rlimit { current: given.maximum, maximum: given.maximum })?;
    GIVEN.get_or_init(|| given);
    Ok(())
}

/// Gives this process what the one that has called [`raise`] was given: to be called between fork and exec, where it makes
/// one system call and allocates nothing.
pub fn restore() -> io::Result<()> {
    match GIVEN.get() {
        Some(given) => Ok(setrlimit(Resource::Nofile, *given)?),
        None => Ok(()),
    }
}
