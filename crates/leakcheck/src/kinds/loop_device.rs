//! Loop devices with a backing file: `/dev/loopN#SEQUENCE`; the sequence number is given by the kernel on each attach
//! (Linux 5.15 and later), so a device that was freed and taken again is another one. One counts if its backing file
//! is in scope, or if a process or a mount in scope has it open.

use std::collections::HashSet;
use std::path::Path;

use crate::entry::Found;
use crate::error::{Error, present};
use crate::host::View;

const BLOCK: &str = "/sys/block";

pub(super) fn collect(view: &View<'_>, found: &mut Found<'_>) -> Result<(), Error> {
    let devices = all(view, |error| found.miss(&error))?;
    found.looked_at = devices.len();
    for Device { path, attached, .. } in devices.into_iter().filter(|device| device.in_scope) {
        if let Some((backing, sequence)) = attached {
            found.add(format!("{path}{sequence}"), format!("backed by {backing}"));
        }
    }
    Ok(())
}

/// The devices that count.
pub(super) fn in_scope(view: &View<'_>) -> Result<Vec<Device>, Error> {
    // What could not be read is told by `collect`.
    let mut devices = all(view, |_| {})?;
    devices.retain(|device| device.in_scope);
    Ok(devices)
}

pub(super) struct Device {
    /// `/dev/loopN`.
    pub path: String,
    /// Backing file and suffix of the name; None: it is free.
    attached: Option<(String, String)>,
    in_scope: bool,
}

fn all(view: &View<'_>, mut miss: impl FnMut(Error)) -> Result<Vec<Device>, Error> {
    let mounts =
        view.tables.iter().flat_map(|table| &table.mounts).filter(|mount| mount.in_scope(view.scope));
    let fds = view.processes.iter().flat_map(|process| &process.fds).map(|(_, target)| target.as_str());
    let open: HashSet<&str> = mounts.map(|mount| mount.source.as_str()).chain(fds).collect();

    let mut devices = Vec::new();
    for entry in std::fs::read_dir(BLOCK).map_err(|error| Error::read(BLOCK, error))? {
        let entry = entry.map_err(|error| Error::read(BLOCK, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("loop") {
            continue;
        }
        let path = format!("/dev/{name}");
        let attached = attached(&entry.path()).unwrap_or_else(|error| {
            miss(error);
            None
        });
        let covered = |(backing, _): &(String, String)| view.scope.covers(backing);
        let in_scope = attached.as_ref().is_some_and(|a| covered(a) || open.contains(path.as_str()));
        devices.push(Device { path, attached, in_scope });
    }
    Ok(devices)
}

/// Backing file and suffix of the name; None for a device that is free.
fn attached(device: &Path) -> Result<Option<(String, String)>, Error> {
    let Some(backing) = attribute(&device.join("loop/backing_file"))? else { return Ok(None) };
    let sequence = attribute(&device.join("diskseq"))?.map(|sequence| format!("#{sequence}"));
    Ok(Some((backing, sequence.unwrap_or_default())))
}

fn attribute(path: &Path) -> Result<Option<String>, Error> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned();
    Ok(present(std::fs::read(path), path)?.map(text))
}
