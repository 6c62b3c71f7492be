//! `file://`: what the guest writes is appended to a file.
//!
//! The file is the monitor's stdout itself. A disk that is full loses output, and holds nobody up: monitors drop what
//! they cannot write.

use std::{
    fs::{DirBuilder, Permissions, set_permissions},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, PermissionsExt},
    },
    path::Path,
};

use rustix::{
    fs::{FileType, Mode, OFlags, fstat, open},
    io::Errno,
};

use crate::{Error, contract::invalid};

/// The mode of the folders on the way to the file that are missing: whoever knows the file's name may get there.
const FOLDER: u32 = 0o711;

/// Opens the file for appending; it and the folders on the way to it are made where they are missing.
pub fn open_file(path: &Path, field: &'static str) -> Result<OwnedFd, Error> {
    if let Some(folder) = path.parent() {
        make(folder)?;
    }
    let not_a_file = || {
        invalid(
            field,
            &path.to_string_lossy(),
            "is not a regular file",
            "give the path of a file, or of none yet",
        )
    };
    // Without waiting: it may be a FIFO without a reader.
    let how = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    let fd = match open(path, how, Mode::RUSR | Mode::WUSR) {
        Err(Errno::NXIO | Errno::ISDIR) => return Err(not_a_file()),
        result => result.map_err(|e| Error::file("open", path)(e.into()))?,
    };
    let stat = fstat(&fd).map_err(|e| Error::file("look at", path)(e.into()))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(fd),
        _ => Err(not_a_file()),
    }
}

fn make(folder: &Path) -> Result<(), Error> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make(above)?;
    }
    match DirBuilder::new().mode(FOLDER).create(folder) {
        // The umask is the daemon's own.
        Ok(()) => set_permissions(folder, Permissions::from_mode(FOLDER)),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
    }
    .map_err(Error::file("make the folder", folder))
}
