//! Namespaces: identity, finding, entering.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use host_net::{NetnsId, enter, find};
use rustix::fs::fstat;
use rustix::mount::{UnmountFlags, mount_bind, unmount};

use crate::ground::{eventually, fresh, ip};

/// A process in a namespace of its own.
struct Holder(Child);

impl Holder {
    fn start() -> Self {
        let mut command = Command::new("unshare");
        let holder = Self(command.args(["-n", "sleep", "1000"]).stdin(Stdio::null()).spawn().unwrap());
        let comm = format!("/proc/{}/comm", holder.0.id());
        eventually("the child sleeps", || fs::read_to_string(&comm).is_ok_and(|comm| comm == "sleep\n"));
        holder
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.id()).into()
    }

    fn id(&self) -> NetnsId {
        NetnsId::of(&self.path()).unwrap().unwrap()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A bind mount that is taken away at the end, also by a panic.
struct Bound(PathBuf);

impl Bound {
    fn new(what: &Path, at: PathBuf) -> Self {
        File::create(&at).unwrap();
        mount_bind(what, &at).unwrap();
        Self(at)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn is(found: Option<OwnedFd>, id: NetnsId) -> bool {
    found.is_some_and(|fd| fstat(&fd).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (id.dev, id.ino)))
}

#[test]
fn by_hint_by_process_by_mount_and_gone() {
    fresh(|| {
        let folder = tempfile::tempdir().unwrap();
        let holder = Holder::start();
        let id = holder.id();
        assert_ne!(id, NetnsId::current().unwrap());
        let plain = folder.path().join("plain");
        fs::write(&plain, "").unwrap();

        assert!(is(find(id, &[holder.path()]).unwrap(), id), "by the hint");
        let wrong = [plain, "/proc/thread-self/ns/net".into(), "/proc/self/ns/mnt".into(), "/nowhere".into()];
        assert!(is(find(id, &wrong).unwrap(), id), "wrong hints: by the process");

        let bound = Bound::new(&holder.path(), folder.path().join("with blank"));
        drop(holder);
        assert!(is(find(id, &wrong).unwrap(), id), "by the mount");
        assert_eq!(NetnsId::of(&bound.0).unwrap(), Some(id));
        assert!(is(find(id, std::slice::from_ref(&bound.0)).unwrap(), id), "by the mount as a hint");
        drop(bound);
        assert!(find(id, &wrong).unwrap().is_none(), "gone");
    });
}

#[test]
fn a_path_that_shows_another_one_now() {
    fresh(|| {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (Holder::start(), Holder::start());
        let (old, new) = (first.id(), second.id());
        let at = folder.path().join("ns");
        let bound = Bound::new(&first.path(), at.clone());
        drop(first);
        drop(bound);
        let _bound = Bound::new(&second.path(), at.clone());
        assert!(find(old, std::slice::from_ref(&at)).unwrap().is_none());
        assert!(is(find(new, &[at]).unwrap(), new));
        let elsewhere = NetnsId { dev: new.dev + 1, ino: new.ino };
        assert!(find(elsewhere, &[second.path()]).unwrap().is_none(), "the device counts, too");
    });
}

#[test]
fn entering() {
    fresh(|| {
        let holder = Holder::start();
        let there = find(holder.id(), &[holder.path()]).unwrap().unwrap();
        let before = NetnsId::current().unwrap();
        let id = std::thread::spawn(move || {
            enter(&there).unwrap();
            assert!(!ip("link show dev lo").contains("UP"), "a fresh one: {}", ip("link"));
            NetnsId::current().unwrap()
        });
        assert_eq!(id.join().unwrap(), holder.id());
        assert_eq!(NetnsId::current().unwrap(), before);
        let file = OwnedFd::from(File::open("/dev/null").unwrap());
        assert!(enter(&file).is_err());
    });
}
