//! Where the programs are, and why a test cannot run here.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::direct::cache;

use super::Version;

/// `urunc`, the operator's command: `$URUNC_TEST_URUNC`.
pub fn urunc() -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/urunc");
    let path = env::var_os("URUNC_TEST_URUNC").filter(|v| !v.is_empty()).map_or_else(built, PathBuf::from);
    assert!(path.exists(), "there is no {}: run `make build`", path.display());
    path
}

/// The folder with containerd and ctr.
pub fn programs(version: Version) -> PathBuf {
    cache().join(format!("containerd-{}", version.number())).join("bin")
}

/// Why tests against this containerd cannot run here.
pub fn obstacle(version: Version) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("tests against containerd need root; run tests/run.sh".to_owned());
    }
    let programs = programs(version);
    if programs.exists() {
        return None;
    }
    let why = fs::read_to_string(programs.with_file_name("skipped"))
        .unwrap_or_else(|_| format!("there is no {}; run `make deps`", programs.display()));
    Some(format!("containerd {}: {}", version.number(), why.trim()))
}

/// crictl.
pub fn crictl() -> PathBuf {
    cache().join("cri/bin/crictl")
}

/// Why tests with pods cannot run here.
pub fn no_crictl() -> Option<String> {
    let crictl = crictl();
    if crictl.exists() {
        return None;
    }
    let why = fs::read_to_string(cache().join("cri/skipped"))
        .unwrap_or_else(|_| format!("there is no {}; run `make deps`", crictl.display()));
    Some(format!("pods: {}", why.trim()))
}

/// Where scratch folders are made: `$TMPDIR`, else a tmpfs with room, where containerd's many fsyncs cost nothing,
/// else `/tmp`.
pub fn scratch_base() -> PathBuf {
    const SHM: &str = "/dev/shm";
    const ENOUGH: u64 = 1 << 30;
    if env::var_os("TMPDIR").is_some_and(|v| !v.is_empty()) {
        return env::temp_dir();
    }
    let fits = rustix::fs::statvfs(SHM).is_ok_and(|s| {
        let noexec = s.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC);
        s.f_bavail * s.f_frsize >= ENOUGH && !noexec
    });
    if fits { SHM.into() } else { "/tmp".into() }
}

/// The snapshotter that works in this folder: an overlay on an overlay is refused.
pub fn snapshotter(folder: &Path) -> &'static str {
    const OVERLAYFS: i64 = 0x794c_7630;
    match rustix::fs::statfs(folder) {
        Ok(s) if s.f_type == OVERLAYFS => "native",
        _ => "overlayfs",
    }
}

/// nerdctl.
pub fn nerdctl() -> PathBuf {
    cache().join("nerdctl/bin/nerdctl")
}

/// Why tests with nerdctl cannot run here.
pub fn no_nerdctl() -> Option<String> {
    why_not("nerdctl", &nerdctl())
}

/// The folder with the docker and dockerd of this Debian.
pub fn docker(debian: u32) -> PathBuf {
    cache().join(format!("docker-{debian}/bin"))
}

/// Why tests with the Docker of this Debian cannot run here.
pub fn no_docker(debian: u32) -> Option<String> {
    why_not(&format!("docker-{debian}"), &docker(debian))
}

/// Why an entry of the cache is not there, as `make deps` has noted it.
fn why_not(entry: &str, program: &Path) -> Option<String> {
    if program.exists() {
        return None;
    }
    let why = fs::read_to_string(cache().join(entry).join("skipped"))
        .unwrap_or_else(|_| format!("there is no {}; run `make deps`", program.display()));
    Some(format!("{entry}: {}", why.trim()))
}
