//! Loop devices.

use std::fs::File;

use leakcheck::Kind;

use crate::guards::{Ground, Running, Undo, skip};

/// Attaches the file; the device's path, and a guard that frees it.
fn attach(image: &std::path::Path) -> Result<(String, Undo), String> {
    File::create(image).unwrap().set_len(1 << 20).unwrap();
    let (device, _) = Undo::after(&["losetup", "--find", "--show", image.to_str().unwrap()], &["true"])?;
    let undo = Undo::new(&["losetup", "--detach", &device]);
    Ok((device, undo))
}

#[test]
fn by_its_backing_file_attached_twice_in_a_row() {
    let ground = Ground::new();
    let attached = attach(&ground.folder.join("image"));
    let (device, undo) = match attached {
        Ok(attached) => attached,
        Err(why) => return skip("a loop device", &why),
    };
    let first = ground.one(Kind::LoopDevice);
    assert!(first.name.starts_with(&format!("{device}#")), "{first:?}");
    assert_eq!(first.detail, format!("backed by {}/image", ground.folder.display()));
    drop(undo);
    ground.is_clean();
    let (_, _again) = attach(&ground.folder.join("image")).unwrap();
    assert_ne!(ground.one(Kind::LoopDevice).name, first.name);
}

#[test]
fn a_strangers_is_not_reported_until_a_process_in_scope_opens_it() {
    let (ground, other) = (Ground::new(), Ground::new());
    let (device, undo) = match attach(&other.folder.join("image")) {
        Ok(attached) => attached,
        Err(why) => return skip("a stranger's loop device", &why),
    };
    ground.is_clean();
    let running = Running::shell(&ground.marker, &format!("exec sleep 1000 <{device}")).asleep();
    assert!(ground.one(Kind::LoopDevice).name.starts_with(&device));
    drop(running);
    drop(undo);
    ground.is_clean();
}
