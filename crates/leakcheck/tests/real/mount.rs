//! Mounts.

use std::fs;

use leakcheck::Kind;

use crate::guards::{Ground, Running, mounted, unique};

#[test]
fn a_tmpfs_and_another_on_top_of_it() {
    let ground = Ground::new();
    let first = mounted(&["-t", "tmpfs", "none"], &ground.folder);
    let entry = ground.one(Kind::Mount);
    assert!(entry.name.starts_with(&format!("{}#", ground.folder.display())), "{entry:?}");
    assert_eq!(entry.detail, "tmpfs none");
    let second = mounted(&["-t", "tmpfs", "none"], &ground.folder);
    assert_eq!(ground.look().of(Kind::Mount).count(), 2);
    drop(second);
    drop(first);
    ground.is_clean();
}

#[test]
fn by_its_source_and_with_a_blank_in_its_path() {
    let ground = Ground::with(|scope, _| scope.marker("leakcheck test source with a unique name"));
    let folder = std::env::temp_dir().join(unique("lc mount"));
    let folder = crate::guards::Folder::make(folder).unwrap();
    let mount = mounted(&["-t", "tmpfs", "leakcheck test source with a unique name"], &folder.0);
    let entry = ground.one(Kind::Mount);
    assert!(entry.name.starts_with(&format!("{}#", folder.0.display())), "{entry:?}");
    drop(mount);
    ground.is_clean();
}

#[test]
fn in_the_private_table_of_a_process() {
    let ground = Ground::new();
    let code =
        format!("exec unshare -m sh -c 'mount -t tmpfs none {}; exec sleep 1000'", ground.folder.display());
    let running = Running::shell(&ground.marker, &code).asleep();
    let entry = ground.one(Kind::Mount);
    assert!(entry.detail.contains("in mnt:["), "{entry:?}");
    assert!(entry.detail.contains(&format!("{}@", running.pid())), "{entry:?}");
    drop(running);
    ground.is_clean();
}

#[test]
fn a_strangers_is_not_reported() {
    let ground = Ground::new();
    let other = Ground::new();
    let _mount = mounted(&["-t", "tmpfs", "none"], &other.folder);
    fs::write(other.folder.join("x"), "").unwrap();
    ground.is_clean();
}
