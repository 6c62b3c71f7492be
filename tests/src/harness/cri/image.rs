//! Images of ordinary containers: one program.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::{Job, SOON};

/// Packs an archive (OCI image layout, and Docker's) with one program at `at`, and links to it; the program is its entry point.
pub fn pack(archive: &Path, name: &str, program: &Path, at: &str, links: &[&str]) {
    let work = archive.with_extension("work");
    let root = work.join("root");
    let inside = |path: &str| root.join(path.trim_start_matches('/'));
    for path in links.iter().chain([&at]) {
        fs::create_dir_all(inside(path).parent().unwrap()).unwrap();
    }
    for folder in ["proc", "sys", "dev", "tmp", "etc"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::copy(program, inside(at)).unwrap();
    for link in links {
        symlink(at, inside(link)).unwrap();
    }
    let layout = work.join("layout");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    tar(&root, &work.join("layer.tar"));

    let layer = fs::read(work.join("layer.tar")).unwrap();
    let layer = blob(&blobs, "application/vnd.oci.image.layer.v1.tar", &layer);
    let path = |blob: &Value| blob["digest"].as_str().unwrap().replacen("sha256:", "blobs/sha256/", 1);
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Entrypoint": [at], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    });
    let config = blob(&blobs, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    // What the older Docker reads.
    let docker = json!([{"Config": path(&config), "RepoTags": [name], "Layers": [path(&layer)]}]);
    fs::write(layout.join("manifest.json"), docker.to_string()).unwrap();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": [layer],
    });
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let mut manifest = blob(&blobs, kind, manifest.to_string().as_bytes());
    manifest["annotations"] = json!({"io.containerd.image.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    tar(&layout, archive);
    fs::remove_dir_all(&work).unwrap();
}

/// Writes a blob; its descriptor.
fn blob(blobs: &Path, kind: &str, bytes: &[u8]) -> Value {
    let digest: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    fs::write(blobs.join(&digest), bytes).unwrap();
    json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len()})
}

fn tar(folder: &Path, archive: &Path) {
    let mut command = Command::new("tar");
    command.args(["--owner=0", "--group=0", "-cf"]).arg(archive).arg("-C").arg(folder).arg(".");
    Job::start(command).wait(SOON).expect(0);
}
