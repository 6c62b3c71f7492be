//! What is read from the image: `urunc.json`, the kernel's headers, whether the initrd is there. Only through the
//! launcher's fd of the root file system, never leaving it, regular files only, bounded.

use std::{collections::BTreeMap, io::Read, os::fd::BorrowedFd};

use base64::{Engine, engine::general_purpose::STANDARD};
use host_mount::{Beneath, open_beneath};
use rustix::io::Errno;
use vmm_api::kernel::Format;

use crate::{
    Error,
    contract::{self, Keys, invalid},
};

/// The image's own description, at its root.
const DESCRIPTION: &str = "urunc.json";
/// The most that is read of it, in bytes.
const MOST_DESCRIPTION: u64 = 1024 * 1024;

/// Reads `urunc.json`; an image without one gives no keys. The whole file may be base64, too.
pub fn description(root: BorrowedFd<'_>) -> Result<Keys, Error> {
    let file = match Beneath::read(root, DESCRIPTION) {
        Ok(file) => file,
        Err(host_mount::Error::Open { source, .. }) if is_missing(&source) => return Ok(Keys::default()),
        Err(e) => return Err(unusable(DESCRIPTION, DESCRIPTION, e)),
    };
    let mut text = Vec::new();
    file.take(MOST_DESCRIPTION + 1).read_to_end(&mut text).map_err(|source| Error::ImageUnreadable {
        key: DESCRIPTION.to_owned(),
        path: DESCRIPTION.to_owned(),
        source,
    })?;
    if text.len() as u64 > MOST_DESCRIPTION {
        return Err(invalid(
            DESCRIPTION,
            "",
            "is larger than 1 MiB",
            "keep only the keys of the contract in it",
        ));
    }
    if let Ok(decoded) = STANDARD.decode(text.trim_ascii()) {
        text = decoded;
    }
    let keys: BTreeMap<String, String> = serde_json::from_slice(&text).map_err(|e| {
        invalid(
            DESCRIPTION,
            "",
            &format!("is no JSON object of strings ({e})"),
            "write {\"key\": \"value\", ...}",
        )
    })?;
    let keys = Keys::from_pairs(&keys);
    keys.check()?;
    Ok(keys)
}

/// Tells what the kernel file is.
pub fn kernel(root: BorrowedFd<'_>, path: &str) -> Result<Format, Error> {
    let file = Beneath::read(root, path).map_err(|e| unusable(contract::BINARY, path, e))?;
    Format::probe(&file).map_err(|source| Error::ImageUnreadable {
        key: contract::BINARY.to_owned(),
        path: path.to_owned(),
        source,
    })
}

/// Looks whether the initrd is there and can be read.
pub fn initrd(root: BorrowedFd<'_>, path: &str) -> Result<(), Error> {
    let unreadable =
        |source| Error::ImageUnreadable { key: contract::INITRD.to_owned(), path: path.to_owned(), source };
    fault::point("image.initrd").map_err(|f| unreadable(f.into()))?;
    let mut file = Beneath::read(root, path).map_err(|e| unusable(contract::INITRD, path, e))?;
    let mut byte = [0u8; 1];
    match file.read(&mut byte) {
        Ok(0) => Err(invalid(contract::INITRD, path, "is empty", "name a cpio archive")),
        Ok(_) => Ok(()),
        Err(source) => Err(unreadable(source)),
    }
}

/// The handle of a file, for the launcher that attaches its mount.
pub fn handle(root: BorrowedFd<'_>, path: &str) -> Result<std::os::fd::OwnedFd, host_mount::Error> {
    open_beneath(root, path, Beneath::Handle)
}

fn is_missing(e: &std::io::Error) -> bool {
    matches!(
        Errno::from_io_error(e),
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG | Errno::ACCESS)
    )
}

/// A file that is not there, or not a file, is the image's fault; one that cannot be read for now (a lazily pulled
/// snapshot whose server is away gives EIO or ETIMEDOUT) may be right.
fn unusable(key: &str, path: &str, e: host_mount::Error) -> Error {
    match e {
        host_mount::Error::Open { source, .. } if is_missing(&source) => {
            invalid(key, path, "is not in the image", "name a regular file of the image")
        }
        host_mount::Error::Open { source, .. } => {
            Error::ImageUnreadable { key: key.to_owned(), path: path.to_owned(), source }
        }
        host_mount::Error::NotAFile { .. } => {
            invalid(key, path, "is not a regular file", "name a regular file of the image")
        }
        other => other.into(),
    }
}
