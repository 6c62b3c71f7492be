//! Whether a program can serve as the OCI runtime. It is asked once for its version, and that it was is noted beside the
//! records of all containerds: a Create does not wait for it again, for as long as the program is the same file.
//!
//! A note says all by being there; what is in it is for people. It is nobody's state, and none is an error.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
    time::{Duration, Instant},
};

use oci_runtime::{Version, probe};

use crate::{
    Error,
    layout::{Layout, hex_digest},
};

/// How long it may take to say what it is.
pub(super) const WAIT: Duration = Duration::from_secs(3);

/// Looks whether the program can serve, unless that is known. An error: it is none, or too old a one.
pub fn check(layout: &Layout, program: &Path) -> Result<(), Error> {
    let file = fs::metadata(program).map_err(Error::file("look at", program))?;
    let which = [file.dev(), file.ino(), file.size(), file.ctime().unsigned_abs()].map(|n| n.to_string());
    let [dev, ino, size, changed] = which.each_ref().map(String::as_str);
    let digest =
        hex_digest(&[&program.to_string_lossy(), dev, ino, size, changed, &file.ctime_nsec().to_string()]);
    let note = layout.oci_notes().join(&digest[..16]);
    if note.exists() {
        return Ok(());
    }
    let version = probe(program, Instant::now() + WAIT)?;
    let Version { name, version: number, .. } = &version;
    tracing::info!(program = %program.display(), name, version = number, "the OCI runtime");
    if let Err(e) = write(&note, program, &version) {
        tracing::debug!(error = %e, "the OCI runtime's version was not noted");
    }
    Ok(())
}

fn write(note: &Path, program: &Path, Version { name, version, .. }: &Version) -> io::Result<()> {
    if let Some(folder) = note.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(note)?;
    writeln!(file, "{name} {version} {}", program.display())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    /// Says its version, and counts how often it was asked.
    fn program(folder: &Path, version: &str) -> std::path::PathBuf {
        let (path, new) = (folder.join("runc"), folder.join("new"));
        let script = format!("#!/bin/sh\necho asked >> {}/asked\n", folder.display());
        fs::write(&new, format!("{script}echo 'runc version {version}'\necho 'spec: 1.2.0'\n")).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&new, &path).unwrap();
        path
    }

    #[test]
    fn a_program_is_asked_once_for_as_long_as_it_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(&dir.path().join("root"), "a");
        let other = Layout::new(&dir.path().join("root"), "b");
        let asked = || fs::read_to_string(dir.path().join("asked")).unwrap_or_default().lines().count();
        let runc = program(dir.path(), "1.2.3");
        check(&layout, &runc).unwrap();
        check(&layout, &runc).unwrap();
        check(&other, &runc).unwrap();
        assert_eq!(asked(), 1);
        // Another one in its place.
        program(dir.path(), "1.3.0");
        check(&layout, &runc).unwrap();
        check(&layout, &runc).unwrap();
        assert_eq!(asked(), 2);
        // One that cannot serve is asked each time: it may be mended by something that it uses.
        program(dir.path(), "0.1.1");
        for _ in 0..2 {
            let error = check(&layout, &runc).unwrap_err();
            assert!(matches!(error, Error::Oci(oci_runtime::Error::Unusable { .. })), "{error}");
        }
        assert_eq!(asked(), 4);
    }
}
