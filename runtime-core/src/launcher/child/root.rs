//! The monitor's private root, on a tmpfs in the launcher's own mount namespace.
//!
//! ```text
//! /usr (and /bin, /lib*)   the host's, read-only
//! /etc/ld.so.*             the host's, read-only
//! /dev                     null, urandom, and later what the plan needs
//! /run                     a small tmpfs for sockets
//! /guest                   later: kernel and initrd
//! /image                   the container's root file system, until the gate
//! ```
//!
//! Then the old root is detached, before *ready* is said: a mere copy of the host's table would pin every other
//! container's mounts and network namespaces.

use std::{
    fs::{self, DirBuilder, File},
    os::unix::fs::{DirBuilderExt, symlink},
    path::{Path, PathBuf},
};

use host_mount::{bind, bind_readonly, detach_from_host, mount_rootfs, pivot_into, tmpfs};
use rustix::{
    fs::{CWD, FileType, Mode, makedev, mknodat},
    io::Errno,
};

use super::{Failure, IMAGE, path};
use crate::launcher::message::View;

/// The size of the root's tmpfs: mount points, device nodes, nothing else. Bytes.
const ROOT_SIZE: u64 = 4 * 1024 * 1024;
/// The size of the tmpfs for sockets. Bytes.
const RUN_SIZE: u64 = 1024 * 1024;

/// What of the host is to be shown; looked at before the namespaces change.
pub struct Host {
    links: Vec<(String, PathBuf)>,
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Host {
    /// Looks which of `/bin`, `/lib*` are folders and which are links into `/usr`, and which `/etc/ld.so.*` there are.
    pub fn look(view: &View) -> Result<Self, Failure> {
        let mut host = Self { links: vec![], folders: vec![path("/usr")], files: vec![] };
        for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
            let place = Path::new("/").join(name);
            match fs::symlink_metadata(&place) {
                Ok(m) if m.is_symlink() => {
                    let target = fs::read_link(&place).map_err(|e| io(&place, &e))?;
                    host.links.push((name.to_owned(), target));
                }
                Ok(m) if m.is_dir() => host.folders.push(place),
                _ => {}
            }
        }
        for name in ["ld.so.cache", "ld.so.conf", "ld.so.preload"] {
            let file = Path::new("/etc").join(name);
            if file.is_file() {
                host.files.push(file);
            }
        }
        host.folders.extend(view.folders.iter().filter(|f| !f.starts_with("/usr")).cloned());
        Ok(host)
    }
}

/// Builds the root and pivots into it.
pub fn build(root: &Path, view: &View, host: &Host) -> Result<(), Failure> {
    detach_from_host()?;
    tmpfs(root, ROOT_SIZE, 0o755)?;
    for name in ["dev", "etc", "guest", "image", "run", "tmp"] {
        folder(&root.join(name))?;
    }
    // Before the host's folders: one of them may be below it.
    tmpfs(&root.join("run"), RUN_SIZE, 0o700)?;
    for (name, target) in &host.links {
        let place = root.join(name);
        symlink(target, &place).map_err(|e| io(&place, &e))?;
    }
    for source in &host.folders {
        let target = inside(root, source);
        folder(&target)?;
        bind_readonly(source, &target)?;
    }
    for source in &host.files {
        let target = inside(root, source);
        File::create(&target).map_err(|e| io(&target, &e))?;
        bind_readonly(source, &target)?;
    }
    for (name, minor) in [("null", 3), ("urandom", 9)] {
        device(&root.join("dev").join(name), 1, minor)?;
    }
    let image = inside(root, Path::new(IMAGE));
    if view.rootfs.is_empty() {
        bind(&view.root, &image)?;
    } else {
        mount_rootfs(&view.rootfs, &image)?;
    }
    pivot_into(root)?;
    Ok(())
}

/// Builds a root with nothing in it: a sandbox needs none, and a copy of the host's table would pin every mount in it.
pub fn build_empty(root: &Path) -> Result<(), Failure> {
    detach_from_host()?;
    tmpfs(root, ROOT_SIZE, 0o755)?;
    Ok(pivot_into(root)?)
}

/// Makes a character device.
pub fn device(place: &Path, major: u32, minor: u32) -> Result<(), Failure> {
    let mode = Mode::from_raw_mode(0o666);
    mknodat(CWD, place, FileType::CharacterDevice, mode, makedev(major, minor))
        .map_err(Failure::of(format!("make the device {}", place.display())))
}

fn inside(root: &Path, absolute: &Path) -> PathBuf {
    root.join(absolute.strip_prefix("/").unwrap_or(absolute))
}

fn folder(place: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o755).create(place).map_err(|e| io(place, &e))
}

fn io(place: &Path, e: &std::io::Error) -> Failure {
    Failure {
        action: format!("prepare {}", place.display()),
        errno: e.raw_os_error().unwrap_or(Errno::IO.raw_os_error()),
    }
}
