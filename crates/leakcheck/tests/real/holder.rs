//! This test program run once more as a child, to hold what no shell command can: a namespace by a thread alone, a
//! listening socket.

use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::Duration;

use crate::guards::{Running, wait_for};

const ROLE: &str = "LEAKCHECK_HOLDER";
const READY: &str = "LEAKCHECK_HOLDER_READY";

/// Starts a holder with the marker in its environment, and waits until it holds.
pub fn start(ground: &crate::guards::Ground, role: &str) -> Running {
    let ready = ground.folder.join("ready");
    let mut command = Command::new("/proc/self/exe");
    command.args(["--ignored", "--exact", "holder::hold", "--quiet"]).current_dir("/");
    command.env(ROLE, role).env(READY, &ready).env("LEAKCHECK_MARKER", &ground.marker);
    let running = Running::start(command.stdout(std::process::Stdio::null()));
    wait_for("the holder", || ready.exists());
    std::fs::remove_file(ready).unwrap();
    running
}

#[test]
#[ignore = "a part of other tests"]
fn hold() {
    let (Ok(role), Ok(ready)) = (std::env::var(ROLE), std::env::var(READY)) else { return };
    let _listener;
    match role.as_str() {
        "thread" => {
            let (send, receive) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                // SAFETY: only this thread's network namespace changes, no fd table or memory is unshared.
                unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.unwrap();
                send.send(()).unwrap();
                std::thread::sleep(Duration::from_secs(1000));
            });
            receive.recv().unwrap();
        }
        path => _listener = UnixListener::bind(path).unwrap(),
    }
    std::fs::write(ready, "").unwrap();
    std::thread::sleep(Duration::from_secs(1000));
}
