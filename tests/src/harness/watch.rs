//! Sees every file that is made in some folders, however short it lives.

use std::{
    collections::HashMap,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init},
    io::Errno,
};

/// A watch over folders.
#[derive(Debug)]
pub struct Watch {
    inotify: OwnedFd,
    folders: HashMap<i32, PathBuf>,
}

impl Watch {
    /// Watches these folders from now on, not what is below them.
    #[track_caller]
    pub fn over(folders: &[&Path]) -> Self {
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let watch = |folder: &Path| {
            let id = add_watch(&inotify, folder, WatchFlags::CREATE | WatchFlags::MOVED_TO);
            (id.unwrap_or_else(|e| panic!("{}: {e}", folder.display())), folder.to_owned())
        };
        let folders = folders.iter().map(|folder| watch(folder)).collect();
        Self { inotify, folders }
    }

    /// What was made since the last call.
    pub fn made(&self) -> Vec<PathBuf> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut made = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => {
                    let name =
                        event.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                    made.push(self.folders[&event.wd()].join(name));
                }
                Err(Errno::AGAIN) => return made,
                Err(e) => panic!("inotify: {e}"),
            }
        }
    }
}
