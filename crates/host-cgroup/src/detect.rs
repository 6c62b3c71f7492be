//! Which cgroup hierarchies this host has, and where: read from `/proc/self/mountinfo` at run time.
//!
//! It owns nothing and changes nothing. A mount that cannot be understood is left out.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::{Files, Kernel, is_absent};
use crate::{CgroupsPath, Error};

/// The controllers that may appear among the mount options of a v1 hierarchy; everything else there is an option.
const V1_CONTROLLERS: [&str; 14] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
];

/// Which of the two interfaces a hierarchy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// One tree for one or a few controllers.
    V1,
    /// The unified tree. On a hybrid host it may have no controllers at all.
    V2,
}

impl Version {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Version::V1 => "cgroup v1",
            Version::V2 => "cgroup v2",
        }
    }
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// v1: those it was mounted with. v2: those that are available at the mount point.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Which interface it speaks.
    pub version: Version,
    /// Which directory of the hierarchy the mount shows; `/` except inside containers.
    root: String,
}

/// All hierarchies of this host. That of systemd, which has no controller, goes by its name, `name=systemd`.
#[derive(Debug, Clone)]
pub struct Hierarchies {
    list: Vec<Hierarchy>,
    host: PathBuf,
}

impl Hierarchies {
    /// Looks at this host.
    pub fn detect() -> Result<Self, Error> {
        Self::detect_in(Path::new("/"))
    }

    /// Looks at the host whose root directory is `host`: a tree made by a test.
    pub fn detect_in(host: &Path) -> Result<Self, Error> {
        let file = host.join("proc/self/mountinfo");
        let mounts = Kernel.read(&file).map_err(Error::io("reading", file))?;
        let mut list = parse_mounts(&mounts);
        for hierarchy in &mut list {
            if let Ok(inside) = hierarchy.mount.strip_prefix("/") {
                hierarchy.mount = host.join(inside);
            }
            if hierarchy.version == Version::V2 {
                let file = hierarchy.mount.join("cgroup.controllers");
                match Kernel.read(&file) {
                    Ok(text) => hierarchy.controllers = text.split_whitespace().map(str::to_owned).collect(),
                    Err(e) if is_absent(e) => {}
                    Err(e) => return Err(Error::io("reading", file)(e)),
                }
            }
        }
        Ok(Self { list, host: host.to_owned() })
    }

    /// The hierarchies, in the order in which they are mounted.
    pub fn iter(&self) -> impl Iterator<Item = &Hierarchy> {
        self.list.iter()
    }

    /// The kernel's list of the cgroups that the calling process is in now: `/proc/self/cgroup`.
    pub(crate) fn own_cgroups(&self) -> Result<String, Error> {
        let file = self.host.join("proc/self/cgroup");
        Kernel.read(&file).map_err(Error::io("reading", file))
    }
}

impl Hierarchy {
    /// The cgroup of the caller in this hierarchy, relative to the mount point; `None`: the mount does not show it.
    ///
    /// `own_cgroups` is the content of `/proc/self/cgroup`.
    pub(crate) fn own_cgroup<'a>(&self, own_cgroups: &'a str) -> Option<&'a Path> {
        let own = own_cgroups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, own) = (fields.next()?, fields.next()?);
            let here = match self.version {
                Version::V1 => controllers.split(',').any(|c| self.controllers.iter().any(|mine| mine == c)),
                Version::V2 => controllers.is_empty(),
            };
            here.then_some(own)
        })?;
        Path::new(own).strip_prefix(&self.root).ok()
    }

    /// The cgroup of the caller in this hierarchy, as seen from the mount point, if `path` is it or contains it.
    pub(crate) fn own_cgroup_in(&self, path: &CgroupsPath, own_cgroups: &str) -> Option<String> {
        // A process outside what the mount shows cannot be below any path under the mount.
        let visible = self.own_cgroup(own_cgroups)?;
        visible.starts_with(path.relative()).then(|| format!("/{}", visible.display()))
    }
}

fn parse_mounts(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let mut left = left.split(' ').skip(3);
        let mut right = right.split(' ');
        let (Some(root), Some(mount)) = (left.next(), left.next()) else { continue };
        let (Some(kind), Some(options)) = (right.next(), right.nth(1)) else { continue };
        let mount = PathBuf::from(unescape(mount));
        // A later mount on the same place hides the earlier one.
        found.retain(|h| h.mount != mount);
        let (version, controllers) = match kind {
            "cgroup2" => (Version::V2, Vec::new()),
            "cgroup" => {
                // A hierarchy without a controller has a name: systemd's.
                let known = |o: &&str| V1_CONTROLLERS.contains(o) || o.starts_with("name=");
                (Version::V1, options.split(',').filter(known).map(str::to_owned).collect())
            }
            _ => continue,
        };
        if version == Version::V1 && controllers.is_empty() {
            continue;
        }
        let new = Hierarchy { controllers, mount, version, root: unescape(root) };
        // A hierarchy may be mounted several times; the mount that shows all of it is the one to use.
        let same = |h: &Hierarchy| h.version == new.version && h.controllers == new.controllers;
        match found.iter_mut().find(|h| same(h)) {
            Some(old) if old.root != "/" && new.root == "/" => *old = new,
            Some(_) => {}
            None => found.push(new),
        }
    }
    found
}

/// Undoes mountinfo's octal escapes of space, tab, newline and backslash.
fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                text.push(char::from(byte));
                text.push_str(&part[3..]);
            }
            None => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/my\\040memory rw - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
41 31 0:38 /sub /mnt/part rw - cgroup2 cgroup2 rw,nsdelegate
42 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
43 31 0:38 / /mnt/again rw - cgroup2 cgroup2 rw
44 31 0:50 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
45 31 0:51 / /sys/fs/cgroup/pids rw - tmpfs tmpfs rw
broken line
";

    #[test]
    fn mounts_of_a_hybrid_host() {
        let found = parse_mounts(HYBRID);
        let short: Vec<(String, &str)> =
            found.iter().map(|h| (h.controllers.join(","), h.mount.to_str().unwrap())).collect();
        assert_eq!(
            short,
            [
                ("cpu,cpuacct".to_owned(), "/sys/fs/cgroup/cpu,cpuacct"),
                ("memory".to_owned(), "/sys/fs/cgroup/my memory"),
                ("name=systemd".to_owned(), "/sys/fs/cgroup/systemd"),
                (String::new(), "/sys/fs/cgroup/unified"),
            ]
        );
    }

    #[test]
    fn own_cgroup_is_recognised() {
        let own = "9:name=systemd:/sys\n4:memory:/box/a/b\n1:cpu,cpuacct:/\n0::/x\n";
        let at = |controllers: &[&str], version, root: &str| Hierarchy {
            controllers: controllers.iter().map(|&c| c.to_owned()).collect(),
            mount: PathBuf::from("/m"),
            version,
            root: root.to_owned(),
        };
        let path = |text| CgroupsPath::parse(text).unwrap();
        let memory = at(&["memory"], Version::V1, "/");
        assert_eq!(memory.own_cgroup_in(&path("/box/a"), own).unwrap(), "/box/a/b");
        assert_eq!(memory.own_cgroup_in(&path("/box/a/b"), own).unwrap(), "/box/a/b");
        assert!(memory.own_cgroup_in(&path("/box/a/b/c"), own).is_none());
        assert!(memory.own_cgroup_in(&path("/box/a/bb"), own).is_none());
        // Inside a container the mount shows a part of the hierarchy, and paths count from there.
        let inside = at(&["memory"], Version::V1, "/box");
        assert_eq!(inside.own_cgroup_in(&path("/a"), own).unwrap(), "/a/b");
        assert!(at(&["memory"], Version::V1, "/other").own_cgroup_in(&path("/box"), own).is_none());
        assert!(at(&["cpu"], Version::V1, "/").own_cgroup_in(&path("/x"), own).is_none());
        assert!(at(&["memory"], Version::V2, "/").own_cgroup_in(&path("/x"), own).is_some());
    }
}
