//! Parents that we made and could not remove, so that the last one out can.
//!
//! Two transactions share the parent `/ns`. The first made it; when the first goes, the second is still in it; when the
//! second goes, its plan says that `/ns` existed before. So the first leaves a note, and every removal tries the
//! noted directories again.
//!
//! A note is a symbolic link in a folder of the caller's: its name is the device and inode number of the directory, its
//! target the path. Making one is atomic without a temporary file, and the same directory is never noted twice. A
//! directory that was removed and made anew by a stranger has another number; its note is dropped and it is not
//! touched. The folder must not outlive the boot, as the cgroups do not.
//!
//! A note that cannot be written or tried is an error of the removal that needed it, and stops nothing else.

use std::path::{Path, PathBuf};

use rustix::fs::{Mode, readlink, symlink, unlink};
use rustix::io::Errno;

use crate::Error;
use crate::files::{DirId, Files, is_absent, is_in_use};

/// A folder of notes. Any number of processes may use the same folder at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notes {
    folder: PathBuf,
}

impl Notes {
    /// Uses this folder. It is made, but not its parents, when the first note is written.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Notes that `dir` is ours and was in use. A directory that is gone by now needs no note.
    pub(crate) fn keep(&self, files: &dyn Files, dir: &Path) -> Result<(), Error> {
        let id = match files.identity(dir) {
            Ok(id) => id,
            Err(e) if is_absent(e) => return Ok(()),
            Err(e) => return Err(Error::io("looking at", dir)(e)),
        };
        let note = self.folder.join(name_of(id));
        let write = || symlink(dir, &note);
        let outcome = match write() {
            Err(Errno::NOENT) => match rustix::fs::mkdir(&self.folder, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => write(),
                Err(e) => Err(e),
            },
            outcome => outcome,
        };
        match outcome {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(Error::io("noting", note)(e)),
        }
    }

    /// Tries to remove every noted directory, and drops the notes of those that are gone.
    ///
    /// [`crate::remove`] does this at its end, after its own notes are written: of two removals that meet, the later
    /// one sees the note of the earlier.
    pub fn retry(&self, files: &dyn Files) -> Vec<Error> {
        let mut notes = match self.list() {
            Ok(notes) => notes,
            Err(error) => return vec![error],
        };
        // A directory's path is longer than those of its parents: inner ones go first.
        notes.sort_by_key(|(_, _, dir)| std::cmp::Reverse(dir.as_os_str().len()));
        notes.into_iter().filter_map(|(note, id, dir)| try_one(files, note, id, dir).err()).collect()
    }

    fn list(&self) -> Result<Vec<(PathBuf, DirId, PathBuf)>, Error> {
        let failed = |e: std::io::Error| {
            Error::io("listing", &self.folder)(Errno::from_io_error(&e).unwrap_or(Errno::IO))
        };
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed(e)),
        };
        let mut notes = Vec::new();
        for entry in entries {
            let note = entry.map_err(failed)?.path();
            let Some(id) = note.file_name().and_then(|n| n.to_str()).and_then(id_of) else { continue };
            // A note that has just been dropped by another process, or that is not a link, says nothing.
            let Ok(dir) = readlink(&note, Vec::new()) else { continue };
            let Ok(dir) = dir.into_string() else { continue };
            notes.push((note, id, PathBuf::from(dir)));
        }
        Ok(notes)
    }
}

/// There is no `rmdir` by inode number: between the look and the removal the directory could be replaced. What could be
/// lost then is an empty directory of a microsecond's age.
fn try_one(files: &dyn Files, note: PathBuf, id: DirId, dir: PathBuf) -> Result<(), Error> {
    match files.identity(&dir) {
        Ok(now) if now == id => match files.rmdir(&dir) {
            Ok(()) => {}
            Err(e) if is_absent(e) => {}
            Err(e) if is_in_use(e) => return Ok(()),
            Err(e) => return Err(Error::io("removing", dir)(e)),
        },
        // Gone, or somebody else's by now.
        Ok(_) => {}
        Err(e) if is_absent(e) => {}
        Err(e) => return Err(Error::io("looking at", dir)(e)),
    }
    match unlink(&note) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(Error::io("dropping", note)(e)),
    }
}

fn name_of(id: DirId) -> String {
    format!("{:x}-{:x}", id.dev, id.ino)
}

fn id_of(name: &str) -> Option<DirId> {
    let (dev, ino) = name.split_once('-')?;
    Some(DirId { dev: u64::from_str_radix(dev, 16).ok()?, ino: u64::from_str_radix(ino, 16).ok()? })
}
