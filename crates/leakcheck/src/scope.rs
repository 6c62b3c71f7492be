//! Whose things count: several tests and strangers share one host.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host::ProcessId;

/// Folders that strangers use too: what lies in them counts if a marker is in its path.
const SHARED_FOLDERS: [&str; 5] = [
    "/run/urunc",
    "/run/containerd/s",
    "/run/containerd/fifo",
    "/run/containerd/io.containerd.runtime.v2.task",
    "/run/netns",
];

/// Which things of the host a snapshot holds.
///
/// A *marker* is a string that nobody else uses: a scratch folder, containerd's address, a prefix of ids, a
/// namespace. A process counts if its command line, environment, cgroup, working directory or program contains
/// one, or if it descends from such a process; other things count if their names contain one. A *root* is a folder
/// that is ours as a whole: everything below it counts.
///
/// Some things count without a marker, because they bear our name and nobody lives in them: an orphaned process in
/// a cgroup leaf of ours, such a leaf without a stranger in it, a tap of ours that nobody holds open; and in the host's
/// network a filter with our mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    everything: bool,
    our_names: bool,
    markers: Vec<String>,
    roots: Vec<PathBuf>,
    shared: Vec<PathBuf>,
    except: Vec<String>,
    netns: Vec<PathBuf>,
    inside: Vec<ProcessId>,
}

impl Scope {
    /// A scope without markers and roots yet.
    pub fn new() -> Self {
        Self {
            everything: false,
            our_names: true,
            markers: Vec::new(),
            roots: Vec::new(),
            shared: SHARED_FOLDERS.map(PathBuf::from).to_vec(),
            except: Vec::new(),
            netns: Vec::new(),
            inside: Vec::new(),
        }
    }

    /// Everything on the host: what the operator compares. Files are still only looked at in the run directories
    /// and below the roots. The caller, its ancestors and kernel threads never count.
    pub fn host() -> Self {
        Self { everything: true, ..Self::new() }
    }

    /// Adds a marker. An empty one would be in everything and is ignored.
    #[must_use]
    pub fn marker(mut self, marker: impl Into<String>) -> Self {
        let marker = marker.into();
        if !marker.is_empty() {
            self.markers.push(marker);
        }
        self
    }

    /// Adds a root; it need not exist yet. Name run directories, not containerd's content store: every file below
    /// is listed.
    #[must_use]
    pub fn root(mut self, root: impl AsRef<Path>) -> Self {
        self.roots.push(resolve(root.as_ref()));
        self
    }

    /// Adds a folder that strangers use too: what lies below it counts if a marker is in its path.
    #[must_use]
    pub fn shared_folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.shared.push(resolve(folder.as_ref()));
        self
    }

    /// Things with this text in their names never count: for what others keep on purpose, like containerd's folder
    /// of a namespace.
    #[must_use]
    pub fn except(mut self, text: impl Into<String>) -> Self {
        let text = text.into();
        if !text.is_empty() {
            self.except.push(text);
        }
        self
    }

    /// Adds a network namespace, by a path that opens it: all in it counts, whoever holds it.
    #[must_use]
    pub fn netns(mut self, path: impl Into<PathBuf>) -> Self {
        self.netns.push(path.into());
        self
    }

    /// Looks into a living process: its fds by what they are open on, its threads, and the children that it has not
    /// waited for. Whether the process itself counts does not matter for that.
    ///
    /// What is compared is how many there are of each sort; a thread or fd that went and came again is no difference.
    /// Pools keep threads for a while, so take the first snapshot when the process has been quiet for longer than that,
    /// and [`settle`](crate::settle) for longer than that.
    #[must_use]
    pub fn inside(mut self, pid: i32) -> Self {
        // One that is gone is reported by each snapshot: nothing starts with the boot.
        self.inside.push(ProcessId::of(pid).unwrap_or(ProcessId { pid, start: 0 }));
        self
    }

    /// Counts nothing by our name alone: for a test that runs beside others which leave orphans on purpose.
    #[must_use]
    pub fn only_marked(mut self) -> Self {
        self.our_names = false;
        self
    }

    pub(crate) fn namespaces(&self) -> &[PathBuf] {
        &self.netns
    }

    pub(crate) fn processes(&self) -> &[ProcessId] {
        &self.inside
    }

    pub(crate) fn counts_our_names(&self) -> bool {
        self.our_names
    }

    /// Whether this text names something in scope.
    pub(crate) fn names(&self, text: &str) -> bool {
        self.everything || self.markers.iter().any(|marker| text.contains(marker.as_str()))
    }

    /// Whether this path is in scope: by a marker in it, or because it is a root or below one.
    pub(crate) fn covers(&self, path: &str) -> bool {
        self.names(path) || self.roots.iter().any(|root| Path::new(path).starts_with(root))
    }

    pub(crate) fn excepts(&self, name: &str) -> bool {
        self.except.iter().any(|text| name.contains(text.as_str()))
    }

    /// The folders whose files are looked at.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.roots.iter().chain(&self.shared).map(PathBuf::as_path)
    }
}

impl Default for Scope {
    fn default() -> Self {
        Self::new()
    }
}

/// The path with the links of its existing part resolved: the kernel shows mounts, working directories and sockets
/// by their real paths, and `/var/run` is a link.
fn resolve(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), path.strip_prefix(ancestor)) {
            return real.components().chain(rest.components()).collect();
        }
    }
    path.to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_covers_itself_and_what_is_below_but_no_namesake() {
        let scope = Scope::new().root("/run/urunc-test");
        assert!(scope.covers("/run/urunc-test"));
        assert!(scope.covers("/run/urunc-test/a/b"));
        assert!(!scope.covers("/run/urunc-test2/a"));
        assert!(!scope.covers("/run"));
    }

    #[test]
    fn an_empty_marker_is_in_nothing() {
        let scope = Scope::new().marker("").except("");
        assert!(!scope.names("anything"));
        assert!(!scope.excepts("anything"));
    }

    #[test]
    fn links_on_the_way_to_a_root_are_resolved_even_if_it_does_not_exist() {
        assert_eq!(resolve(Path::new("/proc/self/root/proc/none/x")), Path::new("/proc/none/x"));
    }

    #[test]
    fn the_host_is_everything() {
        assert!(Scope::host().names("a stranger"));
        assert!(Scope::host().covers("/anywhere"));
    }
}
