//! FIFOs that the client made. Opening one never waits for the other side.

use std::{os::fd::OwnedFd, path::Path};

use rustix::fs::{FileType, Mode, OFlags, fstat, open};

use crate::{Error, contract::invalid};

/// Opens an end.
pub fn open_end(path: &Path, access: OFlags, field: &'static str) -> Result<OwnedFd, Error> {
    let fd = open(path, access | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::file("open the FIFO", path)(e.into()))?;
    let stat = fstat(&fd).map_err(|e| Error::file("look at", path)(e.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
        return Err(invalid(field, &path.to_string_lossy(), "is not a FIFO", "give the path of a FIFO"));
    }
    Ok(fd)
}
