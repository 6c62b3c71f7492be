//! `urunc image inspect`: what archives, layouts and root file systems would run, and why not.

#![allow(clippy::unwrap_used)] // helpers of tests are tests, too

mod common;
#[path = "common/snapshot.rs"]
mod snapshot;

use std::{
    fs,
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{run, urunc};
use proc_id::Process;
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
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

/// Packs a folder as it is, links as links.
fn pack(from: &Path, to: &Path) {
    let mut archive = tar::Builder::new(fs::File::create(to).unwrap());
    archive.follow_symlinks(false);
    archive.append_dir_all(".", from).unwrap();
    archive.finish().unwrap();
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
    pack(&layout, &folder.path().join("docker.tar"));
    let (status, report) = inspect(folder.path(), &["docker.tar"]);
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
fn layers_of_others_are_read_and_nothing_is_written_outside() {
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
    let write = |layers: &[&str]| {
        let id = |layer: &&str| fs::read(layout.join(layer)).map_or(String::new(), |bytes| diff_id(&bytes));
        let ids: Vec<String> = layers.iter().map(id).collect();
        let config = json!({"config": {"Cmd": ["/init"]}, "rootfs": {"type": "layers", "diff_ids": ids}});
        fs::write(layout.join("config.json"), config.to_string()).unwrap();
        let manifest = json!([{"Config": "config.json", "RepoTags": ["x:1"], "Layers": layers}]);
        fs::write(layout.join("manifest.json"), manifest.to_string()).unwrap();
        pack(&layout, &folder.path().join("image.tar"));
    };
    write(&["below.tar", "above.tar"]);
    let (status, report) = inspect(folder.path(), &["image.tar"]);
    assert_eq!((status, &report["command"]), (0, &json!(["/init"])), "{report}");
    write(&["above.tar", "below.tar"]);
    assert_eq!(inspect(folder.path(), &["image.tar"]).0, 1, "the layer on top counts");
    assert!(!folder.path().join("outside").exists());

    for layers in [&["/etc/passwd"][..], &["../k"], &["nowhere.tar"]] {
        write(layers);
        let (status, _, stderr) = run(&mut command(folder.path(), &["image", "inspect", "image.tar"]));
        assert_eq!(status, 2, "{stderr}");
        assert!(stderr.contains("is no image"), "{stderr}");
    }
    fs::write(folder.path().join("text"), "no tar at all").unwrap();
    let (status, _, stderr) = run(&mut command(folder.path(), &["image", "inspect", "text"]));
    assert_eq!(status, 2, "{stderr}");
    assert!(stderr.contains("\"text\" is no image"), "{stderr}");
}

#[test]
fn a_description_is_read_up_to_one_mebibyte() {
    let folder = folder();
    let (layout, _) = layout(folder.path());
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("k"), kernel()).unwrap();
    let description =
        json!({"com.urunc.unikernel.unikernelType": "linux", "com.urunc.unikernel.binary": "/k"}).to_string();
    for (size, runs) in [(1 << 20, true), ((1 << 20) + 1, false)] {
        let padding = " ".repeat(size - description.len());
        fs::write(root.join("urunc.json"), description.clone() + &padding).unwrap();
        let packed = folder.path().join("layer.tar");
        pack(&root, &packed);
        put_layer(&layout, &fs::read(&packed).unwrap());
        for image in ["root", "layout"] {
            let (status, report) = inspect(folder.path(), &[image]);
            assert_eq!(status == 0, runs, "{image}, {size} bytes: {report}");
            let why = report["why_not"].as_str().unwrap_or_default();
            assert_eq!(why.starts_with("urunc.json: is larger than 1 MiB"), !runs, "{why}");
        }
    }
}

/// A layout that was built, laid out, and the path of its layer.
fn layout(folder: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
    build(folder, &[]);
    let layout = folder.join("layout");
    tar::Archive::new(fs::File::open(folder.join("out.tar")).unwrap()).unpack(&layout).unwrap();
    let manifest: Value = serde_json::from_slice(&fs::read(layout.join("manifest.json")).unwrap()).unwrap();
    let layer = layout.join(manifest[0]["Layers"][0].as_str().unwrap());
    (layout, layer)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Other documents in a layout - its manifest and its config -, and descriptors that say so.
fn edit(layout: &Path, change: impl FnOnce(&mut Value, &mut Value)) {
    let blobs = layout.join("blobs");
    let read = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
    let said =
        |descriptor: &Value| read(&blobs.join(descriptor["digest"].as_str().unwrap().replace(':', "/")));
    let mut index = read(&layout.join("index.json"));
    let mut manifest = said(&index["manifests"][0]);
    let mut config = said(&manifest["config"]);
    let before = config.clone();
    change(&mut manifest, &mut config);
    if config != before {
        put(layout, &mut manifest["config"], config.to_string().as_bytes());
    }
    put(layout, &mut index["manifests"][0], manifest.to_string().as_bytes());
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
}

/// Another blob in a layout, and a descriptor that says so.
fn put(layout: &Path, descriptor: &mut Value, bytes: &[u8]) {
    let hex = sha256(bytes);
    fs::write(layout.join("blobs/sha256").join(&hex), bytes).unwrap();
    descriptor["digest"] = format!("sha256:{hex}").into();
    descriptor["size"] = bytes.len().into();
}

/// Another layer in a layout.
fn put_layer(layout: &Path, bytes: &[u8]) {
    edit(layout, |manifest, config| {
        put(layout, &mut manifest["layers"][0], bytes);
        config["rootfs"]["diff_ids"][0] = diff_id(bytes).into();
    });
}

/// The digest of a layer's tar stream.
fn diff_id(bytes: &[u8]) -> String {
    let mut plain = Vec::new();
    match bytes.starts_with(&[0x1f, 0x8b]) {
        true => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap(),
        false => plain.write(bytes).unwrap(),
    };
    format!("sha256:{}", sha256(&plain))
}

/// As containerd would refuse it.
#[test]
fn a_document_that_lacks_what_containerd_needs_is_why_not() {
    let folder = folder();
    let (layout, layer) = layout(folder.path());
    let index = fs::read(layout.join("index.json")).unwrap();
    let bytes = fs::read(layer).unwrap();
    let why = |wanted: &str| {
        let (status, report) = inspect(folder.path(), &["layout"]);
        assert_eq!((status, &report["plan"]), (1, &Value::Null), "{wanted}: {report}");
        assert!(report["why_not"].as_str().unwrap().contains(wanted), "{wanted}: {report}");
        fs::write(layout.join("index.json"), &index).unwrap();
    };
    let config = |config: Value| edit(&layout, |_, now| *now = config);
    config(json!([1]));
    why("the image's config is no JSON object");
    config(json!({"config": {"Cmd": ["/init"]}}));
    why("rootfs.diff_ids: is missing");
    edit(&layout, |_, config| config["rootfs"]["diff_ids"] = json!([]));
    why("rootfs.diff_ids: has 0 digests, and the image 1 layers");
    let other = format!("sha256:{}", sha256(b"other"));
    edit(&layout, |_, config| config["rootfs"]["diff_ids"][0] = other.clone().into());
    why(&format!("rootfs.diff_ids[0]: says {other:?}, and layer "));
    // What follows the end of the archive counts, too.
    let longer = [&bytes[..], &[0; 512]].concat();
    edit(&layout, |manifest, _| put(&layout, &mut manifest["layers"][0], &longer));
    why(&format!("is {} unpacked", diff_id(&longer)));
    put_layer(&layout, &longer);
    assert_eq!(inspect(folder.path(), &["layout"]).0, 0);
    fs::write(layout.join("index.json"), &index).unwrap();

    edit(&layout, |manifest, _| manifest["layers"][0]["size"] = json!(-1));
    why("layers[0].size: -1 is no number of bytes");
    edit(&layout, |manifest, _| manifest["config"]["size"] = Value::Null);
    why("config.size: is missing");
    let mut unsized_index: Value = serde_json::from_slice(&index).unwrap();
    unsized_index["manifests"][0].as_object_mut().unwrap().remove("size");
    fs::write(layout.join("index.json"), unsized_index.to_string()).unwrap();
    why("manifests[0].size: is missing");
    assert_eq!(inspect(folder.path(), &["layout"]).0, 0);
}

/// An image is hostile: what it is called stays in the line where it is told.
#[test]
fn no_name_of_an_image_writes_lines_of_its_own() {
    let folder = folder();
    let (layout, _) = layout(folder.path());
    let hostile = "x\nRUNS HERE  yes\u{1b}[2K\r";
    edit(&layout, |manifest, config| {
        let key = format!("com.urunc.unikernel.{hostile}");
        manifest["annotations"][&key] = "1".into();
        config["config"]["Labels"][&key] = "2".into();
    });
    let path = layout.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    index["manifests"][0]["annotations"]["io.containerd.image.name"] = hostile.into();
    fs::write(&path, index.to_string()).unwrap();
    let args = ["image", "inspect", "layout", "--annotation", "com.urunc.unikernel.binary=/nowhere"];
    let (status, stdout, stderr) = run(&mut command(folder.path(), &args));
    let text = String::from_utf8(stdout).unwrap();
    assert_eq!((status, stderr.as_str()), (1, ""), "{text}");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    assert_eq!(text.lines().filter(|line| line.starts_with("RUNS HERE")).count(), 1, "{text}");
    assert_eq!(text.matches(r"x\nRUNS HERE  yes\u{1b}[2K\r").count(), 3, "{text}");
    // JSON has its own way to say it.
    assert_eq!(inspect(folder.path(), &["layout"]).1["image"], hostile);
    // Nor does what is told of an image that is none.
    let manifest = json!([{"Config": hostile, "RepoTags": [], "Layers": []}]);
    fs::create_dir(folder.path().join("none")).unwrap();
    fs::write(folder.path().join("none/manifest.json"), manifest.to_string()).unwrap();
    pack(&folder.path().join("none"), &folder.path().join("none.tar"));
    let told = unreadable(folder.path(), "none.tar");
    assert!(told.contains(r"x\nRUNS HERE  yes\u{1b}[2K\r: is not there"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
}

/// As containerd would refuse it.
#[test]
fn a_blob_that_is_not_what_its_descriptor_says_is_why_not() {
    let folder = folder();
    let (layout, layer) = layout(folder.path());
    let name = |path: &Path| path.strip_prefix(&layout).unwrap().to_str().unwrap().to_owned();
    let docker: Value = serde_json::from_slice(&fs::read(layout.join("manifest.json")).unwrap()).unwrap();
    let config = layout.join(docker[0]["Config"].as_str().unwrap());
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let manifest = layout.join("blobs").join(digest.replace(':', "/"));
    for blob in [&layer, &config, &manifest] {
        let before = fs::read(blob).unwrap();
        let longer = [&before[..], b"\n"].concat();
        // Of the same length, and as readable: only its digest tells.
        let other = match blob == &layer {
            true => [&before[..before.len() - 1], b"\x01"].concat(),
            false => String::from_utf8(before.clone())
                .unwrap()
                .replacen("amd64", "arm64", 1)
                .replacen("config.v1", "config.v2", 1)
                .into_bytes(),
        };
        assert_ne!(other, before);
        for bytes in [other, longer] {
            fs::write(blob, &bytes).unwrap();
            pack(&layout, &folder.path().join("image.tar"));
            for image in ["layout", "image.tar"] {
                let (status, report) = inspect(folder.path(), &[image]);
                assert_eq!((status, &report["plan"]), (1, &Value::Null), "{report}");
                let (why, size) = (report["why_not"].as_str().unwrap(), bytes.len());
                let wanted = match size == before.len() {
                    true => format!("{}: its digest is sha256:{}", name(blob), sha256(&bytes)),
                    false => {
                        format!("{}: has {size} bytes, and its descriptor says {}", name(blob), before.len())
                    }
                };
                assert!(why.starts_with(&wanted), "{why}");
            }
        }
        fs::write(blob, &before).unwrap();
    }
    assert_eq!(inspect(folder.path(), &["layout"]).0, 0);
    // Another algorithm, which containerd does not take either.
    let other = fs::read_to_string(layout.join("index.json")).unwrap().replace("sha256:", "sha512:");
    fs::write(layout.join("index.json"), other).unwrap();
    fs::create_dir(layout.join("blobs/sha512")).unwrap();
    fs::rename(&manifest, layout.join("blobs/sha512").join(manifest.file_name().unwrap())).unwrap();
    let (status, report) = inspect(folder.path(), &["layout"]);
    assert_eq!(status, 1);
    assert!(report["why_not"].as_str().unwrap().contains("only sha256"), "{report}");
}

/// What is told of an image that cannot be read; not to hang is a part of it.
#[track_caller]
fn unreadable(folder: &Path, image: &str) -> String {
    let mut child = command(folder, &["image", "inspect", image])
        .env("TMPDIR", folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    let mut hangs = false;
    while child.try_wait().unwrap().is_none() && !hangs {
        hangs = Instant::now() > end;
        std::thread::sleep(Duration::from_millis(10));
    }
    if hangs {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!hangs, "{image} hangs");
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    stderr
}

#[test]
fn no_link_of_a_layout_or_an_archive_is_followed_and_no_fifo_is_opened() {
    let folder = folder();
    let (layout, layer) = layout(folder.path());
    let outside = folder.path().join("outside.tar");
    fs::rename(&layer, &outside).unwrap();
    let name = layer.strip_prefix(&layout).unwrap().to_str().unwrap().to_owned();
    let fifo = folder.path().join("fifo");
    mkfifo(&fifo);
    for target in [&outside, &fifo] {
        std::os::unix::fs::symlink(target, &layer).unwrap();
        pack(&layout, &folder.path().join("image.tar"));
        for image in ["layout", "image.tar"] {
            let told = unreadable(folder.path(), image);
            assert!(told.contains(&name) && told.contains("symbolic link"), "{image}: {told}");
        }
        fs::remove_file(&layer).unwrap();
    }
    mkfifo(&layer);
    let told = unreadable(folder.path(), "layout");
    assert!(told.contains(&format!("{name}: is a FIFO")), "{told}");
    fs::remove_file(&layer).unwrap();
    // Nor one on the way.
    fs::rename(&outside, &layer).unwrap();
    assert_eq!(inspect(folder.path(), &["layout"]).0, 0);
    fs::rename(layout.join("blobs"), folder.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", layout.join("blobs")).unwrap();
    assert!(unreadable(folder.path(), "layout").contains("a symbolic link is on its way"));
    assert!(unreadable(folder.path(), "fifo").contains("is a FIFO"));
}

fn mkfifo(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// Inside of an image links lead on, as if it were the root; what is no file is named.
#[test]
fn links_inside_of_a_layer_stay_inside() {
    let folder = folder();
    let (layout, _) = layout(folder.path());
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("real/deep")).unwrap();
    std::os::unix::fs::symlink("/real", root.join("link")).unwrap();
    std::os::unix::fs::symlink("../../../../real/deep/kernel", root.join("real/k")).unwrap();
    fs::write(root.join("real/deep/kernel"), kernel()).unwrap();
    std::os::unix::fs::symlink(folder.path().join("k"), root.join("host")).unwrap();
    mkfifo(&root.join("fifo"));
    for (binary, wanted) in [
        ("/link/k", None),
        ("link/../real/deep/kernel", None),
        ("/host", Some("is not in the image")),
        ("/fifo", Some("\"/fifo\" is a FIFO")),
        ("/real", Some("\"/real\" is a directory")),
    ] {
        let description =
            json!({"com.urunc.unikernel.unikernelType": "linux", "com.urunc.unikernel.binary": binary});
        fs::write(root.join("urunc.json"), description.to_string()).unwrap();
        let packed = folder.path().join("layer.tar");
        pack(&root, &packed);
        put_layer(&layout, &fs::read(&packed).unwrap());
        // As layers, and as they are laid out: the same.
        for image in [&layout, &root] {
            let (status, report) = inspect(folder.path(), &[image.to_str().unwrap()]);
            match wanted {
                None => assert_eq!(status, 0, "{binary}: {report}"),
                Some(why) => assert!(report["why_not"].as_str().unwrap().contains(why), "{report}"),
            }
        }
    }
}

#[test]
fn a_root_file_system_with_a_manifest_json_is_no_layout() {
    let folder = folder();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("manifest.json"), "{\"name\": \"some application\"}").unwrap();
    fs::write(root.join("index.json"), "[]").unwrap();
    fs::write(root.join("k"), kernel()).unwrap();
    let description =
        json!({"com.urunc.unikernel.unikernelType": "linux", "com.urunc.unikernel.binary": "/k"});
    fs::write(root.join("urunc.json"), description.to_string()).unwrap();
    assert_eq!(inspect(folder.path(), &["root"]).0, 0);
}

#[test]
fn one_that_is_killed_leaves_nothing_behind() {
    let folder = folder();
    let (layout, _) = layout(folder.path());
    let mut archive =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for number in 0..64 {
        let mut header = tar::Header::new_gnu();
        header.set_size(1 << 20);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, format!("file{number}"), &vec![0u8; 1 << 20][..]).unwrap();
    }
    put_layer(&layout, &archive.into_inner().unwrap().finish().unwrap());
    pack(&layout, &folder.path().join("image.tar"));
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut killed = 0;
    let until = Instant::now() + Duration::from_secs(60);
    // Wherever it is hit, there is nothing. Once more if it was done each time before it was hit.
    while killed == 0 && Instant::now() < until {
        let pauses = [20, 50, 100, 200].into_iter().flat_map(|p| [(p, Signal::TERM), (p, Signal::INT)]);
        for (pause, signal) in pauses {
            let mut child = command(folder.path(), &["image", "inspect", "image.tar"])
                .env("TMPDIR", &temporary)
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(pause));
            Process::of_child(child.id()).unwrap().signal(signal).unwrap();
            killed += usize::from(child.wait().unwrap().signal().is_some());
            assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "after {pause} ms and {signal:?}");
        }
    }
    assert!(killed > 0, "none was hit while it worked");
}
