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
