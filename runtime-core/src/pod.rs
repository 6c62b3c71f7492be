//! The pod file: which daemon serves a group of containers, and at which socket. Guarded by the pod lock, which
//! `start` holds from its look at the file to its answer, and a leaving daemon while it leaves.
//!
//! The file means nothing after a reboot, and what cannot be read in it counts as absent: the owner lock is the
//! truth.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use proc_id::ProcessId;
use record_store::{Dir, Lock, Read};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
};
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    layout::{Layout, hex_digest, is_instance},
    owner,
};

const SCHEMA: u64 = 1;

/// About how long the listener of a dying process may outlive its owner lock.
const CLOSING: Duration = Duration::from_millis(100);

/// How long somebody may hold a pod lock who only looks.
const LOOK: Duration = Duration::from_millis(50);

/// The daemon of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodFile {
    schema: u64,
    /// containerd's namespace.
    pub namespace: String,
    /// The group.
    pub group: String,
    /// The daemon's instance.
    pub owner: String,
    /// Its socket.
    pub socket: PathBuf,
    /// The socket file's device and inode, once it is bound.
    pub inode: Option<(u64, u64)>,
    /// The daemon, once it is spawned.
    pub daemon: Option<ProcessId>,
}

/// The pod lock and the pod file of one group.
#[derive(Debug)]
pub struct Pod {
    dir: Dir,
    name: String,
    namespace: String,
    group: String,
}

impl Pod {
    /// Opens the folder, making it where it is missing.
    pub fn open(layout: &Layout, namespace: &str, group: &str) -> Result<Self, Error> {
        let name = hex_digest(&[namespace, group])[..16].to_owned();
        let dir = Dir::make(layout.pods())?;
        Ok(Self { dir, name, namespace: namespace.to_owned(), group: group.to_owned() })
    }

    /// The same where the folder is there already; `None`: there is no pod.
    pub fn find(layout: &Layout, namespace: &str, group: &str) -> Result<Option<Self>, Error> {
        if !layout.pods().is_dir() {
            return Ok(None);
        }
        Self::open(layout, namespace, group).map(Some)
    }

    /// Takes the pod lock.
    pub fn lock(&self, deadline: Instant) -> Result<Lock, Error> {
        let name = self.lock_file();
        Lock::acquire(&self.dir, &name, deadline)?
            .ok_or_else(|| Error::Locked { path: self.dir.path().join(name) })
    }

    /// The pod file, if there is one that can be read.
    pub fn read(&self) -> Option<PodFile> {
        match self.dir.read_record(&self.file(), SCHEMA) {
            Read::Record(file) => Some(file).filter(is_sound),
            _ => None,
        }
    }

    /// Begins a pod file; the caller holds the pod lock.
    pub fn file_of(&self, owner: &str, socket: PathBuf) -> PodFile {
        PodFile {
            schema: SCHEMA,
            namespace: self.namespace.clone(),
            group: self.group.clone(),
            owner: owner.to_owned(),
            socket,
            inode: None,
            daemon: None,
        }
    }

    /// Writes the pod file; the caller holds the pod lock.
    pub fn write(&self, file: &PodFile) -> Result<(), Error> {
        Ok(self.dir.replace_unsynced(&self.file(), file)?)
    }

    /// Removes the socket, if it still is that daemon's own, the pod file and the lock.
    pub fn remove(&self, file: &PodFile, lock: Lock) -> Result<(), Error> {
        remove_socket(file)?;
        self.dir.remove(self.file())?;
        self.dir.remove_leftover(&self.file())?;
        Ok(lock.unlink(&self.dir)?)
    }

    /// Removes a socket at which nobody listens, where the pod file that should name it is lost: with it goes whatever
    /// stands in that file's place.
    pub fn forget_deserted(&self, socket: &Path) -> Result<(), Error> {
        // Nothing of it, as ever: then no lock is made either.
        if inode_of(socket).is_none() && inode_of(&self.dir.path().join(self.file())).is_none() {
            return Ok(());
        }
        let Some(lock) = Lock::acquire(&self.dir, &self.lock_file(), Instant::now())? else { return Ok(()) };
        let is_there = inode_of(socket).is_some();
        if self.read().is_some() || is_there && !is_deserted(socket) {
            return Ok(());
        }
        if is_there {
            fs::remove_file(socket).map_err(Error::file("remove the socket", socket))?;
        }
        self.dir.remove(self.file())?;
        self.unlock(lock)
    }

    /// Removes the lock where no pod file was written.
    pub fn unlock(&self, lock: Lock) -> Result<(), Error> {
        self.dir.remove_leftover(&self.file())?;
        Ok(lock.unlink(&self.dir)?)
    }

    fn file(&self) -> String {
        format!("{}.json", self.name)
    }

    fn lock_file(&self) -> String {
        format!("{}.lock", self.name)
    }
}

/// Whether its names are as we make them: the owner's becomes a path.
fn is_sound(file: &PodFile) -> bool {
    is_instance(&file.owner)
}

/// Removes the socket file of a daemon that is gone or has closed its listener: at one of ours nobody listens any more,
/// and its inode still is the one that was bound, where that is known. The inode alone does not tell: some file systems
/// give its number to the next file.
pub fn remove_socket(file: &PodFile) -> Result<(), Error> {
    match inode_of(&file.socket) {
        Some(inode) if file.inode.is_none_or(|own| own == inode) && is_deserted(&file.socket) => {
            fs::remove_file(&file.socket).map_err(Error::file("remove the socket", &file.socket))
        }
        _ => Ok(()),
    }
}

/// Whether nobody listens at a socket. A process that is killed lets go of its locks and of its listener one after the
/// other: a moment is given for that.
pub fn is_deserted(socket: &Path) -> bool {
    let mut pause = Duration::from_millis(2);
    loop {
        match refuses(socket) {
            Ok(false) if pause < CLOSING => thread::sleep(pause),
            answer => return answer.unwrap_or(false),
        }
        pause *= 2;
    }
}

/// Whether a connection is refused. It never waits: a listener with a full backlog is one that listens.
fn refuses(socket: &Path) -> Result<bool, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let client = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&client, &SocketAddrUnix::new(socket)?) {
        Err(Errno::CONNREFUSED) => Ok(true),
        Ok(()) | Err(Errno::AGAIN) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Device and inode of a file, `None`: it is not there.
pub fn inode_of(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

/// The sockets of daemons that are gone; changes nothing.
pub fn dead(layout: &Layout) -> Result<Vec<PathBuf>, Error> {
    let mut sockets = Vec::new();
    for (_, file) in files(layout)? {
        if !owner::is_alive(layout, &file.owner)? {
            sockets.push(file.socket);
        }
    }
    Ok(sockets)
}

/// Every pod file that can be read, by the first part of its name.
fn files(layout: &Layout) -> Result<Vec<(String, PodFile)>, Error> {
    let dir = match Dir::open(layout.pods()) {
        Ok(dir) => dir,
        Err(e) if e.is_absent() => return Ok(vec![]),
        Err(e) => return Err(e.into()),
    };
    let mut files = Vec::new();
    for name in dir.names()? {
        if let Some(stem) = name.strip_suffix(".json")
            && let Read::Record(file) = dir.read_record(&name, SCHEMA)
            && is_sound(&file)
        {
            files.push((stem.to_owned(), file));
        }
    }
    Ok(files)
}

/// Removes the sockets and pod files of daemons that are gone. A pod lock that somebody holds for longer than a look takes
/// means that he sees to it himself: who only looks may have looked before the daemon was gone.
pub fn forget_dead(layout: &Layout) -> Result<(), Error> {
    for (name, file) in files(layout)? {
        if owner::is_alive(layout, &file.owner)? {
            continue;
        }
        let dir = Dir::open(layout.pods())?;
        let Some(lock) = Lock::acquire(&dir, &format!("{name}.lock"), Instant::now() + LOOK)? else {
            continue;
        };
        let again = Dir::open(layout.pods())?;
        // Under the lock once more: a `start` may have put a new daemon there.
        let pod = Pod { dir, name, namespace: file.namespace, group: file.group };
        match pod.read() {
            Some(file) if owner::is_alive(layout, &file.owner)? => {}
            Some(file) => pod.remove(&file, lock)?,
            // Somebody else was faster; the lock's file was made anew by us.
            None => lock.unlink(&again)?,
        }
    }
    forget_locks(layout)
}

/// Removes lock files without a pod file: of a `start` that failed before it wrote one.
fn forget_locks(layout: &Layout) -> Result<(), Error> {
    let dir = match Dir::open(layout.pods()) {
        Ok(dir) => dir,
        Err(e) if e.is_absent() => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    let names = dir.names()?;
    for name in &names {
        let Some(stem) = name.strip_suffix(".lock") else { continue };
        let file = format!("{stem}.json");
        if names.contains(&file) {
            continue;
        }
        if let Some(lock) = Lock::try_acquire(&dir, name)?
            && dir.read(&file)?.is_none()
        {
            dir.remove_leftover(&file)?;
            lock.unlink(&dir)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::fixture::{DEAD, Folder, NAMESPACE, soon};

    #[test]
    fn a_socket_goes_only_if_it_is_the_one_that_was_bound() {
        let folder = Folder::new();
        let pod = Pod::open(&folder.layout, NAMESPACE, "c1").unwrap();
        let socket = folder.bundle().join("socket");
        let stranger = UnixListener::bind(&socket).unwrap();
        let own = inode_of(&socket).unwrap();
        let mut file = pod.file_of(DEAD, socket.clone());
        // Nobody knows which one was bound, or the number was used again; and somebody listens.
        for known in [None, Some(own)] {
            file.inode = known;
            remove_socket(&file).unwrap();
            assert!(socket.exists(), "it is a stranger's");
        }
        // Nobody listens any more, but it is another one.
        drop(stranger);
        for other in [(own.0, own.1 + 1), (own.0 + 1, own.1)] {
            file.inode = Some(other);
            pod.write(&file).unwrap();
            pod.remove(&file, pod.lock(soon()).unwrap()).unwrap();
            assert!(socket.exists(), "it is a stranger's");
            assert_eq!(pod.read(), None);
        }
        file.inode = Some(own);
        remove_socket(&file).unwrap();
        assert!(!socket.exists());
    }

    /// Several who tidy up at once must not each leave it to another one.
    #[test]
    fn what_a_dead_daemon_left_goes_though_somebody_looks() {
        let folder = Folder::new();
        let pod = Pod::open(&folder.layout, NAMESPACE, "c1").unwrap();
        pod.write(&pod.file_of(DEAD, folder.bundle().join("socket"))).unwrap();
        // He holds the lock for a moment, and has not seen the end.
        let looks = pod.lock(soon()).unwrap();
        let looks = thread::spawn(move || {
            thread::sleep(LOOK / 2);
            drop(looks);
        });
        forget_dead(&folder.layout).unwrap();
        assert_eq!(pod.read(), None);
        looks.join().unwrap();
    }

    #[test]
    fn a_pod_file_of_before_can_be_read() {
        let folder = Folder::new();
        let pod = Pod::open(&folder.layout, NAMESPACE, "c1").unwrap();
        let file = pod.file_of(DEAD, "/run/socket".into());
        let mut old = serde_json::to_value(&file).unwrap();
        // It was written once, and never true.
        old["leaving"] = false.into();
        pod.dir.replace_unsynced(&pod.file(), &old).unwrap();
        assert_eq!(pod.read(), Some(file));
    }
}
