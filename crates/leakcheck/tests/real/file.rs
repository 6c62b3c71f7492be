//! Files below a root, and marked ones in a folder that strangers use too.

use std::fs;
use std::path::Path;

use leakcheck::Kind;
use rustix::fs::{CWD, Mode, mkfifoat};

use crate::guards::{Ground, mounted};

#[test]
fn a_state_folder_and_all_in_it() {
    let ground = Ground::with(|scope, folder| scope.root(folder.join("state")));
    let state = ground.folder.join("state");
    let container = state.join("namespace/id");
    fs::create_dir_all(&container).unwrap();
    fs::write(container.join("record.json"), "{}").unwrap();
    mkfifoat(CWD, container.join("fifo"), Mode::RUSR).unwrap();
    std::os::unix::fs::symlink("/nowhere", container.join("link")).unwrap();
    fs::create_dir(state.join(".pods")).unwrap();
    fs::write(state.join(".pods/pod.lock"), "").unwrap();

    let leaks = ground.look();
    let found: Vec<_> = leaks
        .of(Kind::File)
        .map(|entry| (Path::new(&entry.name).strip_prefix(&state).unwrap().to_str().unwrap(), &*entry.detail))
        .collect();
    let expected = [
        (".pods", "folder"),
        (".pods/pod.lock", "file of 0 bytes"),
        ("namespace", "folder"),
        ("namespace/id", "folder"),
        ("namespace/id/fifo", "fifo"),
        ("namespace/id/link", "link to /nowhere"),
        ("namespace/id/record.json", "file of 2 bytes"),
    ];
    assert_eq!(found, expected);
    fs::remove_dir_all(&state).unwrap();
    ground.is_clean();
}

#[test]
fn a_record_that_was_replaced_is_the_same_file() {
    let mut ground = Ground::with(|scope, folder| scope.root(folder));
    let record = ground.folder.join("record.json");
    fs::write(&record, "{}").unwrap();
    ground.before = leakcheck::Snapshot::take(&ground.scope);
    fs::write(ground.folder.join("new"), "{ }").unwrap();
    fs::rename(ground.folder.join("new"), record).unwrap();
    ground.is_clean();
}

#[test]
fn in_a_shared_folder_only_what_is_marked() {
    let shared = Ground::new();
    let ground = Ground::with(|scope, _| scope.shared_folder(&shared.folder));
    fs::create_dir(shared.folder.join("stranger")).unwrap();
    let ours = shared.folder.join("stranger").join(format!("{}-stdin", ground.marker));
    fs::write(&ours, "").unwrap();
    assert_eq!(ground.one(Kind::File).name, ours.to_string_lossy());
    fs::remove_file(ours).unwrap();
    ground.is_clean();
}

#[test]
fn what_is_excepted_does_not_count() {
    let ground = Ground::with(|scope, folder| scope.root(folder).except("/kept"));
    fs::write(ground.folder.join("kept"), "").unwrap();
    ground.is_clean();
}

#[test]
fn a_mount_below_a_root_is_not_entered() {
    let ground = Ground::with(|scope, folder| scope.root(folder));
    let rootfs = ground.folder.join("rootfs");
    fs::create_dir(&rootfs).unwrap();
    let mount = mounted(&["-t", "tmpfs", "none"], &rootfs);
    fs::write(rootfs.join("etc"), "").unwrap();
    assert_eq!(ground.one(Kind::File).name, rootfs.to_string_lossy());
    assert_eq!(ground.one(Kind::Mount).detail, "tmpfs none");
    drop(mount);
    fs::remove_dir(rootfs).unwrap();
    ground.is_clean();
}
