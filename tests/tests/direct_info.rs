//! The contract of `-info` and `-v`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    io::{Seek, Write},
    process::{Command, Output},
};

use containerd_shim_protos::{shim::oci::Options, types::introspection::RuntimeInfo};
use protobuf::{Message, well_known_types::any::Any};
use serde_json::Value;
use urunc_tests::direct::{runc, shim};

/// Runs it with this on stdin, and with a runc to be found.
fn run(flag: &str, given: &[u8]) -> Output {
    let mut stdin = tempfile::tempfile().unwrap();
    stdin.write_all(given).and_then(|()| stdin.rewind()).unwrap();
    Command::new(shim()).arg(flag).stdin(stdin).env("PATH", runc().parent().unwrap()).output().unwrap()
}

fn said(flag: &str, given: &[u8]) -> Vec<u8> {
    let output = run(flag, given);
    assert!(output.status.success() && output.stderr.is_empty(), "{flag}: {output:?}");
    output.stdout
}

fn info(given: &[u8]) -> RuntimeInfo {
    let info = RuntimeInfo::parse_from_bytes(&said("-info", given)).unwrap();
    assert_eq!(info.name, "io.containerd.urunc.v2");
    assert!(!info.version.version.is_empty());
    info
}

fn of(type_url: &str, value: Vec<u8>) -> Vec<u8> {
    Any { type_url: type_url.to_owned(), value, ..Any::default() }.write_to_bytes().unwrap()
}

fn runcs(binary_name: &str) -> Vec<u8> {
    let options = Options { binary_name: binary_name.to_owned(), ..Options::default() };
    of("containerd.runc.v1.Options", options.write_to_bytes().unwrap())
}

fn features(info: &RuntimeInfo) -> Value {
    assert_eq!(info.features.type_url, "types.containerd.io/opencontainers/runtime-spec/1/features/Features");
    serde_json::from_slice(&info.features.value).unwrap()
}

#[test]
fn the_version_is_one_line() {
    let text = String::from_utf8(said("-v", b"")).unwrap();
    assert!(text.starts_with("containerd-shim-urunc-v2 ") && text.lines().count() == 1, "{text}");
}

/// What ordinary containers can have is what runc says of itself; but no pod has a user namespace.
#[test]
fn the_features_are_runcs_without_user_namespaces() {
    let output = Command::new(runc()).arg("features").output().unwrap();
    let mut expected: Value = serde_json::from_slice(&output.stdout).unwrap();
    expected["linux"]["namespaces"].as_array_mut().unwrap().retain(|kind| kind != "user");
    let plain = info(b"");
    assert!(plain.options.is_none());
    assert_eq!(features(&plain), expected);
    let named = info(&runcs("runc"));
    assert_eq!(features(&named), expected);
    assert_eq!(named.options.type_url, "containerd.runc.v1.Options");
}

/// Of a host without an OCI runtime all else is told: it runs guests.
#[test]
fn without_an_oci_runtime_there_are_no_features() {
    assert!(info(&runcs("nosuchruntime")).features.is_none());
    // ConfigBody, the field 3.
    let body = "oci.runtime = \"/nosuch/runtime\"";
    let options = [&[3 << 3 | 2, body.len() as u8], body.as_bytes()].concat();
    assert!(info(&of("runtimeoptions.v1.Options", options)).features.is_none());
}

#[test]
fn options_that_cannot_be_read_are_refused() {
    for wrong in [b"\xff\xff".to_vec(), of("a/b.Options", vec![1])] {
        let output = run("-info", &wrong);
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("runtime options") && stderr.lines().count() == 1, "{stderr}");
    }
}
