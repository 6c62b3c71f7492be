//! Whose a record is: one lock file per daemon instance, held from before its birth to its death.
//!
//! `start` makes and takes the lock and hands the fd to the daemon, so it is held before anybody can connect. Its name
//! is never used again. Everybody else only *tries* it, and drops it at once.

use std::os::fd::OwnedFd;

use record_store::{Dir, Lock};

use crate::{
    Error,
    layout::{INSTANCE_BYTES, Layout, random_hex},
};

/// The owner lock of this daemon instance.
#[derive(Debug)]
pub struct Owner {
    instance: String,
    dir: Dir,
    lock: Lock,
}

impl Owner {
    /// Makes the lock of a new instance and takes it.
    pub fn create(layout: &Layout, instance: String) -> Result<Self, Error> {
        let dir = Dir::make(layout.owners())?;
        let lock = Lock::create(&dir, &instance)?;
        Ok(Self { instance, dir, lock })
    }

    /// Takes over the lock that `start` took.
    pub fn inherit(layout: &Layout, instance: &str, fd: OwnedFd) -> Result<Self, Error> {
        let dir = Dir::open(layout.owners())?;
        let lock = Lock::from_fd(fd, layout.owners().join(instance));
        Ok(Self { instance: instance.to_owned(), dir, lock })
    }

    /// The instance's name.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The lock's fd, for the daemon that inherits it.
    pub fn fd(&self) -> &Lock {
        &self.lock
    }

    /// Gives the ownership up: the lock's file goes with it.
    pub fn end(self) -> Result<(), Error> {
        Ok(self.lock.unlink(&self.dir)?)
    }
}

/// A name that no instance had before.
pub fn new_instance() -> Result<String, Error> {
    random_hex(INSTANCE_BYTES)
}

/// Whether the daemon of this instance lives.
pub fn is_alive(layout: &Layout, instance: &str) -> Result<bool, Error> {
    match Dir::open(layout.owners()) {
        Ok(dir) => Ok(Lock::is_held(&dir, instance)?),
        Err(e) if e.is_absent() => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Removes the lock files of daemons that are gone and that no record names.
pub fn forget_dead(layout: &Layout, named: &[String]) -> Result<(), Error> {
    let dir = match Dir::open(layout.owners()) {
        Ok(dir) => dir,
        Err(e) if e.is_absent() => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    for instance in dir.names()? {
        if !named.contains(&instance) {
            Lock::forget(&dir, &instance)?;
        }
    }
    Ok(())
}
