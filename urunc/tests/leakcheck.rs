//! `urunc leakcheck`: exit statuses, the snapshot's file, table and JSON.

#![allow(clippy::unwrap_used)] // helpers of tests are tests, too

mod common;

use std::fs;

use common::{run, urunc};
use tempfile::TempDir;

#[test]
fn something_left_behind_is_status_1_and_named() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("root");
    let saved = folder.path().join("before.json");
    fs::create_dir(&root).unwrap();
    let (status, stdout, stderr) =
        run(urunc().args(["leakcheck", "--save"]).arg(&saved).arg("--root").arg(&root).arg("--json"));
    assert_eq!((status, stderr.as_str()), (0, ""));
    let report: serde_json::Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(report["saved"], saved.to_str().unwrap());

    let since = |more: &[&str]| {
        let (status, stdout, stderr) =
            run(urunc().args(["leakcheck", "--settle", "0", "--since"]).arg(&saved).args(more));
        assert_eq!(stderr, "");
        (status, String::from_utf8(stdout).unwrap())
    };
    let (status, table) = since(&[]);
    assert_eq!(status, 0, "{table}");
    assert!(table.ends_with("nothing was left behind\n"), "{table}");

    let left = root.join("left");
    fs::write(&left, b"").unwrap();
    let (status, table) = since(&[]);
    assert_eq!(status, 1, "{table}");
    assert!(table.contains(left.to_str().unwrap()), "{table}");
    let (status, json) = since(&["--json"]);
    let leaks: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((status, &leaks["leaked"][0]["kind"]), (1, &"file".into()));
}

#[test]
fn what_cannot_be_said_is_status_2() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("x.json");
    let fails = |args: &[&str], message: &str| {
        let (status, stdout, stderr) = run(urunc().arg("leakcheck").args(args));
        assert_eq!((status, stdout.len()), (2, 0), "{stderr}");
        assert!(stderr.starts_with("urunc: ") && stderr.contains(message), "{stderr}");
    };
    let name = file.to_str().unwrap();
    fails(&["--since", name], "--since: cannot open");
    fs::write(&file, b"{}").unwrap();
    fails(&["--since", name], "cannot use");
    fails(&[], "required");
    fails(&["--save", name, "--since", name], "cannot be used with");
    fails(&["--since", name, "--marker", "x"], "cannot be used with");
    fails(&["--save", "/none/x"], "cannot write \"/none/x\": No such file or directory");
}
