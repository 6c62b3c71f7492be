//! What the tests share: a namespace that ends with its test, and words for what is built in it.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use host_net::{Mark, Txid, make_tap};
use rustix::fs::{Mode, OFlags, open};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Runs a test on a thread with a network namespace of its own, loopback up. The namespace and all that is in it end
/// with the thread.
pub fn fresh(test: impl FnOnce() + Send + 'static) {
    if let Some(why) = unable() {
        return skip(&why);
    }
    inside(test);
}

fn inside(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        // SAFETY: only the network namespace is unshared, and only this thread's: no file descriptor changes hands.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
        ip("link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn unable() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("host-net: a network namespace needs root".to_owned());
    }
    ["ip", "tc"].into_iter().find_map(|program| {
        let there = Command::new(program).arg("-V").output().is_ok();
        (!there).then(|| format!("host-net: there is no {program}"))
    })
}

/// Says that a test cannot run here, and counts it for the runner's last line.
pub fn skip(why: &str) {
    // Not println!: what a test says is swallowed unless it fails.
    writeln!(std::io::stderr(), "skipped: {why}").ok();
    if let Some(file) = std::env::var_os("URUNC_TEST_SKIPS")
        && let Ok(mut file) = OpenOptions::new().append(true).create(true).open(file)
    {
        file.write_all(format!("{why}\n").as_bytes()).ok();
    }
}

/// Runs a program with these words; its output.
fn run(program: &str, words: &str) -> String {
    let done = Command::new(program).args(words.split_whitespace()).output().unwrap();
    assert!(done.status.success(), "{program} {words}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

pub fn ip(words: &str) -> String {
    run("ip", words)
}

pub fn tc(words: &str) -> String {
    run("tc", words)
}

/// A veth pair, both ends up; its other end is the same name with a `p`.
pub fn veth(name: &str) -> u32 {
    ip(&format!("link add {name} type veth peer name {name}p"));
    // Noise of IPv6 in tests that count frames, and addresses that nobody gave.
    for end in [name, &format!("{name}p")] {
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{end}/accept_dad"), "0");
        ip(&format!("link set {end} addrgenmode none"));
        ip(&format!("link set {end} up"));
    }
    // The kernel works out the state of a link behind the scenes.
    eventually("both ends are up", || is_up(name));
    index(name)
}

pub fn index(name: &str) -> u32 {
    rustix::net::netdevice::name_to_index(socket(), name).unwrap()
}

fn is_up(name: &str) -> bool {
    [name, &format!("{name}p")].iter().all(|end| ip(&format!("link show dev {end}")).contains(" state UP "))
}

fn socket() -> OwnedFd {
    use rustix::net::{AddressFamily, SocketType, socket};
    socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap()
}

/// /dev/net/tun, opened in this namespace.
pub fn tun() -> OwnedFd {
    open("/dev/net/tun", OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()).unwrap()
}

/// A tap and the descriptor that it lives by.
pub fn tap(name: &str) -> (OwnedFd, u32) {
    let tun = tun();
    let index = make_tap(tun.as_fd(), name, 1500).unwrap();
    (tun, index)
}

/// Closes a tap's descriptor and waits for its end: a neighbour test that starts a program right now has a copy of
/// every descriptor until it calls exec.
pub fn let_go(tun: OwnedFd, name: &str) {
    drop(tun);
    eventually("the tap ends", || !ip("-o link show").contains(&format!(": {name}: ")));
}

pub fn txid(text: &str) -> Txid {
    Txid::try_from(text).unwrap()
}

pub fn mark(text: &str, ingress_made: bool) -> Mark {
    Mark { txid: txid(text), ingress_made }
}

pub const A: &str = "aaaaaaaaaaa1";
pub const B: &str = "bbbbbbbbbbb2";

/// Everything of the kind that we make, as the kernel's own tools show it. (Actions apart: see `is_as`.)
pub fn census() -> String {
    let links = ip("-o link show");
    let names: Vec<&str> =
        links.lines().filter_map(|line| line.split(": ").nth(1)?.split('@').next()).collect();
    let mut all = vec![links.clone(), tc("qdisc show")];
    all.extend(names.iter().map(|name| format!("{name}: {}", filters(name))));
    all.join("\n").lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join("\n")
}

/// Everything is as it was at once, and no action is left without a filter, which the kernel sees to a moment later
/// (u32 frees what is deleted after a grace period of RCU).
pub fn is_as(before: &str) {
    let now = census();
    assert!(now == before, "BEFORE\n{before}\nNOW\n{now}");
    let bound = before.matches(": mirred ").count();
    eventually("actions end with their filters", || {
        tc("actions ls action mirred").matches(": mirred ").count() <= bound
    });
}

/// The filters at an interface's ingress as tc shows them.
pub fn filters(name: &str) -> String {
    let shown = tc(&format!("filter show dev {name} ingress"));
    // The kernel adds this line to an action once somebody has looked at it.
    let lines = shown.split_inclusive('\n').filter(|line| !line.contains("used_hw_stats"));
    lines.collect()
}

/// Waits until it is true; fails after 10 s.
pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !is() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
