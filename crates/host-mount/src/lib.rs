//! A narrow layer over the kernel's mounts.
//!
//! All but [`Tree`] is meant for a process in a mount namespace of its own ([`detach_from_host`] makes it one whose
//! mounts the host never sees): what it mounts is a lease that ends with the process. A failed call leaves at most
//! what it mounted before, in that namespace. Linux 5.10 suffices: read-only is set by a bind remount
//! (`mount_setattr` is younger).

mod beneath;
mod rootfs;
mod tree;

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::CWD,
    io::Errno,
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
        mount_remount, move_mount, open_tree, unmount,
    },
    process::pivot_root,
};
use thiserror::Error;

pub use beneath::{Beneath, open_beneath};
pub use rootfs::{RootfsMount, mount_rootfs, unmount_rootfs};
pub use tree::{MountId, Mounted, Tree};

/// What can go wrong with a mount.
#[derive(Debug, Error)]
pub enum Error {
    /// A mount call failed.
    #[error("cannot {action} {}", path.display())]
    Mount {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A mount that the runtime asks for cannot be made by us.
    #[error("rootfs mount of type {kind:?}: option {option:?} is not supported")]
    Option {
        /// The file system's type.
        kind: String,
        /// The option.
        option: String,
    },
    /// The same of its whole type.
    #[error(
        "rootfs mount of type {kind:?} is not supported: use a snapshotter whose mounts the kernel makes"
    )]
    Helper {
        /// The file system's type.
        kind: String,
    },
    /// A path of an image could not be opened.
    #[error("cannot open {path:?} in the image")]
    Open {
        /// The path inside the image.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A path of an image is not a regular file.
    #[error("{path:?} in the image is not a regular file")]
    NotAFile {
        /// The path inside the image.
        path: String,
    },
}

fn fail(action: &'static str, path: &Path) -> impl Fn(Errno) -> Error {
    move |e| Error::Mount { action, path: path.to_owned(), source: e.into() }
}

/// Makes every mount of the calling process's namespace a slave: nothing that is mounted here reaches the host.
pub fn detach_from_host() -> Result<(), Error> {
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", flags).map_err(fail("detach from the host's mounts", Path::new("/")))
}

/// Mounts a tmpfs of at most `size` bytes.
pub fn tmpfs(target: &Path, size: u64, mode: u32) -> Result<(), Error> {
    let data = format!("size={size},mode={mode:o}");
    let data = std::ffi::CString::new(data).unwrap_or_default();
    mount("tmpfs", target, "tmpfs", MountFlags::NOSUID, data.as_c_str())
        .map_err(fail("mount a tmpfs on", target))
}

/// Shows the file or directory `source` read-only at `target`; what is mounted below it is not shown.
pub fn bind_readonly(source: &Path, target: &Path) -> Result<(), Error> {
    bind(source, target)?;
    make_readonly(target, MountFlags::NOSUID | MountFlags::NODEV)
}

/// Shows a directory of the host at `target`, writable as it is; what is mounted below it is not shown.
pub fn bind(source: &Path, target: &Path) -> Result<(), Error> {
    attach(&clone_of(source)?, target)
}

/// Shows the very file that `file` holds read-only at `target`: a clone of its mount, so that the mount it came from
/// can be taken away.
pub fn attach_file(file: impl AsFd, target: &Path) -> Result<(), Error> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(file, c"", flags).map_err(fail("clone the mount of", target))?;
    attach(&tree, target)?;
    make_readonly(target, MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC)
}

fn clone_of(source: &Path) -> Result<OwnedFd, Error> {
    open_tree(CWD, source, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
        .map_err(fail("open", source))
}

fn attach(tree: &OwnedFd, target: &Path) -> Result<(), Error> {
    move_mount(tree, c"", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(fail("mount on", target))
}

/// Makes one mount read-only, with `also` as further per-mount flags.
pub fn make_readonly(target: &Path, also: MountFlags) -> Result<(), Error> {
    mount_remount(target, MountFlags::BIND | MountFlags::RDONLY | also, c"")
        .map_err(fail("make read-only", target))
}

/// Makes `root` the root of the namespace and detaches the old one, with everything that is mounted there.
pub fn pivot_into(root: &Path) -> Result<(), Error> {
    rustix::process::chdir(root).map_err(fail("enter", root))?;
    // The old root is stacked onto the new one (pivot_root(2), NOTES) and taken away from there. Lazily: it is the
    // host's, in use by the host, and only this namespace lets go of it.
    pivot_root(".", ".").map_err(fail("pivot into", root))?;
    unmount(".", UnmountFlags::DETACH).map_err(fail("detach the old root below", root))?;
    rustix::process::chdir("/").map_err(fail("enter", Path::new("/")))
}
