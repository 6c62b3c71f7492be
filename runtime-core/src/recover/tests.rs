use std::{fs, thread};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify,
};

use super::*;
use crate::{
    fixture::{DEAD, Folder, LATER, LIVING, NAMESPACE, TXID, soon},
    owner::Owner,
};

fn unwound(folder: &Folder) -> Result<Outcome, Error> {
    unwind_orphan(&folder.layout, NAMESPACE, "c1", Told::Later, soon())
}

#[test]
fn the_owner_is_looked_at_again_under_the_record_lock() {
    let folder = Folder::new();
    let dir = folder.put(&folder.record("c1", TXID, DEAD));
    let lock = dir.lock(soon()).unwrap();
    let opened = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&opened, lock.path(), inotify::WatchFlags::OPEN).unwrap();
    thread::scope(|scope| {
        let unwound = scope.spawn(|| unwound(&folder));
        // It has seen that the owner is dead, and comes for the lock.
        let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
        assert_eq!(poll(&mut [PollFd::new(&opened, PollFlags::IN)], Some(&limit)), Ok(1));
        // Who has the lock is a Create of the same id.
        let _owner = Owner::create(&folder.layout, LIVING.to_owned()).unwrap();
        let anew = folder.record("c1", LATER, LIVING);
        dir.write_locked(&anew).unwrap();
        drop(lock);
        let outcome = unwound.join().unwrap().unwrap();
        assert!(matches!(&outcome, Outcome::Owned(record) if **record == anew), "{outcome:?}");
        assert!(matches!(dir.read(), Read::Record(record) if record == anew), "it was touched");
    });
}

#[test]
fn what_cannot_be_read_is_somebodys_unless_its_markers_tell_that_he_is_dead() {
    let folder = Folder::new();
    let _living = Owner::create(&folder.layout, LIVING.to_owned()).unwrap();
    let dir = folder.container("c1");
    let record = folder.layout.container(NAMESPACE, "c1").join(layout::RECORD);
    // A marker that was cut off, is of another version, leads elsewhere; and the word of another one beside it.
    for markers in [&[""][..], &["?"], &["../../x"], &[LIVING], &[DEAD, ""], &[DEAD, LIVING], &[DEAD, DEAD]] {
        fs::write(&record, "{").unwrap();
        for (txid, owner) in [TXID, LATER].iter().zip(markers) {
            dir.dir().mark(&format!("{}{txid}", layout::TX), owner).unwrap();
        }
        let outcome = unwound(&folder);
        if markers.iter().all(|owner| *owner == DEAD) {
            assert!(matches!(outcome, Ok(Outcome::Nothing)), "{outcome:?}");
            assert!(!record.exists(), "it is set aside");
            continue;
        }
        let error = outcome.unwrap_err().chain();
        assert!(error.contains("its daemon may live"), "{markers:?}: {error}");
        assert!(record.exists(), "{markers:?}: only what is nobody's is set aside");
        dir.clear().unwrap();
    }
}
