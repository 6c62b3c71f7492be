//! The files for clusters say what the programs do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{fs, path::PathBuf, process::Command};

use urunc_tests::{
    direct::{cache, skip},
    harness::Version,
};

fn deploy(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy")).join(name)
}

/// The value of a key in a file of YAML that has it once.
fn value(text: &str, key: &str) -> String {
    let values: Vec<_> =
        text.lines().filter_map(|line| line.trim_start().strip_prefix(key)?.strip_prefix(':')).collect();
    assert_eq!(values.len(), 1, "{key} in {text}");
    values[0].trim().to_owned()
}

#[test]
fn the_runtime_class_pays_for_the_monitor_of_one_guest() {
    let text = fs::read_to_string(deploy("runtimeclass.yaml")).unwrap();
    let default = &vmm_backends::monitors()[0];
    assert_eq!(value(&text, "memory"), format!("{}Mi", default.overhead_mib()), "for {}", default.name());
    assert_eq!((value(&text, "name").as_str(), value(&text, "handler").as_str()), ("urunc", "urunc"));
}

/// As each file's head says: imported by a configuration that has nothing of its own for pods.
#[test]
fn containerd_takes_the_drop_ins() {
    for (version, number, name) in [(Version::V1_6, 2, "urunc-v2.toml"), (Version::V2_3, 3, "urunc-v3.toml")]
    {
        let containerd = cache().join(format!("containerd-{}/bin/containerd", version.number()));
        if !containerd.exists() {
            skip(&format!("there is no {}", containerd.display()));
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.toml");
        let text = format!("version = {number}\nimports = [{:?}]\n", deploy("containerd").join(name));
        fs::write(&config, text).unwrap();
        let output =
            Command::new(containerd).arg("-c").arg(&config).args(["config", "dump"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let dump = String::from_utf8(output.stdout).unwrap().replace('\'', "\"");
        let (_, ours) = dump.split_once("containerd.runtimes.urunc]\n").expect("the handler is there");
        let ours = ours.split("\n\n").next().unwrap();
        for line in [
            r#"runtime_type = "io.containerd.urunc.v2""#,
            r#"pod_annotations = ["com.urunc.*"]"#,
            r#"container_annotations = ["com.urunc.*"]"#,
        ] {
            assert!(ours.contains(line), "{name}: no {line} in {ours}");
        }
        assert!(dump.contains("containerd.runtimes.runc]\n"), "{name}: the others are still there");
    }
}

#[test]
fn the_examples_fit_the_runtime_class_and_each_other() {
    let json = |name: &str| -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(deploy("examples").join(name)).unwrap()).unwrap()
    };
    let (pod, container) = (json("pod.json"), json("container.json"));
    assert_eq!(pod["metadata"]["name"], "web");
    // `crictl ps` names the pod by them, as the README shows.
    for key in ["name", "namespace"] {
        assert_eq!(container["labels"][format!("io.kubernetes.pod.{key}")], pod["metadata"][key], "{key}");
    }
    let text = fs::read_to_string(deploy("examples/pod.yaml")).unwrap();
    assert_eq!(value(&text, "runtimeClassName"), "urunc");
    assert_eq!(value(&text, "image"), container["image"]["image"].as_str().unwrap());
    assert_eq!(value(&text, "command"), container["command"].to_string());
    let limit = container["linux"]["resources"]["memory_limit_in_bytes"].as_u64().unwrap() >> 20;
    assert!(value(&text, "memory").starts_with(&format!("{limit}Mi")));
}
