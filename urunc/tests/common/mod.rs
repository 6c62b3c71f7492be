//! How the tests call the program.

use std::process::{Command, Output};

/// The program, with nothing of the caller's environment that changes what it does.
pub fn urunc() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_urunc"));
    command.env_remove("SOURCE_DATE_EPOCH");
    command
}

/// Runs it and gives exit status, stdout and stderr.
pub fn run(command: &mut Command) -> (i32, Vec<u8>, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), stdout, String::from_utf8(stderr).unwrap())
}

/// Compares with `tests/snapshots/NAME.txt`; URUNC_UPDATE_SNAPSHOTS=1 writes it anew.
#[allow(dead_code, reason = "not every test has snapshots")]
#[track_caller]
pub fn snapshot(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/snapshots/{name}.txt"));
    if std::env::var_os("URUNC_UPDATE_SNAPSHOTS").is_some_and(|v| v == "1") {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text,
        expected,
        "{} differs; URUNC_UPDATE_SNAPSHOTS=1 writes it anew. Now:\n{text}",
        path.display()
    );
}
