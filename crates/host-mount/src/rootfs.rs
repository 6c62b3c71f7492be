//! The mounts of a container's root file system, as containerd's snapshotters describe them.

use std::{ffi::CString, path::Path};

use rustix::{
    io::Errno,
    mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount},
    process::chdir,
};
use serde::{Deserialize, Serialize};

use crate::{Error, fail};

/// One mount of a container's root file system (containerd's `types.Mount`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootfsMount {
    /// The file system's type, e.g. `overlay` or `bind`.
    pub kind: String,
    /// The source.
    pub source: String,
    /// Where below the root it is mounted; mostly empty.
    pub target: String,
    /// The options, as in fstab(5).
    pub options: Vec<String>,
}

/// The most that mount(2) takes as data, the terminating NUL included.
const PAGE: usize = 4096;

/// Mounts `mounts`, in order, on `target`. The caller is a process of its own: its working directory may be changed.
pub fn mount_rootfs(mounts: &[RootfsMount], target: &Path) -> Result<(), Error> {
    for m in mounts {
        let (flags, data) = split_options(m)?;
        let place = target.join(m.target.trim_start_matches('/'));
        let failed = fail("mount the container's root file system on", &place);
        let nul = |_| failed(Errno::INVAL);
        if flags.contains(MountFlags::BIND) {
            mount(m.source.as_str(), &place, c"", flags & (MountFlags::BIND | MountFlags::REC), None)
                .map_err(&failed)?;
            // A bind takes its per-mount flags only by a remount.
            let rest = flags - MountFlags::REC;
            if rest != MountFlags::BIND {
                mount_remount(&place, rest, c"").map_err(&failed)?;
            }
            continue;
        }
        let mut data = data.join(",");
        if data.len() >= PAGE
            && let Some((base, shorter)) = relative_to_common_base(&data)
        {
            // Many layers: name them relative to the folder that they share (as containerd itself does).
            chdir(base.as_str()).map_err(&failed)?;
            data = shorter;
        }
        if data.len() >= PAGE {
            return Err(failed(Errno::TOOBIG));
        }
        let data = CString::new(data).map_err(nul)?;
        mount(m.source.as_str(), &place, m.kind.as_str(), flags, data.as_c_str()).map_err(&failed)?;
    }
    Ok(())
}

/// Takes the mounts of [`mount_rootfs`] away again (for none: the one bind that stands for them). Never lazily: a
/// mount that is in use stays visible as an error.
pub fn unmount_rootfs(mounts: &[RootfsMount], target: &Path) -> Result<(), Error> {
    let one = [String::new()];
    let targets: Vec<&String> =
        if mounts.is_empty() { one.iter().collect() } else { mounts.iter().map(|m| &m.target).collect() };
    for place in targets.into_iter().rev() {
        let place = target.join(place.trim_start_matches('/'));
        unmount(&place, UnmountFlags::NOFOLLOW).map_err(fail("unmount", &place))?;
    }
    Ok(())
}

fn split_options(m: &RootfsMount) -> Result<(MountFlags, Vec<&str>), Error> {
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    if m.kind == "bind" {
        flags |= MountFlags::BIND;
    }
    // By a program: mount.fuse, mount.fuse3.
    if m.kind.starts_with("fuse.") || m.kind.starts_with("fuse3.") {
        return Err(Error::Helper { kind: m.kind.clone() });
    }
    for option in &m.options {
        match option.as_str() {
            "ro" => flags |= MountFlags::RDONLY,
            "rw" => flags -= MountFlags::RDONLY,
            "nosuid" => flags |= MountFlags::NOSUID,
            "suid" => flags -= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "dev" => flags -= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "exec" => flags -= MountFlags::NOEXEC,
            "noatime" => flags |= MountFlags::NOATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            "nodiratime" => flags |= MountFlags::NODIRATIME,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "bind" => flags |= MountFlags::BIND,
            "rbind" => flags |= MountFlags::BIND | MountFlags::REC,
            // This namespace shows its mounts to nobody: propagation does not matter.
            "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared" | "defaults" | "" => {}
            other if is_unknown_to_the_kernel(other) => {
                return Err(Error::Option { kind: m.kind.clone(), option: option.clone() });
            }
            other => data.push(other),
        }
    }
    Ok((flags, data))
}

/// What whoever mounts has to do himself: a device, mapped ids. A bind mount would pass over it and say nothing.
fn is_unknown_to_the_kernel(option: &str) -> bool {
    option == "loop" || ["uidmap=", "gidmap=", "X-containerd."].iter().any(|word| option.starts_with(word))
}

/// For overlay options that are too long: the longest folder that all lower, upper and work directories share, and
/// the options with those made relative to it.
fn relative_to_common_base(data: &str) -> Option<(String, String)> {
    let layers = |value: &str| value.split(':').map(str::to_owned).collect::<Vec<_>>();
    let mut paths = Vec::new();
    for option in data.split(',') {
        match option.split_once('=') {
            Some(("lowerdir", v)) => paths.extend(layers(v)),
            Some(("upperdir" | "workdir", v)) => paths.push(v.to_owned()),
            _ => {}
        }
    }
    let first = paths.first()?.clone();
    let mut base = Path::new(&first).parent()?;
    while !paths.iter().all(|p| Path::new(p).starts_with(base)) {
        base = base.parent()?;
    }
    let base = base.to_str()?.to_owned();
    let relative = |path: &str| Path::new(path).strip_prefix(&base).ok()?.to_str().map(str::to_owned);
    let options: Option<Vec<String>> = data
        .split(',')
        .map(|option| match option.split_once('=') {
            Some((key @ "lowerdir", v)) => {
                let short: Option<Vec<_>> = layers(v).iter().map(|p| relative(p)).collect();
                Some(format!("{key}={}", short?.join(":")))
            }
            Some((key @ ("upperdir" | "workdir"), v)) => Some(format!("{key}={}", relative(v)?)),
            _ => Some(option.to_owned()),
        })
        .collect();
    Some((base, options?.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_flags_or_data() {
        let m = RootfsMount {
            kind: "overlay".to_owned(),
            source: "overlay".to_owned(),
            target: String::new(),
            options: ["ro", "nosuid", "lowerdir=/a:/b", "index=off", "rw"].map(str::to_owned).to_vec(),
        };
        let (flags, data) = split_options(&m).unwrap();
        assert_eq!(flags, MountFlags::NOSUID);
        assert_eq!(data, ["lowerdir=/a:/b", "index=off"]);
        for option in ["loop", "uidmap=0:1000:1", "gidmap=0:1000:1", "X-containerd.mkdir.path=/a"] {
            let m = RootfsMount { options: vec![option.to_owned()], ..m.clone() };
            assert!(matches!(split_options(&m), Err(Error::Option { .. })), "{option}");
        }
        let m = RootfsMount { kind: "fuse3.fuse-overlayfs".to_owned(), ..m };
        assert!(matches!(split_options(&m), Err(Error::Helper { .. })));
    }

    #[test]
    fn long_overlay_options_become_relative() {
        let data = "index=off,workdir=/s/9/work,upperdir=/s/9/fs,lowerdir=/s/1/fs:/s/2/fs";
        let (base, shorter) = relative_to_common_base(data).unwrap();
        assert_eq!(base, "/s");
        assert_eq!(shorter, "index=off,workdir=9/work,upperdir=9/fs,lowerdir=1/fs:2/fs");
    }
}
