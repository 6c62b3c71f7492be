//! The pid namespace of a process: where a container has one of its own, that tells who is of the container, whatever
//! cgroup he is in.

use std::{
    fs::File,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
};

/// A pid namespace. It is held open, so that nobody else gets its number.
#[derive(Debug)]
pub struct PidNamespace {
    fd: OwnedFd,
    id: (u64, u64),
}

impl PartialEq for PidNamespace {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl PidNamespace {
    /// That of a process. `None`: it has ended.
    pub fn of(pid: u32) -> Option<Self> {
        Self::open(File::open(format!("/proc/{pid}/ns/pid")).ok()?)
    }

    /// Our own.
    pub fn own() -> Option<Self> {
        Self::open(File::open("/proc/self/ns/pid").ok()?)
    }

    /// Whether a process is in it, or in one within it.
    pub fn holds(&self, pid: u32) -> bool {
        let mut next = Self::of(pid);
        while let Some(namespace) = next {
            if namespace == *self {
                return true;
            }
            next = namespace.parent();
        }
        false
    }

    /// The one that it is within. `None`: that is none of ours to see.
    fn parent(&self) -> Option<Self> {
        /// ioctl_nsfs(2).
        const NS_GET_PARENT: libc::c_ulong = 0xb702;
        // SAFETY: it takes no argument, and gives a descriptor that is new.
        let fd = unsafe { libc::ioctl(self.fd.as_raw_fd(), NS_GET_PARENT) };
        // SAFETY: it is open, and nobody else has it.
        (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) }).and_then(|fd| Self::open(fd.into()))
    }

    fn open(file: File) -> Option<Self> {
        let metadata = file.metadata().ok()?;
        Some(Self { id: (metadata.dev(), metadata.ino()), fd: file.into() })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// A process that is, as the last of `unshare`s, in as many pid namespaces within ours, and its ancestors, outermost
    /// first.
    #[test]
    fn a_namespace_holds_what_is_in_it_and_within_it() {
        let unshare = "unshare -pf --kill-child";
        let mut outer = Command::new("sh")
            .args(["-c", &format!("exec {unshare} {unshare} sleep 1000")])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let child = |pid: u32| {
            let file = format!("/proc/{pid}/task/{pid}/children");
            (0..500).find_map(|_| {
                std::thread::sleep(std::time::Duration::from_millis(10));
                std::fs::read_to_string(&file).ok()?.trim().parse::<u32>().ok()
            })
        };
        let middle = child(outer.id()).unwrap();
        let inner = child(middle).unwrap();
        let [own, first, second] =
            [PidNamespace::own(), PidNamespace::of(middle), PidNamespace::of(inner)].map(Option::unwrap);
        assert!(own != first && first != second && own != second);
        assert!(PidNamespace::of(outer.id()).unwrap() == own);
        for (namespace, held) in
            [(&own, [true, true, true]), (&first, [false, true, true]), (&second, [false, false, true])]
        {
            assert_eq!([outer.id(), middle, inner].map(|pid| namespace.holds(pid)), held);
        }
        outer.kill().unwrap();
        outer.wait().unwrap();
        assert!(PidNamespace::of(outer.id()).is_none());
    }
}
