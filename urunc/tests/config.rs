//! `urunc config show`: every key, its value and where that came from; what is wrong, by place and key.

#![allow(clippy::unwrap_used)] // helpers of tests are tests, too

mod common;
#[path = "common/snapshot.rs"]
mod snapshot;

use std::{fs, process::Command};

use common::{run, urunc};
use snapshot::snapshot;
use tempfile::TempDir;

/// The command, with this file as the configuration.
fn with_file(folder: &TempDir, text: &str, args: &[&str]) -> Command {
    let path = folder.path().join("config.toml");
    fs::write(&path, text).unwrap();
    let mut command = urunc();
    for variable in ["URUNC_ROOT", "URUNC_ACCEL", "URUNC_QEMU", "URUNC_LOG"] {
        command.env_remove(variable);
    }
    command.env("URUNC_CONFIG_FILE", path).args(args);
    command
}

const FILE: &str = "\
[runtime]
root = \"/run/elsewhere\"
grace_seconds = 10

[monitors.qemu]
default_vcpus = 2
data_path = \"/opt/qemu/share\"

[monitors.firecracker]
default_memory_mb = 128
";

#[test]
fn every_key_is_shown_with_its_origin() {
    let folder = TempDir::new().unwrap();
    let masked =
        |text: Vec<u8>| String::from_utf8(text).unwrap().replace(folder.path().to_str().unwrap(), "<folder>");
    let (status, table, stderr) =
        run(with_file(&folder, FILE, &["config", "show"]).env("URUNC_ACCEL", "tcg"));
    assert_eq!((status, stderr.as_str()), (0, ""));
    snapshot("config-show", &masked(table));
    let (status, json, _) =
        run(with_file(&folder, FILE, &["config", "show", "--json"]).env("URUNC_ACCEL", "tcg"));
    assert_eq!(status, 0);
    let text = masked(json);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let row = |key: &str| rows.iter().find(|row| row["key"] == key).unwrap().clone();
    assert_eq!(
        (&row("runtime.root")["value"], &row("runtime.root")["line"]),
        (&"/run/elsewhere".into(), &2.into())
    );
    assert_eq!(row("runtime.accel")["origin"], "environment");
    assert_eq!(row("monitors.qemu.path")["value"], serde_json::Value::Null);
    assert_eq!(
        (&row("monitors.qemu.overhead_mb")["value"], &row("monitors.qemu.overhead_mb")["origin"]),
        (&192.into(), &"default".into())
    );
    assert_eq!(row("monitors.firecracker.default_memory_mb")["used"], false);
}

/// 0 asks for the default, as in every key that is a number.
#[test]
fn an_overhead_of_nothing_is_shown_as_the_monitors_own() {
    let folder = TempDir::new().unwrap();
    let (status, table, _) =
        run(&mut with_file(&folder, "[monitors.qemu]\noverhead_mb = 0\n", &["config", "show"]));
    let table = String::from_utf8(table).unwrap();
    let row = table.lines().find(|line| line.starts_with("monitors.qemu.overhead_mb ")).unwrap();
    assert_eq!(status, 0);
    assert!(row.contains(" 192 ") && row.ends_with("/config.toml:2 (0: the default, qemu's own)"), "{row}");
}

#[test]
fn what_is_wrong_is_named_by_file_line_and_key() {
    let folder = TempDir::new().unwrap();
    let (status, _, stderr) =
        run(&mut with_file(&folder, "[runtime]\n\nroots = \"/x\"\n", &["config", "show"]));
    assert_eq!(status, 1);
    assert!(
        stderr.ends_with("/config.toml:3: runtime.roots: is not known; `urunc config show` lists what is\n"),
        "{stderr}"
    );
    // The records are found all the same.
    let text = format!("[runtime]\nroot = {:?}\nroots = 1\n", folder.path());
    let (status, stdout, stderr) = run(&mut with_file(&folder, &text, &["list", "--json"]));
    assert_eq!((status, stdout.as_slice(), stderr.as_str()), (0, b"[]\n".as_slice(), ""));
}
