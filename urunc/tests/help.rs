//! Help, version and usage errors.

#![allow(clippy::unwrap_used)] // helpers of tests are tests, too

mod common;

use common::{run, urunc};

#[test]
fn help_and_version_are_no_errors() {
    for args in [
        &["--help"][..],
        &["help", "image"],
        &["image", "build", "--help"],
        &["leakcheck", "-h"],
        &["list", "--help"],
        &["gc", "--help"],
    ] {
        let (status, stdout, stderr) = run(urunc().args(args));
        assert_eq!((status, stderr.as_str()), (0, ""), "{args:?}");
        let text = String::from_utf8(stdout).unwrap();
        assert!(text.contains("Usage: urunc"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
    }
    let version = format!("urunc {}\n", env!("CARGO_PKG_VERSION"));
    for args in [&["--version"][..], &["version"]] {
        assert_eq!(run(urunc().args(args)), (0, version.clone().into_bytes(), String::new()));
    }
    let (_, json, _) = run(urunc().args(["version", "--json"]));
    assert_eq!(json, format!("{{\"version\":\"{}\"}}\n", env!("CARGO_PKG_VERSION")).into_bytes());
}

#[test]
fn a_wrong_call_is_status_2() {
    assert_eq!(run(&mut urunc()).0, 2);
    let (status, stdout, stderr) = run(urunc().arg("frobnicate"));
    assert_eq!((status, stdout.len()), (2, 0));
    assert!(stderr.starts_with("urunc: unrecognized subcommand 'frobnicate'\n"), "{stderr}");
}
