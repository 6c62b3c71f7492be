//! Calls that are given up from outside, before their deadline: whoever waits for one wakes and ends it.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::{
    event::{EventfdFlags, eventfd},
    io::write,
};

use crate::Error;

/// Gives up what its holders call, now and later. Each clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Mutex<Calls>>);

#[derive(Debug, Default)]
struct Calls {
    cancelled: bool,
    bells: Vec<Arc<OwnedFd>>,
}

impl Cancel {
    /// From now on every call ends with [`Error::GivenUp`], the ones at work at once. Does not wait for them.
    pub fn cancel(&self) {
        let mut calls = self.calls();
        calls.cancelled = true;
        calls.bells.iter().for_each(ring);
    }

    /// For one call: what is readable when it is given up.
    pub(crate) fn bell(&self) -> Result<Bell<'_>, Error> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let fd = Arc::new(fd.map_err(Error::system("make an eventfd"))?);
        let mut calls = self.calls();
        if calls.cancelled {
            ring(&fd);
        }
        calls.bells.push(fd.clone());
        Ok(Bell { of: self, fd })
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cannot fail: nobody has counted up to its end.
fn ring(bell: &Arc<OwnedFd>) {
    let _ = write(bell, &1_u64.to_ne_bytes());
}

pub(crate) struct Bell<'a> {
    of: &'a Cancel,
    pub(crate) fd: Arc<OwnedFd>,
}

impl Drop for Bell<'_> {
    fn drop(&mut self) {
        self.of.calls().bells.retain(|fd| !Arc::ptr_eq(fd, &self.fd));
    }
}
