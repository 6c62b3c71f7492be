//! A path that an OCI runtime makes and enters: no leaf of ours, the path itself.
//!
//! The plan is drawn, and written to a journal, before the runtime runs. In a hierarchy in which the path did not exist
//! then, whoever is in it or below it later was put there by that runtime, or by what it ran: all of it is ours to kill
//! and to remove. Where the path existed, nothing is: it is somebody else's.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use rustix::io::Errno;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::files::{DirId, Files, is_absent};
use crate::kill::{kill_in_all, procs_in, signal_in_all};
use crate::plan::{Ours, missing};
use crate::remove::{probe_all, remove_all, remove_parents};
use crate::{CgroupsPath, Error, Hierarchies, Notes, Presence, Version};

/// A path in each hierarchy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WholePlan {
    /// May be empty: a process that is in no cgroup but the root.
    pub hierarchies: Vec<WholeIn>,
}

/// The path in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WholeIn {
    /// Where the hierarchy is mounted.
    pub mount: PathBuf,
    /// Which interface it speaks.
    pub version: Version,
    /// The hierarchy's controllers.
    pub controllers: Vec<String>,
    /// The path.
    pub path: CgroupsPath,
    /// `path` and the paths above it that did not exist, outermost first.
    pub to_make: Vec<CgroupsPath>,
    /// The paths above those, which existed, outermost first. One that is another directory later was removed before the
    /// runtime came to it, by whoever left it last, and was made anew by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stood: Vec<(CgroupsPath, DirId)>,
}

impl WholePlan {
    /// Looks which of `path` is there. Changes nothing.
    pub fn new(files: &dyn Files, hierarchies: &Hierarchies, path: &CgroupsPath) -> Result<Self, Error> {
        let look = |h: &crate::Hierarchy| {
            let to_make = missing(files, h, path)?;
            let above = path.prefixes().filter(|prefix| !to_make.contains(prefix) && prefix != path);
            // One that goes just now was not there.
            let stood = above.filter_map(|prefix| {
                let id = files.identity(&h.mount.join(prefix.relative())).ok()?;
                Some((prefix, id))
            });
            Ok::<_, Error>(WholeIn {
                mount: h.mount.clone(),
                version: h.version,
                controllers: h.controllers.clone(),
                path: path.clone(),
                stood: stood.collect(),
                to_make,
            })
        };
        Ok(Self { hierarchies: hierarchies.iter().map(look).collect::<Result<_, _>>()? })
    }

    /// Where a process is, by the kernel's own list of its cgroups. Nothing of it is ours by that.
    pub fn of_process(files: &dyn Files, hierarchies: &Hierarchies, pid: u32) -> Result<Self, Error> {
        let file = PathBuf::from(format!("/proc/{pid}/cgroup"));
        let text = match files.read(&file) {
            Ok(text) => text,
            Err(e) if is_absent(e) || e == Errno::SRCH => return Ok(Self::default()),
            Err(e) => return Err(Error::io("reading", file)(e)),
        };
        let place = |h: &crate::Hierarchy| {
            let path = h.own_cgroup(&text)?.to_str()?;
            Some(WholeIn {
                mount: h.mount.clone(),
                version: h.version,
                controllers: h.controllers.clone(),
                // The root is everybody's.
                path: CgroupsPath::parse(&format!("/{path}")).ok()?,
                to_make: vec![],
                stood: vec![],
            })
        };
        Ok(Self { hierarchies: hierarchies.iter().filter_map(place).collect() })
    }

    /// The processes in it and below it, in all hierarchies, whosever they are. Sorted.
    pub fn procs(&self, files: &dyn Files) -> Result<Vec<u32>, Error> {
        procs_in(files, self.hierarchies.iter().map(WholeIn::dir))
    }

    /// The processes in what is ours of it.
    pub fn own_procs(&self, files: &dyn Files) -> Result<Vec<u32>, Error> {
        procs_in(files, self.ours().into_iter().map(|own| own.dir))
    }

    /// Kills every process in what is ours of it; see [`crate::kill`].
    pub fn kill(&self, files: &dyn Files, deadline: Instant) -> Result<(), Error> {
        kill_in_all(files, &self.ours(), deadline)
    }

    /// Lets go on what is frozen on cgroup v1, where it does not die of a signal.
    pub fn thaw(&self, files: &dyn Files) -> Result<(), Error> {
        for h in self.hierarchies.iter().filter(|h| h.version == Version::V1 && h.has("freezer")) {
            let file = h.dir().join("freezer.state");
            match files.read(&file) {
                Ok(state) if state.trim() == "THAWED" => {}
                Ok(_) => files.write(&file, "THAWED").map_err(Error::io("writing", file))?,
                Err(e) if is_absent(e) => {}
                Err(e) => return Err(Error::io("reading", file)(e)),
            }
        }
        Ok(())
    }

    /// Sends a signal, once, to every process in what is ours of it. Who has got it.
    pub fn signal_own(&self, files: &dyn Files, signal: Signal) -> Result<BTreeSet<u32>, Error> {
        signal_in_all(files, self.ours().into_iter().map(|own| own.dir), signal, &|_| true)
    }

    /// Sends a signal, once, to those of the processes in it and below it that are meant: whosever it is. Who has got it.
    pub fn signal(
        &self,
        files: &dyn Files,
        signal: Signal,
        is_meant: &dyn Fn(u32) -> bool,
    ) -> Result<BTreeSet<u32>, Error> {
        signal_in_all(files, self.hierarchies.iter().map(WholeIn::dir), signal, is_meant)
    }

    /// Removes what is ours of it, and the parents that came with it; see [`crate::remove`].
    pub fn remove(&self, files: &dyn Files, notes: &Notes, deadline: Instant) -> Result<(), Error> {
        remove_all(files, &self.made(files), notes, deadline)
    }

    /// Leaves it to somebody else who is in it: it goes with whoever leaves it last, for it is noted that we made it.
    pub fn leave(&self, files: &dyn Files, notes: &Notes) -> Result<(), Error> {
        let all = self.made(files).into_iter().map(|mut own| {
            own.parents.push(own.dir.clone());
            own
        });
        Error::collected(all.flat_map(|own| remove_parents(files, &own, notes)).collect())
    }

    /// Looks for what is ours of it.
    pub fn probe(&self, files: &dyn Files) -> Result<Presence, Error> {
        probe_all(files, &self.ours())
    }

    fn ours(&self) -> Vec<Ours> {
        self.hierarchies.iter().filter_map(WholeIn::ours).collect()
    }

    /// The same with the parents that the runtime had to make anew.
    fn made(&self, files: &dyn Files) -> Vec<Ours> {
        let with_parents = |h: &WholeIn| {
            let mut own = h.ours()?;
            let is_new = |dir: &PathBuf, then: &DirId| files.identity(dir).is_ok_and(|now| now != *then);
            let stood = h.stood.iter().map(|(path, then)| (h.dir_of(path), then));
            let anew = stood.filter(|(dir, then)| is_new(dir, then)).map(|(dir, _)| dir);
            own.parents = anew.chain(own.parents).collect();
            Some(own)
        };
        self.hierarchies.iter().filter_map(with_parents).collect()
    }
}

impl WholeIn {
    /// `None`: nothing. A plan that names another path as its last is no plan of ours.
    fn ours(&self) -> Option<Ours> {
        let (last, above) = self.to_make.split_last()?;
        (*last == self.path).then(|| Ours {
            dir: self.dir_of(last),
            version: self.version,
            parents: above.iter().map(|path| self.dir_of(path)).collect(),
        })
    }

    /// The directory of the path.
    pub fn dir(&self) -> PathBuf {
        self.dir_of(&self.path)
    }

    /// Whether the hierarchy has a controller.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }

    fn dir_of(&self, path: &CgroupsPath) -> PathBuf {
        self.mount.join(path.relative())
    }
}
