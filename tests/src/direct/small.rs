//! A small disk.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A file system of 64 KiB, until it is dropped.
#[derive(Debug)]
pub struct Small(PathBuf);

impl Small {
    /// Mounts it at a folder that is made.
    #[track_caller]
    pub fn mount(path: &Path) -> Self {
        fs::create_dir(path).unwrap();
        let args = ["-t", "tmpfs", "-o", "size=64k,mode=700", "urunc-small"];
        assert!(Command::new("mount").args(args).arg(path).status().unwrap().success());
        Self(path.to_owned())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg(&self.0).status().ok();
    }
}
