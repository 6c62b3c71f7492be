//! Where the programs and guests are, and what a test does that cannot run here.

use std::{
    env,
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
};

/// The shim as it is released: `$URUNC_TEST_SHIM`.
pub fn shim() -> PathBuf {
    program("URUNC_TEST_SHIM", "target/release/containerd-shim-urunc-v2")
}

/// The shim with fault points: `$URUNC_TEST_SHIM_FAULT`.
pub fn shim_with_faults() -> PathBuf {
    program("URUNC_TEST_SHIM_FAULT", "target/fault/containerd-shim-urunc-v2")
}

/// The operator's command: `$URUNC_TEST_URUNC`.
pub fn urunc() -> PathBuf {
    program("URUNC_TEST_URUNC", "target/release/urunc")
}

/// The folder with guests: `$URUNC_TEST_CACHE`.
pub fn cache() -> PathBuf {
    program("URUNC_TEST_CACHE", ".cache")
}

/// Why tests of this kind cannot run here.
pub(crate) fn obstacle() -> Option<&'static str> {
    (!rustix::process::geteuid().is_root()).then_some("direct tests need root")
}

/// Says that a test cannot run here, and counts it for the runner's last line.
pub fn skip(why: &str) {
    // Not println!: what a test says is swallowed unless it fails.
    writeln!(std::io::stderr(), "skipped: {why}").ok();
    if let Some(file) = env::var_os("URUNC_TEST_SKIPS")
        && let Ok(mut file) = OpenOptions::new().append(true).create(true).open(file)
    {
        // One write per line: skips of tests that run at once do not mix.
        file.write_all(format!("{why}\n").as_bytes()).ok();
    }
}

fn program(variable: &str, fallback: &str) -> PathBuf {
    let path = env::var_os(variable).filter(|v| !v.is_empty()).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).join(fallback),
        PathBuf::from,
    );
    assert!(path.exists(), "there is no {}: run `make deps build-fault`", path.display());
    path
}
