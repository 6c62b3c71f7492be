//! Making what a plan names.
//!
//! It makes the missing parents, the leaf (exclusively: a leaf that is there already is somebody else's), and the
//! limits. It takes nothing back when it fails - that is [`crate::remove`]'s work, from the plan - with one
//! exception: when the leaf exists, it takes back what this very call made, because `remove` would take the stranger's
//! leaf for ours.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;

use crate::files::{Files, is_absent};
use crate::limits::set_limits;
use crate::remove::unmake;
use crate::{Error, LeafIn, LeafPlan, Limits, Notes, Version};

/// How often a parent may vanish under us (a neighbour's undo of the same parent) before we give up.
const ATTEMPTS: usize = 16;

/// Makes the leaf in each hierarchy of the plan and writes `limits` on the caller's path.
///
/// Returns an fd for each leaf, close-on-exec, in the order of the plan, by which a process gets in. On v1 it is the
/// leaf's `tasks`, open for writing: a process with one thread that writes `0` there is in. On v2 it is the leaf's
/// directory, for `CLONE_INTO_CGROUP` (clone(2)). Both avoid `cgroup.procs`: a write there takes a lock that every fork
/// and exit takes, and waits for an RCU grace period after a quiet while, 5 to 20 ms. `notes` gets the parents that had to be made although the plan
/// does not name them: they existed when the plan was drawn and vanished since.
///
/// [`Error::LeafExists`] means that nothing of this call is left, and that `remove` must not be called.
pub fn create(
    files: &dyn Files,
    plan: &LeafPlan,
    limits: &Limits,
    notes: &Notes,
) -> Result<Vec<OwnedFd>, Error> {
    for (i, h) in plan.hierarchies.iter().enumerate() {
        match make(files, h, limits, notes) {
            Err(exists @ Error::LeafExists { .. }) => {
                // Where the leaf existed its parents did, too: nothing there is ours.
                return Err(match unmake(files, &plan.hierarchies[..i], notes) {
                    failures if failures.is_empty() => exists,
                    failures => Error::Undo { failures: [exists].into_iter().chain(failures).collect() },
                });
            }
            outcome => outcome?,
        }
        fault::point("cgroup.leaf")?;
    }
    for h in &plan.hierarchies {
        match h.version {
            Version::V1 if h.has("cpuset") => inherit_cpuset(files, h)?,
            Version::V1 => {}
            Version::V2 => enable_controllers(files, h),
        }
    }
    set_limits(files, plan, limits)?;
    let door = |h: &LeafIn| {
        let (place, opened) = match h.version {
            Version::V1 => {
                let file = h.leaf_dir().join("tasks");
                let opened = files.open(&file);
                (file, opened)
            }
            Version::V2 => (h.leaf_dir(), files.open_dir(&h.leaf_dir())),
        };
        opened.map_err(Error::io("opening", place))
    };
    plan.hierarchies.iter().map(door).collect()
}

/// The parents and the leaf in one hierarchy.
fn make(files: &dyn Files, h: &LeafIn, limits: &Limits, notes: &Notes) -> Result<(), Error> {
    let leaf = h.leaf_dir();
    for attempt in 0..ATTEMPTS {
        if attempt == 0 {
            for path in &h.to_make {
                make_parent(files, &h.dir_of(path))?;
            }
        } else {
            for path in h.path.prefixes() {
                let dir = h.dir_of(&path);
                if make_parent(files, &dir)? && !h.to_make.contains(&path) {
                    notes.keep(files, &dir)?;
                }
            }
        }
        if h.version == Version::V1 && h.has("memory") && limits.memory.is_some() {
            count_children(files, h)?;
        }
        match files.mkdir(&leaf) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => return Err(Error::LeafExists { dir: leaf }),
            Err(Errno::NOENT) => {}
            Err(e) => return Err(Error::io("making", leaf)(e)),
        }
    }
    Err(Error::io("making", leaf)(Errno::NOENT))
}

/// Whether this call made it. A parent whose own parent has vanished is left to the next attempt.
fn make_parent(files: &dyn Files, dir: &Path) -> Result<bool, Error> {
    match files.mkdir(dir) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST | Errno::NOENT) => Ok(false),
        Err(e) => Err(Error::io("making", dir)(e)),
    }
}

/// Up to Linux 5.10 a v1 memory limit holds for children only if this is set, and it can only be set while there
/// are none. Later kernels always count children and take the write as a comment.
fn count_children(files: &dyn Files, h: &LeafIn) -> Result<(), Error> {
    let file = h.dir().join("memory.use_hierarchy");
    match files.write(&file, "1") {
        Err(e) if is_absent(e) => Ok(()),
        outcome => outcome.map_err(Error::limit(file, "1")),
    }
}

/// A new v1 cpuset is empty, and an empty one takes no process: copies the values down to the leaf, through every
/// empty one on the way. What has a value keeps it.
fn inherit_cpuset(files: &dyn Files, h: &LeafIn) -> Result<(), Error> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let read = |dir: &Path| {
            let file = dir.join(name);
            files.read(&file).map(|text| text.trim().to_owned()).map_err(Error::io("reading", file))
        };
        let mut inherited = read(&h.mount)?;
        for dir in h.path.prefixes().map(|p| h.dir_of(&p)).chain([h.leaf_dir()]) {
            match read(&dir)? {
                own if !own.is_empty() => inherited = own,
                _ => {
                    let file = dir.join(name);
                    files.write(&file, &inherited).map_err(Error::limit(file, &inherited))?;
                }
            }
        }
    }
    Ok(())
}

/// Lets the plan's controllers through to the leaf, as far as that goes: a directory that holds processes itself
/// refuses, and then either a limit cannot be written, which is an error there, or nothing was lost.
///
/// Never taken back: by then others may rely on it.
fn enable_controllers(files: &dyn Files, h: &LeafIn) {
    if h.controllers.is_empty() {
        return;
    }
    for dir in [h.mount.clone()].into_iter().chain(h.path.prefixes().map(|p| h.dir_of(&p))) {
        let file = dir.join("cgroup.subtree_control");
        let enabled = files.read(&file).unwrap_or_default();
        let is_missing = |c: &&String| !enabled.split_whitespace().any(|e| e == c.as_str());
        let wanted: Vec<String> = h.controllers.iter().filter(is_missing).map(|c| format!("+{c}")).collect();
        if wanted.is_empty() || files.write(&file, &wanted.join(" ")).is_ok() {
            continue;
        }
        // One write is all or nothing; one controller that is refused must not take the others with it.
        for one in &wanted {
            let _ = files.write(&file, one);
        }
    }
}
