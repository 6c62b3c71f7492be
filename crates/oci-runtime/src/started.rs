//! The process that a runtime has started, known before its number can come to mean another one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use proc_id::Process;
use rustix::io::Errno;

use crate::Error;

/// A pid file: removed before the call (runc gives up if its own temporary one is there from a call that was killed)
/// and after it, since a number without a start time is worth nothing later.
pub(crate) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    pub(crate) fn new(path: &Path) -> Result<Self, Error> {
        let file = Self { path: path.to_owned() };
        for path in file.paths() {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::system(format!("remove {}", path.display()))(e));
                }
                _ => {}
            }
        }
        Ok(file)
    }

    fn paths(&self) -> [PathBuf; 2] {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        [self.path.clone(), self.path.with_file_name(format!(".{name}"))]
    }

    /// The process, dead or alive: our child, which nobody but us reaps.
    pub(crate) fn process(self, runtime: &str, verb: &'static str, id: &str) -> Result<Process, Error> {
        let text = fs::read_to_string(&self.path);
        let text = text.map_err(Error::system(format!("read {}", self.path.display())))?;
        let pid: i32 = text.trim().parse().map_err(|_| Error::Answer {
            runtime: runtime.to_owned(),
            verb,
            id: id.to_owned(),
            problem: format!("its pid file says {text:?}"),
        })?;
        let not_ours = || Error::NotOurs { runtime: runtime.to_owned(), verb, id: id.to_owned(), pid };
        let process = match Process::of_child(u32::try_from(pid).unwrap_or(0)) {
            Err(proc_id::Error::NotAProcess { .. }) => return Err(not_ours()),
            Err(proc_id::Error::Open { source, .. }) if is_gone(&source) => return Err(not_ours()),
            process => process?,
        };
        // Who is no child may be a stranger with a number that was free.
        if process.is_child()? { Ok(process) } else { Err(not_ours()) }
    }
}

fn is_gone(e: &io::Error) -> bool {
    e.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

impl Drop for PidFile {
    fn drop(&mut self) {
        for path in self.paths() {
            fs::remove_file(path).ok();
        }
    }
}
