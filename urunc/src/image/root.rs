//! An image's root file system, for the runtime's own eyes: it opens what it looks at below a folder's fd.
//!
//! Of layers only the few files that the contract's keys may name are put into a folder of ours, with what leads to
//! them, for the moment of the look. Signals that end us wait so long: nothing stays behind but by SIGKILL.

use std::{
    fs::{self, File},
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::symlink,
    },
    path::Path,
};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::tree::{Node, Tree};

/// A root file system.
pub enum Root {
    /// Laid out in a folder.
    Folder(File),
    /// As layers.
    Layers(Tree),
}

/// What is put into our folder.
enum Piece {
    Folder,
    Link(std::path::PathBuf),
    File(File),
    /// Stands for anything that is no file.
    Other,
}

impl Root {
    /// The beginning of a file, at most `most` bytes. Nothing: there is no such file.
    pub fn text(&self, path: &str, most: u64) -> io::Result<Vec<u8>> {
        let file = match self {
            Self::Folder(folder) => host_mount::Beneath::read(folder, path).ok(),
            Self::Layers(tree) => match tree.find(Path::new(path)) {
                Some(Node::File { layer, entry }) => Some(tree.read(*layer, *entry)?),
                _ => None,
            },
        };
        let mut text = Vec::new();
        if let Some(file) = file {
            io::Read::read_to_end(&mut io::Read::take(file, most), &mut text)?;
        }
        Ok(text)
    }

    /// What is there and no file a guest could boot from, in words.
    pub fn no_file(&self, path: &str) -> Option<&'static str> {
        match self {
            Self::Folder(folder) => {
                use rustix::fs::{OFlags, ResolveFlags, openat2};
                let (flags, resolve) =
                    (OFlags::PATH | OFlags::CLOEXEC, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS);
                let handle = openat2(folder, path, flags, Mode::empty(), resolve).ok()?;
                let kind = File::from(handle).metadata().ok()?.file_type();
                (!kind.is_file()).then(|| crate::output::describe(kind))
            }
            Self::Layers(tree) => match tree.find(Path::new(path))? {
                Node::Folder => Some("a directory"),
                Node::Other(kind) => Some(kind),
                Node::File { .. } | Node::Link(_) => None,
            },
        }
    }

    /// Looks at the root file system, in which those of `paths` are that the image has.
    pub fn look<T>(&self, paths: &[String], look: impl FnOnce(BorrowedFd<'_>) -> T) -> io::Result<T> {
        let tree = match self {
            Self::Folder(folder) => return Ok(look(folder.as_fd())),
            Self::Layers(tree) => tree,
        };
        // All that takes time is done before there is a folder.
        let mut pieces = Vec::new();
        for path in paths.iter().flat_map(|path| tree.way(Path::new(path))) {
            if pieces.iter().any(|(known, _)| *known == path) {
                continue;
            }
            let piece = match tree.get(&path) {
                None => continue,
                Some(Node::Folder) => Piece::Folder,
                Some(Node::Link(to)) => Piece::Link(to.clone()),
                Some(Node::File { layer, entry }) => Piece::File(tree.read(*layer, *entry)?),
                Some(Node::Other(_)) => Piece::Other,
            };
            pieces.push((path, piece));
        }
        // In this order: what is declared first goes last.
        let _held = Held::signals();
        let folder = TempDir::with_prefix("urunc-image-")?;
        for (path, piece) in pieces {
            // No link is on a real path, and what is above it is there.
            let path = folder.path().join(path);
            match piece {
                Piece::Folder => fs::create_dir(path)?,
                Piece::Link(to) => symlink(to, path)?,
                Piece::File(mut file) => {
                    io::copy(&mut file, &mut File::create_new(path)?)?;
                }
                Piece::Other => mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0)?,
            }
        }
        Ok(look(File::open(folder.path())?.as_fd()))
    }
}

/// Signals that would end us wait until this is dropped.
struct Held(libc::sigset_t);

impl Held {
    fn signals() -> Self {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: sigemptyset initialises the set that the others read; all zeroes are a set, too; no pointer outlives
        // the calls. This process has one thread.
        let before = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr());
            before.assume_init()
        };
        Self(before)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the set is the one that sigprocmask gave.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}
