//! Processes without any mark that hold something of ours.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use leakcheck::{Kind, Scope, Snapshot};

use crate::guards::{Folder, Ground, Running, Undo, short, skip, unique};

/// A sleeper without any mark, with this as its standard output.
fn with(stdout: impl Into<Stdio>) -> Running {
    Running::start(std::process::Command::new("sleep").arg("1000").current_dir("/").stdout(stdout)).asleep()
}

/// The stranger is named as a holder, with these words, and as nothing else.
fn is_named(ground: &Ground, stranger: &Running, words: &str) {
    let entry = ground.one(Kind::Holder);
    assert!(entry.name.starts_with(&format!("{}@", stranger.pid())), "{entry:?}");
    assert!(entry.detail.starts_with("sleep: ") && entry.detail.contains(words), "{entry:?}");
    assert_eq!(ground.look().of(Kind::Process).count(), 0);
}

#[test]
fn a_file_below_a_root_also_when_it_was_deleted() {
    let ground = Ground::with(|scope, folder| scope.root(folder.join("root")));
    let root = ground.folder.join("root");
    fs::create_dir(&root).unwrap();
    let stranger = with(fs::File::create(root.join("log")).unwrap());
    is_named(&ground, &stranger, &format!("fd 1 is {}/log", root.display()));
    fs::remove_dir_all(&root).unwrap();
    is_named(&ground, &stranger, "/log (deleted)");
    drop(stranger);
    ground.is_clean();
}

#[test]
fn a_socket_in_scope() {
    let ground = Ground::with(|scope, folder| scope.root(folder));
    let path = ground.folder.join("x.sock");
    let stranger = with(OwnedFd::from(UnixListener::bind(&path).unwrap()));
    is_named(&ground, &stranger, "fd 1 is a socket of ours");
    drop(stranger);
    fs::remove_file(path).unwrap();
    ground.is_clean();
}

#[test]
fn a_socket_that_a_process_of_ours_has_open_too() {
    let ground = Ground::new();
    let elsewhere = Folder::make(std::env::temp_dir().join(unique("other"))).unwrap();
    let path = elsewhere.0.join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let stranger = with(OwnedFd::from(listener.try_clone().unwrap()));
    ground.is_clean();
    let mut command = std::process::Command::new("sleep");
    command.arg("1000").env("X", &ground.marker).stdout(OwnedFd::from(listener));
    let ours = Running::start(&mut command).asleep();
    let entry = ground.one(Kind::Holder);
    assert!(entry.name.starts_with(&format!("{}@", stranger.pid())), "{entry:?}");
    drop(ours);
    fs::remove_file(path).unwrap();
    ground.is_clean();
}

#[test]
fn a_namespace_of_ours_by_living_in_it_and_by_an_fd() {
    let ground = Ground::new();
    let ours = Running::shell(&ground.marker, "exec unshare -n sleep 1000").asleep();
    let path = format!("/proc/{}/ns/net", ours.pid());
    let resident = Running::start(
        std::process::Command::new("nsenter").arg(format!("--net={path}")).args(["sleep", "1000"]),
    )
    .asleep();
    let entry = ground.one(Kind::Holder);
    assert!(entry.name.starts_with(&format!("{}@", resident.pid())), "{entry:?}");
    assert!(entry.detail.starts_with("sleep: lives in net:["), "{entry:?}");
    drop(resident);
    let holder = with(fs::File::open(path).unwrap());
    let entry = ground.one(Kind::Holder);
    assert!(entry.name.starts_with(&format!("{}@", holder.pid())), "{entry:?}");
    assert!(entry.detail.starts_with("sleep: fd 1 is net:["), "{entry:?}");
    drop(ours);
    drop(holder);
    ground.is_clean();
}

#[test]
fn a_loop_device_of_ours() {
    let ground = Ground::new();
    let image = ground.folder.join("image");
    fs::File::create(&image).unwrap().set_len(1 << 20).unwrap();
    let attach = ["losetup", "--find", "--show", image.to_str().unwrap()];
    let (device, _) = match Undo::after(&attach, &["true"]) {
        Ok(attached) => attached,
        Err(why) => return skip("a stranger at a loop device", &why),
    };
    let undo = Undo::new(&["losetup", "--detach", &device]);
    let stranger = with(fs::File::open(&device).unwrap());
    is_named(&ground, &stranger, &format!("fd 1 is {device}"));
    drop(stranger);
    drop(undo);
    ground.is_clean();
}

#[test]
fn a_tap_of_ours() {
    // A tap of a transaction, and one of a stranger.
    let (ours, theirs) = (format!("tap{:0>12}", short()), format!("lct{}", short()));
    let hold = |tap: &str| {
        let code = format!(
            "exec python3 -c '
import fcntl, os, struct
tun = os.open(\"/dev/net/tun\", os.O_RDWR)
fcntl.ioctl(tun, 0x400454ca, struct.pack(\"16sH22x\", b\"{tap}\", 0x1002))
os.set_inheritable(tun, True)
os.execvp(\"sleep\", [\"sleep\", \"1000\"])'"
        );
        Running::start(std::process::Command::new("sh").args(["-c", &code]).current_dir("/")).asleep()
    };
    if !std::path::Path::new("/usr/bin/python3").exists() || !std::path::Path::new("/dev/net/tun").exists() {
        return skip("a stranger at a tap", "there is no python3, or no /dev/net/tun");
    }
    let scope = Scope::new().marker(unique("leakcheck"));
    let (first, second) = (hold(&ours), hold(&theirs));
    let holds = |scope: &Scope, stranger: &Running, tap: &str| {
        let snapshot = Snapshot::take(scope);
        let name = format!("{}@", stranger.pid());
        let entry = snapshot.entries().iter().find(|e| e.kind == Kind::Holder && e.name.starts_with(&name));
        entry.is_some_and(|entry| entry.detail == format!("sleep: fd 3 is the tap {tap}"))
    };
    assert!(holds(&scope, &first, &ours));
    assert!(!holds(&scope, &second, &theirs));
    assert!(!holds(&scope.clone().only_marked(), &first, &ours));
    assert!(holds(&scope.only_marked().marker(&theirs), &second, &theirs));
}

#[test]
fn one_that_holds_only_its_own_is_not_reported() {
    let ground = Ground::with(|scope, folder| scope.root(folder));
    let other = Ground::new();
    let _file = with(fs::File::create(other.folder.join("log")).unwrap());
    let _socket = with(OwnedFd::from(UnixListener::bind(other.folder.join("s")).unwrap()));
    let elsewhere = Running::shell("", "exec unshare -n sleep 1000").asleep();
    let _namespace = with(fs::File::open(format!("/proc/{}/ns/net", elsewhere.pid())).unwrap());
    ground.is_clean();
}
