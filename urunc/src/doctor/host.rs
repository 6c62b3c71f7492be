//! What the kernel and the hardware give.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
};

use host_cgroup::{Hierarchies, Version};
use runtime_core::config::Config;
use rustix::fs::{Mode, OFlags, major, minor, statfs};
use vmm_api::Accel;

use super::{Host, Row};

/// The oldest kernel that has all that is used.
const OLDEST: (u32, u32) = (5, 10);
/// A tmpfs, as statfs(2) names it.
const TMPFS: u64 = 0x0102_1994;
/// The v1 controllers that a container's processes are put into.
const NEEDED: [&str; 4] = ["memory", "cpu", "cpuacct", "pids"];

/// The kernel's version.
pub fn kernel(host: &Host<'_>) -> Row {
    let release = fs::read_to_string(host.path("/proc/sys/kernel/osrelease")).unwrap_or_default();
    let release = release.trim();
    let mut numbers = release.split(['.', '-', '+']).map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST => {
            Row::ok("kernel", format!("Linux {release}"))
        }
        _ => Row::missing("kernel", format!("Linux {release:?}"), "Linux 5.10 or later is needed"),
    }
}

/// Which accelerator guests get.
pub fn kvm(host: &Host<'_>, config: Option<&Config>) -> Row {
    let cpuinfo = fs::read_to_string(host.path("/proc/cpuinfo")).unwrap_or_default();
    let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags")).unwrap_or_default();
    let hardware = flags.split_ascii_whitespace().find(|flag| matches!(*flag, "vmx" | "svm"));
    let (node, closed) = match open_kvm(host) {
        Ok(there) => (there, None),
        Err(e) => (false, Some(e)),
    };
    let accel = config.map_or(Accel::Auto, |config| config.accel);
    let modules = "modprobe kvm_intel or kvm_amd, and let virtual machines nest if this is one";
    if let Some(e) = closed {
        let found = format!("/dev/kvm is there, but cannot be opened: {e}");
        let remedy = match e.kind() {
            io::ErrorKind::PermissionDenied => "let it be opened: its mode, and a container's device rules",
            _ => modules,
        };
        return match accel {
            Accel::Kvm => Row::missing("kvm", format!("{found}; runtime.accel is kvm"), remedy),
            _ => Row::note("kvm", format!("{found}; TCG is used"), remedy),
        };
    }
    match (node, hardware, accel) {
        (true, Some(flag), Accel::Tcg) => Row::note(
            "kvm",
            format!("usable ({flag}), but runtime.accel is tcg"),
            "set runtime.accel to auto",
        ),
        (true, Some(flag), _) => Row::ok("kvm", format!("usable: /dev/kvm, and the CPU has {flag}")),
        (false, _, Accel::Kvm) => Row::missing(
            "kvm",
            "/dev/kvm is not there, and runtime.accel is kvm",
            format!("set runtime.accel to auto, or {modules}"),
        ),
        (true, None, Accel::Kvm) => Row::note(
            "kvm",
            "only software: /dev/kvm is there, but the CPU has neither vmx nor svm; runtime.accel is kvm",
            "set runtime.accel to auto: TCG is faster than a KVM in software",
        ),
        (true, None, _) => Row::note(
            "kvm",
            "only software: /dev/kvm is there, but the CPU has neither vmx nor svm; TCG is used",
            "guests run, slower; let this virtual machine nest",
        ),
        (false, Some(flag), _) => Row::note(
            "kvm",
            format!("/dev/kvm is not there, though the CPU has {flag}; TCG is used"),
            modules,
        ),
        (false, None, _) => Row::note(
            "kvm",
            "not there: the CPU has neither vmx nor svm; TCG is used",
            "guests run, slower; use a machine with hardware virtualization",
        ),
    }
}

/// Whether there is the device; an error: it is there, and cannot be opened, for want of a right or of a driver.
fn open_kvm(host: &Host<'_>) -> io::Result<bool> {
    let node = host.path("/dev/kvm");
    if !fs::metadata(&node).is_ok_and(|m| m.file_type().is_char_device()) {
        return Ok(false);
    }
    rustix::fs::open(node, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    Ok(true)
}

/// What a guest's network is made with.
pub fn tun(host: &Host<'_>) -> Row {
    let node = host.path("/dev/net/tun");
    match fs::metadata(&node) {
        Ok(m) if m.file_type().is_char_device() && (major(m.rdev()), minor(m.rdev())) == (10, 200) => {
            Row::ok("tun", "/dev/net/tun")
        }
        Ok(_) => Row::missing("tun", "/dev/net/tun is not the device 10:200", "remove it, and modprobe tun"),
        Err(_) => Row::missing("tun", "/dev/net/tun is not there: no guest gets a network", "modprobe tun"),
    }
}

/// Where limits are set.
pub fn cgroups(host: &Host<'_>) -> Row {
    let hierarchies = match Hierarchies::detect_in(host.root) {
        Ok(hierarchies) => hierarchies,
        Err(e) => return Row::missing("cgroups", e.to_string(), "mount /sys/fs/cgroup"),
    };
    let of = |version| {
        hierarchies.iter().filter(move |h| h.version == version).flat_map(|h| h.controllers.iter().cloned())
    };
    let v1: Vec<String> = of(Version::V1).collect();
    let v2: Vec<String> = of(Version::V2).collect();
    let has_v2 = hierarchies.iter().any(|h| h.version == Version::V2);
    let found = match (v1.is_empty(), has_v2) {
        (true, true) => format!("v2: {}", v2.join(" ")),
        (false, true) => format!("hybrid: v1: {}; v2: {}", v1.join(" "), or_none(&v2)),
        (false, false) => format!("v1: {}", v1.join(" ")),
        (true, false) => return Row::missing("cgroups", "none is mounted", "mount /sys/fs/cgroup"),
    };
    // cpuacct is a part of v2's cpu.
    let has =
        |c: &str| v1.iter().chain(&v2).any(|have| have == c || (c == "cpuacct" && have == "cpu" && has_v2));
    let lacking: Vec<&str> = NEEDED.into_iter().filter(|c| !has(c)).collect();
    match lacking.is_empty() {
        true => Row::ok("cgroups", found),
        false => Row::note(
            "cgroups",
            format!("{found}; without {}", lacking.join(" ")),
            "limits of these cannot be set: mount the controllers, or enable them in cgroup.subtree_control",
        ),
    }
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() { "no controllers".to_owned() } else { names.join(" ") }
}

/// What file system the records are on.
pub fn state(host: &Host<'_>, config: Option<&Config>) -> Row {
    let root = config.map_or_else(|| "/run/urunc".into(), |config| config.root.clone());
    let path = host.path(&root);
    let Some(there) = path.ancestors().find(|path| path.exists()) else {
        return Row::missing("state", format!("{} cannot be made", root.display()), "make it");
    };
    match (statfs(there), rustix::fs::access(there, rustix::fs::Access::WRITE_OK)) {
        (_, Err(e)) => Row::missing(
            "state",
            format!("{} cannot be written to: {}", root.display(), std::io::Error::from(e)),
            "run as root, or set runtime.root to a tmpfs that can be written to",
        ),
        (Ok(fs), Ok(())) if u64::try_from(fs.f_type).is_ok_and(|kind| kind == TMPFS) => {
            Row::ok("state", format!("{} on a tmpfs", root.display()))
        }
        (_, Ok(())) => Row::note(
            "state",
            format!("{} is not on a tmpfs: each record waits for the disk", root.display()),
            other_folder(&root),
        ),
    }
}

/// What to do about a state folder that is on a disk.
fn other_folder(root: &std::path::Path) -> &'static str {
    match root.starts_with("/run") {
        true => "mount a tmpfs on /run, as distributions do, or set runtime.root to a folder of one",
        false => "set runtime.root to a folder below /run",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_run_already_is_not_sent_there() {
        assert!(other_folder("/run/urunc".as_ref()).starts_with("mount a tmpfs on /run"));
        assert!(other_folder("/var/lib/urunc".as_ref()).ends_with("below /run"));
    }
}
