//! Files by path: everything but sockets, which are a kind of their own.

use std::os::unix::fs::FileTypeExt;

use crate::entry::Found;
use crate::host::View;
use crate::host::files::FileSeen;

pub(super) fn collect(view: &View<'_>, found: &mut Found<'_>) {
    found.looked_at = view.file_count;
    for file in view.files.iter().filter(|file| !file.is_socket()) {
        found.add(file.path.clone(), describe(file));
    }
}

fn describe(file: &FileSeen) -> String {
    let kind = file.kind;
    if kind.is_dir() {
        "folder".to_owned()
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else if kind.is_symlink() {
        match std::fs::read_link(&file.path) {
            Ok(target) => format!("link to {}", target.display()),
            Err(_) => "link".to_owned(),
        }
    } else if kind.is_file() {
        match std::fs::symlink_metadata(&file.path) {
            Ok(stat) => format!("file of {} bytes", stat.len()),
            Err(_) => "file".to_owned(),
        }
    } else {
        "node".to_owned()
    }
}
