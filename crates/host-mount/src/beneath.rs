//! Opening files of an image without ever leaving it.
//!
//! Images are hostile: a path in one may lead through symbolic links to anywhere, to a FIFO or to a device. Files are
//! resolved as if the image were the root (openat2(2), RESOLVE_IN_ROOT), and only regular files are opened for
//! reading.

use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2},
    io::Errno,
};

use crate::Error;

/// How a file of an image is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beneath {
    /// As a handle only (`O_PATH`), for attaching its mount.
    Handle,
    /// For reading.
    Read,
}

/// Opens the regular file `path` of the image whose root is `root`.
pub fn open_beneath(root: impl AsFd, path: &str, how: Beneath) -> Result<OwnedFd, Error> {
    let fail = |e: Errno| Error::Open { path: path.to_owned(), source: e.into() };
    // First a handle, which neither blocks on a FIFO nor wakes a device, then the look, then the file itself.
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let handle = loop {
        match openat2(&root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // A rename somewhere in the image while it was being resolved.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => break result.map_err(fail)?,
        }
    };
    let stat = fstat(&handle).map_err(fail)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::NotAFile { path: path.to_owned() });
    }
    match how {
        Beneath::Handle => Ok(handle),
        Beneath::Read => {
            let magic = format!("/proc/self/fd/{}", handle.as_raw_fd());
            open(magic, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).map_err(fail)
        }
    }
}

impl Beneath {
    /// Opens the regular file `path` of the image for reading.
    pub fn read(root: impl AsFd, path: &str) -> Result<File, Error> {
        open_beneath(root, path, Self::Read).map(File::from)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read, os::unix::fs::symlink};

    use super::*;

    fn image() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("image")).unwrap();
        fs::write(dir.path().join("secret"), "host").unwrap();
        fs::write(dir.path().join("image/secret"), "image").unwrap();
        let root = open(dir.path().join("image"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        (dir, root)
    }

    fn text(root: &OwnedFd, path: &str) -> Result<String, Error> {
        let mut text = String::new();
        Beneath::read(root, path)?.read_to_string(&mut text).unwrap();
        Ok(text)
    }

    #[test]
    fn no_path_and_no_link_leads_out() {
        let (dir, root) = image();
        let image = dir.path().join("image");
        symlink("/secret", image.join("absolute")).unwrap();
        symlink("../../../../secret", image.join("upward")).unwrap();
        symlink(dir.path().join("secret"), image.join("host")).unwrap();
        symlink("/proc/self/root/etc/passwd", image.join("magic")).unwrap();
        for path in ["secret", "/secret", "../secret", "../../../secret", "absolute", "upward"] {
            assert_eq!(text(&root, path).unwrap(), "image", "{path}");
        }
        for path in ["host", "magic", "absent", ""] {
            assert!(matches!(text(&root, path), Err(Error::Open { .. })), "{path}");
        }
    }

    #[test]
    fn only_regular_files_are_opened() {
        let (dir, root) = image();
        let image = dir.path().join("image");
        rustix::fs::mknodat(rustix::fs::CWD, image.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        fs::create_dir(image.join("folder")).unwrap();
        symlink("fifo", image.join("link")).unwrap();
        for path in ["fifo", "folder", "link", "/"] {
            assert!(matches!(text(&root, path), Err(Error::NotAFile { .. })), "{path}");
        }
    }
}
