//! Terminals, through the console socket.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use oci_runtime::{Console, Create, Error, Exec, Streams};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{OFlags, fcntl_getfl},
    io::{FdFlags, fcntl_getfd},
    termios::{Winsize, tcsetwinsize},
};

use crate::ground::{Ended, Ground, on_both, process, reap, soon};

on_both!(of_init, of_an_exec);

/// A folder whose path is longer than a socket's address may be.
fn folder(ground: &Ground) -> PathBuf {
    let folder = ground.dir.path().join("long".repeat(40));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Reads until the last process has closed the terminal, which is EIO.
fn all_of(mut master: File) -> String {
    let mut all = vec![];
    loop {
        poll(&mut [PollFd::new(&master, PollFlags::IN)], None).unwrap();
        let mut bytes = [0; 512];
        match master.read(&mut bytes) {
            Ok(n) => all.extend_from_slice(&bytes[..n]),
            Err(e) if e.raw_os_error() == Some(5) => return String::from_utf8(all).unwrap(),
            Err(e) => panic!("{e}"),
        }
    }
}

fn of_init(ground: &Ground) {
    let folder = folder(ground);
    let mut spec = ground.spec("c1", &["sh", "-c", "tty && stty size"]);
    spec["process"]["terminal"] = true.into();
    let (bundle, pid_file) = (ground.bundle("c1", &spec), ground.pid_file("c1"));
    fs::write(folder.join("socket"), "from before").unwrap();
    let console = Console::listen(&folder, "socket").unwrap();
    assert_eq!(fs::metadata(folder.join("socket")).unwrap().permissions().mode() & 0o777, 0o600);
    let what = Create {
        id: "c1",
        bundle: &bundle,
        pid_file: &pid_file,
        console: Some(&console),
        streams: Streams::default(),
        no_pivot: false,
        no_new_keyring: false,
    };
    let init = ground.runtime.create(what, soon()).unwrap();
    let master = console.receive(soon()).unwrap();
    assert!(fs::read_dir(&folder).unwrap().next().is_none());
    assert!(fcntl_getfd(&master).unwrap().contains(FdFlags::CLOEXEC));
    assert!(fcntl_getfl(&master).unwrap().contains(OFlags::NONBLOCK));
    tcsetwinsize(&master, Winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    ground.runtime.start("c1", soon()).unwrap();
    let said = all_of(File::from(master));
    assert!(said.starts_with("/dev/") && said.ends_with("33 77\r\n"), "{said:?}");
    assert_eq!(reap(&init), Ended::With(0));
    ground.runtime.delete("c1", false, soon()).unwrap();
}

fn of_an_exec(ground: &Ground) {
    let folder = folder(ground);
    let init = ground.run("c1", &["sleep", "1000"], Streams::default());
    let mut what = process(&["sh", "-c", "test -t 0 && test -t 1 && test -t 2 && echo terminal; exit 5"]);
    what["terminal"] = true.into();
    let (what, pid_file) = (what.to_string(), ground.pid_file("e1"));
    let console = Console::listen(&folder, "socket").unwrap();
    let what = Exec {
        id: "c1",
        process: what.as_bytes(),
        pid_file: &pid_file,
        console: Some(&console),
        streams: Streams::default(),
    };
    // It has ended, perhaps, before anybody asks for its terminal.
    let started = ground.runtime.exec(what, soon()).unwrap();
    let master = console.receive(soon()).unwrap();
    assert_eq!(all_of(File::from(master)), "terminal\r\n");
    assert_eq!(reap(&started), Ended::With(5));
    ground.end("c1", &init);
}

#[test]
fn who_sends_nothing_is_not_waited_for_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let console = Console::listen(dir.path(), "socket").unwrap();
    let began = Instant::now();
    let error = console.receive(began + Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, Error::NoTerminal { .. }), "{error}");
    assert!(began.elapsed() >= Duration::from_millis(50));

    let console = Console::listen(dir.path(), "socket").unwrap();
    let _silent = std::os::unix::net::UnixStream::connect(dir.path().join("socket")).unwrap();
    let error = console.receive(Instant::now() + Duration::from_millis(50)).unwrap_err();
    assert!(error.to_string().contains("nothing was sent"), "{error}");

    let console = Console::listen(dir.path(), "socket").unwrap();
    let mut other = std::os::unix::net::UnixStream::connect(dir.path().join("socket")).unwrap();
    std::io::Write::write_all(&mut other, b"no descriptor").unwrap();
    let error = console.receive(soon()).unwrap_err();
    assert!(error.to_string().contains("no descriptor"), "{error}");
    assert!(fs::read_dir(dir.path()).unwrap().next().is_none());
}
