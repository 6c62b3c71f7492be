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
    let mounts =
        view.tables.iter().flat_map(|table| &table.mounts).filter(|mount| mount.in_scope(view.scope));
    let fds = view.processes.iter().flat_map(|process| &process.fds).map(|(_, target)| target.as_str());
    let open: HashSet<&str> = mounts.map(|mount| mount.source.as_str()).chain(fds).collect();

    for entry in std::fs::read_dir(BLOCK).map_err(|error| Error::read(BLOCK, error))? {
        let entry = entry.map_err(|error| Error::read(BLOCK, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("loop") {
            continue;
        }
        found.looked_at += 1;
        match attached(&entry.path()) {
            Ok(None) => {}
            Ok(Some((backing, sequence))) => {
                let device = format!("/dev/{name}");
                if view.scope.covers(&backing) || open.contains(device.as_str()) {
                    found.add(format!("{device}{sequence}"), format!("backed by {backing}"));
                }
            }
            Err(error) => found.miss(&error),
        }
    }
    Ok(())
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
