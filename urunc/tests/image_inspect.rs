//! `urunc image inspect`: what archives, layouts and root file systems would run, and why not.

#![allow(clippy::unwrap_used)] // helpers of tests are tests, too

mod common;
#[path = "common/snapshot.rs"]
mod snapshot;

use std::{fs, io::Write, path::Path, process::Command};

use common::{run, urunc};
use serde_json::{Value, json};
use snapshot::snapshot;
use tempfile::TempDir;

/// Bytes that pass for a bzImage with a command line of 2047 bytes.
fn kernel() -> Vec<u8> {
    let mut bytes = vec![0u8; 4096];
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
    bytes[0x238..0x23c].copy_from_slice(&2047u32.to_le_bytes());
    bytes
}

/// A folder with a kernel `k`, an initrd `i`, and a program that passes for QEMU.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("k"), kernel()).unwrap();
    fs::write(folder.path().join("i"), "an initrd").unwrap();
    fs::write(folder.path().join("qemu"), "").unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder.path().join("qemu"), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// The command in a folder; whatever this host has, it is TCG and that QEMU.
fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = urunc();
    command.current_dir(folder).args(args).env("URUNC_ACCEL", "tcg").env("URUNC_QEMU", folder.join("qemu"));
    command.env("URUNC_CONFIG_FILE", "");
    command
}

/// Inspects: exit status and report.
#[track_caller]
fn inspect(folder: &Path, args: &[&str]) -> (i32, Value) {
    let (status, stdout, stderr) = run(command(folder, &["image", "inspect", "--json"]).args(args));
    assert_eq!(stderr, "", "{args:?}");
    (status, serde_json::from_slice(&stdout).unwrap())
}

/// Builds `out.tar`.
#[track_caller]
fn build(folder: &Path, args: &[&str]) {
    let mut all = vec!["image", "build", "-t", "hello", "--type", "linux", "--kernel", "k", "-o", "out.tar"];
    all.extend(args);
    assert_eq!(run(&mut command(folder, &all)).0, 0);
}

#[test]
fn an_archive_that_was_built_is_told_as_it_would_run() {
    let folder = folder();
    build(
        folder.path(),
        &[
            "--initrd",
            "i",
            "--annotation",
            "com.urunc.unikernel.unikernelVersion=6.1",
            "--",
            "/bin/sh",
            "-c",
            "echo 'a b'",
        ],
    );
    let (status, stdout, stderr) = run(&mut command(folder.path(), &["image", "inspect", "out.tar"]));
    assert_eq!((status, stderr.as_str()), (0, ""));
    let text = String::from_utf8(stdout).unwrap().replace(folder.path().to_str().unwrap(), "<folder>");
    // QEMU's arguments have tests of their own.
    let text: String =
        text.lines().filter(|l| !l.starts_with("MONITOR ARGS")).map(|l| format!("{l}\n")).collect();
    snapshot("image-inspect", &text);

    // Laid out as a layout, and as a root file system.
    let layout = folder.path().join("layout");
    tar::Archive::new(fs::File::open(folder.path().join("out.tar")).unwrap()).unpack(&layout).unwrap();
    let (status, report) = inspect(folder.path(), &["layout"]);
    assert_eq!((status, &report["command"]), (0, &json!(["/bin/sh", "-c", "echo 'a b'"])), "{report}");
    fs::remove_file(layout.join("index.json")).unwrap();
    let (status, report) = inspect(folder.path(), &["layout"]);
    assert_eq!(
        (status, &report["image"]),
        (0, &"docker.io/library/hello:latest".into()),
        "by docker's index alone"
    );
    assert_eq!(report["why_not"], Value::Null);
}

#[test]
fn a_build_of_what_would_be_refused_warns() {
    let folder = folder();
    let base = ["image", "build", "-t", "hello", "--type", "linux", "--kernel", "k"];
    let build = |args: &[&str]| run(command(folder.path(), &base).args(args));
    let block = ["--annotation", "com.urunc.unikernel.block=/disk"];
    let (status, _, stderr) = build(&[&block[..], &["-o", "out.tar"]].concat());
    let why = "com.urunc.unikernel.block: \"/disk\" is not supported yet";
    assert_eq!(status, 0);
    assert!(stderr.starts_with("urunc: warning: ") && stderr.contains(why), "{stderr}");
    assert!(folder.path().join("out.tar").is_file());
    // stderr stays one JSON document.
    let (_, _, stderr) = build(&[&block[..], &["--json"]].concat());
    let report: Value = serde_json::from_str(&stderr).unwrap();
    assert!(report["refused"].as_str().unwrap().starts_with(why), "{report}");
    let off = ["--annotation", "com.urunc.unikernel.mountRootfs=false", "-o", "out.tar"];
    assert_eq!(build(&off).2, "");
}

#[test]
fn what_would_not_run_says_why() {
    let folder = folder();
    let why = |args: &[&str]| {
        let (status, report) = inspect(folder.path(), args);
        assert_eq!((status, &report["plan"]), (1, &Value::Null), "{report}");
        report["why_not"].as_str().unwrap().to_owned()
    };
    build(folder.path(), &["--annotation", "com.urunc.unikernel.mountRootfs=true"]);
    assert!(why(&["out.tar"]).starts_with("com.urunc.unikernel.mountRootfs: \"true\" is not supported yet"));
    build(folder.path(), &[]);
    let annotation = ["out.tar", "--annotation", "com.urunc.unikernel.initrd=/nowhere"];
    assert!(why(&annotation).starts_with("com.urunc.unikernel.initrd: \"/nowhere\" is not in the image"));
    let annotation = ["out.tar", "--annotation", "com.urunc.unikernel.hypervisor=spt"];
    assert!(why(&annotation).contains("is not a monitor that is built in"));
    let long = "x".repeat(3000);
    assert!(why(&["out.tar", "--", "/init", &long]).contains("the kernel takes at most 2047"));

    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    assert!(why(&["root"]).contains("an ordinary container"));
    fs::write(root.join("urunc.json"), "{\"a\": 1}").unwrap();
    assert!(why(&["root"]).starts_with("urunc.json: is no JSON object of strings"));
    let description =
        json!({"com.urunc.unikernel.unikernelType": "linux", "com.urunc.unikernel.binary": "disk"});
    fs::write(root.join("urunc.json"), description.to_string()).unwrap();
    assert!(why(&["root"]).starts_with("com.urunc.unikernel.binary: \"disk\" is not in the image"));
    fs::write(root.join("disk"), "no kernel").unwrap();
    assert!(why(&["root"]).contains("neither a Linux bzImage nor an ELF file"));
    fs::write(root.join("disk"), kernel()).unwrap();
    assert_eq!(inspect(folder.path(), &["root"]).0, 0);
}

/// A layer as others make it: gzip, with a whiteout, with what would lead outside, with a device.
#[test]
fn layers_of_others_are_laid_out_and_nothing_is_written_outside() {
    let folder = folder();
    let header = |path: &str, kind: tar::EntryType, size: u64| {
        let mut header = tar::Header::new_gnu();
        // Not set_path, which refuses what is hostile.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o4777);
        header.set_cksum();
        header
    };
    let layer = |files: &[(&str, &[u8])]| {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, bytes) in files {
            archive.append(&header(path, tar::EntryType::Regular, bytes.len() as u64), *bytes).unwrap();
        }
        archive.append(&header("dev/console", tar::EntryType::Char, 0), &b""[..]).unwrap();
        archive.into_inner().unwrap()
    };
    let description =
        json!({"com.urunc.unikernel.unikernelType": "linux", "com.urunc.unikernel.binary": "/k"}).to_string();
    let below = layer(&[
        ("k", b"no kernel"),
        ("gone/urunc.json", b"{}"),
        ("../outside", b"x"),
        ("urunc.json", b"{}"),
    ]);
    let kernel = kernel();
    let above = layer(&[(".wh.gone", b""), ("k", &kernel), ("urunc.json", description.as_bytes())]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&above).unwrap();
    let layout = folder.path().join("layout");
    fs::create_dir(&layout).unwrap();
    fs::write(layout.join("below.tar"), below).unwrap();
    fs::write(layout.join("above.tar"), gzip.finish().unwrap()).unwrap();
    fs::write(layout.join("config.json"), json!({"config": {"Cmd": ["/init"]}}).to_string()).unwrap();
    let write = |layers: &[&str]| {
        let manifest = json!([{"Config": "config.json", "RepoTags": ["x:1"], "Layers": layers}]);
        fs::write(layout.join("manifest.json"), manifest.to_string()).unwrap();
    };
    write(&["below.tar", "above.tar"]);
    let (status, report) = inspect(folder.path(), &["layout"]);
    assert_eq!((status, &report["command"]), (0, &json!(["/init"])), "{report}");
    write(&["above.tar", "below.tar"]);
    assert_eq!(inspect(folder.path(), &["layout"]).0, 1, "the layer on top counts");
    assert!(!folder.path().join("outside").exists());

    for layers in [&["/etc/passwd"][..], &["../k"], &["nowhere.tar"]] {
        write(layers);
        let (status, _, stderr) = run(&mut command(folder.path(), &["image", "inspect", "layout"]));
        assert_eq!(status, 2, "{stderr}");
        assert!(stderr.contains("is no image"), "{stderr}");
    }
    fs::write(folder.path().join("text"), "no tar at all").unwrap();
    let (status, _, stderr) = run(&mut command(folder.path(), &["image", "inspect", "text"]));
    assert_eq!(status, 2, "{stderr}");
    assert!(stderr.contains("\"text\" is no image"), "{stderr}");
}
