//! `urunc image build`: archives against the OCI image specification, and what is refused.

#![allow(clippy::unwrap_used)] // helpers of tests are tests, too

mod common;

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use common::{run, urunc};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Bytes that pass for a bzImage, and are not a whole number of tar blocks.
fn kernel() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..300_001u32).map(|i| i as u8).collect();
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes
}

/// A folder with a kernel `k` and an initrd `i`.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("k"), kernel()).unwrap();
    fs::write(folder.path().join("i"), b"an initrd").unwrap();
    folder
}

/// `image build` in a folder.
fn build(folder: &Path, args: &[&str]) -> Command {
    let mut command = urunc();
    command.current_dir(folder).args(["image", "build"]).args(args);
    command
}

const FULL: [&str; 18] = [
    "--tag",
    "hello",
    "--type",
    "linux",
    "--kernel",
    "k",
    "--initrd",
    "i",
    "--env",
    "A=b=c",
    "--annotation",
    "com.urunc.unikernel.unikernelVersion=6.1",
    "-o",
    "out.tar",
    "--",
    "/bin/sh",
    "-c",
    "echo 'a b'",
];

/// All entries of a tar archive, with what must not depend on the host.
fn entries(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    assert_eq!(bytes.len() % 512, 0);
    let mut archive = tar::Archive::new(bytes);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 0));
        let directory = header.entry_type().is_dir();
        assert_eq!(header.mode().unwrap(), if directory { 0o755 } else { 0o644 });
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (String::from_utf8(entry.path_bytes().into_owned()).unwrap(), bytes)
    };
    archive.entries().unwrap().map(read).collect()
}

/// An archive's blob, after its digest and size were checked.
fn blob<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
    let digest = descriptor["digest"].as_str().unwrap();
    let bytes = &files[&format!("blobs/{}", digest.replace(':', "/"))];
    let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(digest, format!("sha256:{hex}"));
    assert_eq!(descriptor["size"], bytes.len());
    bytes
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn the_archive_is_an_oci_layout_and_a_docker_archive_of_the_same_blobs() {
    let folder = folder();
    let (status, report, stderr) = run(build(folder.path(), &FULL).arg("--dummy").args([] as [&str; 0]));
    assert_eq!((status, stderr.as_str()), (0, ""), "--dummy stands behind --: a word of the command");
    assert!(String::from_utf8(report).unwrap().contains("docker.io/library/hello:latest"));

    let archive = fs::read(folder.path().join("out.tar")).unwrap();
    let files: BTreeMap<_, _> = entries(&archive).into_iter().collect();
    assert_eq!(json_of(&files["oci-layout"]), json!({"imageLayoutVersion": "1.0.0"}));
    let index = json_of(&files["index.json"]);
    assert_eq!(index["schemaVersion"], 2);
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    let named = &index["manifests"][0];
    assert_eq!(named["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(named["platform"], json!({"architecture": "amd64", "os": "linux"}));
    assert_eq!(named["annotations"]["io.containerd.image.name"], "docker.io/library/hello:latest");
    assert_eq!(named["annotations"]["org.opencontainers.image.ref.name"], "latest");

    let keys = json!({
        "com.urunc.unikernel.binary": "/unikernel/kernel",
        "com.urunc.unikernel.hypervisor": "qemu",
        "com.urunc.unikernel.initrd": "/unikernel/initrd",
        "com.urunc.unikernel.unikernelType": "linux",
        "com.urunc.unikernel.unikernelVersion": "6.1",
    });
    let manifest = json_of(blob(&files, named));
    assert_eq!(manifest["mediaType"], named["mediaType"]);
    assert_eq!(manifest["annotations"], keys);
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.image.config.v1+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar");
    let layer = blob(&files, &manifest["layers"][0]);

    let config = json_of(blob(&files, &manifest["config"]));
    assert_eq!((&config["architecture"], &config["os"]), (&json!("amd64"), &json!("linux")));
    assert_eq!(config["created"], "1970-01-01T00:00:00Z");
    assert_eq!(config["rootfs"], json!({"type": "layers", "diff_ids": [manifest["layers"][0]["digest"]]}));
    assert_eq!(
        config["config"],
        json!({
            "Env": ["A=b=c"], "Entrypoint": ["/bin/sh"], "Cmd": ["-c", "echo 'a b'", "--dummy"], "Labels": keys
        })
    );

    let docker = json_of(&files["manifest.json"]);
    let path = |d: &Value| format!("blobs/{}", d["digest"].as_str().unwrap().replace(':', "/"));
    let expected = json!([{
        "Config": path(&manifest["config"]),
        "RepoTags": ["docker.io/library/hello:latest"],
        "Layers": [path(&manifest["layers"][0])],
    }]);
    assert_eq!(docker, expected);

    let layer = entries(layer);
    let names: Vec<&str> = layer.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["unikernel/", "unikernel/initrd", "unikernel/kernel", "urunc.json"]);
    assert_eq!((layer[1].1.as_slice(), &layer[2].1), (&b"an initrd"[..], &kernel()));
    let encoded: BTreeMap<String, String> = serde_json::from_slice(&layer[3].1).unwrap();
    let decode = |v: &String| String::from_utf8(STANDARD.decode(v).unwrap()).unwrap();
    let decoded: BTreeMap<&String, String> = encoded.iter().map(|(k, v)| (k, decode(v))).collect();
    assert_eq!(json!(decoded), keys);
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let (one, two) = (folder(), folder());
    fs::set_permissions(two.path().join("k"), fs::Permissions::from_mode(0o600)).unwrap();
    let built = |folder: &TempDir, epoch: Option<&str>| {
        let mut command = build(folder.path(), &FULL);
        epoch.map(|epoch| command.env("SOURCE_DATE_EPOCH", epoch));
        assert_eq!(run(&mut command).0, 0);
        fs::read(folder.path().join("out.tar")).unwrap()
    };
    let first = built(&one, None);
    assert!(first == built(&two, None));
    let dated = built(&two, Some("1700000000"));
    assert!(first != dated);
    assert!(dated.windows(32).any(|w| w == br#""created":"2023-11-14T22:13:20Z""#));
}

#[test]
fn the_defaults_are_those_of_the_guest() {
    let folder = folder();
    for (kind, entrypoint) in [("linux", "/init"), ("unikraft", "unikernel")] {
        let args = ["--tag", "x.local/y:z", "--type", kind, "--kernel", "k", "--json"];
        let (status, archive, report) = run(&mut build(folder.path(), &args));
        assert_eq!(status, 0, "{report}");
        // The archive went to stdout, so the report to stderr.
        let report = json_of(report.as_bytes());
        assert_eq!(report["image"], "x.local/y:z");
        assert_eq!(report["bytes"], archive.len());
        let files: BTreeMap<_, _> = entries(&archive).into_iter().collect();
        let config = &files[&format!("blobs/{}", report["config"].as_str().unwrap().replace(':', "/"))];
        let config = json_of(config);
        assert_eq!(config["config"]["Entrypoint"], json!([entrypoint]));
        assert!(config["config"].get("Cmd").is_none() && config["config"].get("Env").is_none());
    }
}

#[test]
fn what_is_wrong_is_said_and_nothing_is_left() {
    let folder = folder();
    let path = folder.path();
    fs::write(path.join("empty"), b"").unwrap();
    fs::write(path.join("text"), b"#!/bin/sh\n").unwrap();
    fs::create_dir(path.join("dir")).unwrap();
    symlink("k", path.join("link")).unwrap();
    let list = || {
        let mut names: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        names
    };
    let before = list();
    let version = "com.urunc.unikernel.unikernelVersion=1";
    for (status, args, message) in [
        (1, &["--kernel", "none"][..], "--kernel: cannot open \"none\": No such file or directory"),
        (1, &["--kernel", "dir"], "--kernel: \"dir\" is a directory; name a plain file"),
        (1, &["--kernel", "/dev/null"], "--kernel: \"/dev/null\" is a device; name a plain file"),
        (1, &["--kernel", "empty"], "--kernel: \"empty\" is empty"),
        (1, &["--kernel", "text"], "--kernel: \"text\" is neither a Linux bzImage nor an ELF file; name"),
        (1, &["--initrd", "dir"], "--initrd: \"dir\" is a directory"),
        (1, &["--initrd", "empty"], "--initrd: \"empty\" is empty"),
        (1, &["-o", "dir"], "--output: \"dir\" is a directory; name a file, or - for standard output"),
        (1, &["-o", "/dev/null"], "--output: \"/dev/null\" is a device"),
        (1, &["-o", "link"], "--output: \"link\" is a symbolic link"),
        (1, &["-o", ".."], "--output: \"..\" is a directory"),
        (1, &["-o", "none/out.tar"], "cannot write \"none/out.tar\": No such file or directory"),
        (2, &["--tag", "A b"], "--tag: \"A b\" cannot be used; it must be a name of lower-case letters"),
        (2, &["--type", "rumprun"], "--type: \"rumprun\" is not known; use linux or unikraft"),
        (2, &["--type", "unikraft", "--initrd", "i"], "--initrd: \"i\" cannot be used; it must be left out"),
        (2, &["--hypervisor", "hvt"], "--hypervisor: \"hvt\" is not known; use qemu or firecracker"),
        (2, &["--annotation", "a"], "--annotation: \"a\" is not of the form KEY=VALUE"),
        (
            2,
            &["--annotation", "a=b"],
            "--annotation: \"a\" is not known; use com.urunc.unikernel.blkMntPoint",
        ),
        (2, &["--annotation", version, "--annotation", version], "unikernelVersion is given twice"),
        (2, &["--env", "=x"], "--env: \"=x\" is not of the form KEY=VALUE"),
        (2, &["--env", "A=1", "--env", "A=2"], "--env: A is given twice"),
        (2, &["--env", "A=1\n"], "--env: \"A=1\\n\" cannot be used; it must be one line, without NUL"),
        (2, &["--", ""], "COMMAND: \"\" cannot be used; it must be a program"),
        (2, &["--what"], "unexpected argument '--what' found"),
    ] {
        let defaults = [("--tag", "x"), ("--type", "linux"), ("--kernel", "k"), ("-o", "out.tar")];
        let missing = defaults.iter().filter(|(option, _)| !args.contains(option));
        let mut all: Vec<&str> = missing.flat_map(|(option, value)| [*option, *value]).collect();
        all.extend(args);
        let (found, stdout, stderr) = run(&mut build(path, &all));
        assert_eq!((found, stdout.len()), (status, 0), "{args:?}: {stderr}");
        assert!(stderr.starts_with("urunc: ") && stderr.contains(message), "{args:?}: {stderr}");
        assert!(stderr.matches("No such file").count() <= 1, "a cause is told once: {stderr}");
        assert_eq!(list(), before, "{args:?}");
    }
}

#[test]
fn an_existing_archive_stays_until_the_new_one_is_whole() {
    let folder = folder();
    let out = folder.path().join("out.tar");
    fs::write(&out, b"old").unwrap();
    let mut bad = FULL;
    bad[5] = "none";
    assert_eq!(run(&mut build(folder.path(), &bad)).0, 1);
    assert_eq!(fs::read(&out).unwrap(), b"old");
    assert_eq!(run(&mut build(folder.path(), &FULL)).0, 0);
    assert!(fs::read(&out).unwrap().len() > 300_000);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}
