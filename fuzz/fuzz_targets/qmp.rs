//! What comes through a monitor's control channel: answers and events, cut anywhere, or nonsense. Every call ends.
#![no_main]

use std::{
    io::Write,
    net::Shutdown,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use libfuzzer_sys::fuzz_target;

fuzz_target!(|said: &[u8]| {
    // More than a socket holds would wait for us.
    if said.len() > 64 * 1024 {
        return;
    }
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    theirs.write_all(said).expect("it fits");
    theirs.shutdown(Shutdown::Write).expect("it can be shut");
    let monitor = vmm_backends::find_monitor("qemu").expect("it is built in");
    let mut control = monitor.control(ours);
    let began = Instant::now();
    let deadline = began + Duration::from_millis(500);
    if control.ready(deadline).is_ok() && control.go(deadline).is_ok() {
        control.power_button(deadline).ok();
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
});
