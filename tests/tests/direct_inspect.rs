//! `urunc inspect` and `list`, over a container's whole life; ids by their beginning.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{fs, process::Command};

use serde_json::Value;
use urunc_tests::direct::{Bench, SOON, Spec, masked, snapshot, urunc};

/// Runs the operator's command on the records of a bench: exit status, stdout, stderr.
fn run(bench: &Bench, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(urunc()).args(args).arg("--root").arg(&bench.root).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// What is printed, without what differs from run to run.
#[track_caller]
fn printed(bench: &Bench, id: &str, args: &[&str]) -> String {
    let (status, stdout, stderr) = run(bench, args);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let record = bench.record(id).unwrap();
    let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
    let pid = record["process"]["pid"].to_string();
    let netns = record["network"]["netns"]["ino"].to_string();
    let at = record["exit"]["at"].as_str().unwrap_or_default().to_owned();
    let folder = bench.folder();
    let folder = folder.file_name().unwrap().to_str().unwrap();
    let (txid, created) = (text("txid"), text("created"));
    let program = Command::new("sh").args(["-c", "command -v qemu-system-x86_64"]).output().unwrap().stdout;
    let program = String::from_utf8(program).unwrap();
    // The shim is the launcher's program.
    let shim = urunc_tests::direct::shim();
    let mut values = vec![
        (bench.scratch().to_str().unwrap(), "scratch"),
        (&bench.namespace, "namespace"),
        (folder, "containerd"),
        (&txid, "txid"),
        (&created, "created"),
        (&at, "exited"),
        (&pid, "pid"),
        (program.trim(), "qemu"),
        (shim.to_str().unwrap(), "shim"),
    ];
    let index = format!("interface {}", record["network"]["index"]);
    if netns != "null" {
        values.extend([(netns.as_str(), "netns"), (&index, "interface")]);
    }
    let text = masked(&stdout, &values);
    // Which hierarchies there are depends on the host, and QEMU's arguments have tests of their own.
    let lines =
        text.lines().filter(|line| !line.contains("cgroup present") && !line.starts_with("MONITOR ARGS"));
    let word = |word: &str| match word.strip_suffix('s').is_some_and(|n| n.parse::<u32>().is_ok()) {
        true => "<age>".to_owned(),
        false => word.to_owned(),
    };
    lines.map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" ") + "\n").collect()
}

#[test]
fn a_container_is_inspected_in_every_state() {
    let Some(mut bench) = Bench::released() else { return };
    bench.set_variable("URUNC_ACCEL", "tcg");
    let network = bench.pod_network();
    let spec = Spec::tiny("hang").join_network(&network.path()).memory(64 << 20);
    let (shim, bundle, _) = bench.created("c1", &spec);
    snapshot("inspect-created", &printed(&bench, "c1", &["inspect", "c1"]));
    shim.client.start("c1").unwrap();
    snapshot("inspect-running", &printed(&bench, "c1", &["inspect", "c1"]));
    snapshot("list", &printed(&bench, "c1", &["list"]));
    snapshot("gc-nothing", &printed(&bench, "c1", &["gc", "--dry-run"]));

    let (status, json, _) = run(&bench, &["inspect", "c1", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((status, &json["state"], &json["daemon"]), (0, &"running".into(), &true.into()));
    assert_eq!(json["process"]["identity"], "alive, and the recorded one");
    let resources = json["resources"].as_array().unwrap();
    assert!(resources.iter().any(|r| r["what"] == "cgroup"), "{json}");
    assert!(resources.iter().all(|r| r["present"] == true), "{json}");
    assert_eq!(json["record"]["id"], "c1");

    shim.client.kill("c1", 9).unwrap();
    shim.client.wait("c1").unwrap();
    let (_, json, _) = run(&bench, &["inspect", "c1", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["process"]["identity"], &json["exit"]["status"]), (&"dead".into(), &137.into()));

    shim.daemon.kill();
    assert!(shim.daemon.ends_within(SOON));
    let dry =
        printed(&bench, "c1", &["gc", "--dry-run"]).replace(bench.socket("c1").to_str().unwrap(), "<socket>");
    snapshot("gc-dry-run", &dry);
    let (_, json, _) = run(&bench, &["inspect", "c1", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["daemon"], false);
    bench.delete(&bundle).deleted();
    let (status, _, stderr) = run(&bench, &["inspect", "c1"]);
    assert_eq!(status, 1);
    assert!(stderr.starts_with("urunc: c1: no container of this id"), "{stderr}");
    bundle.remove();
    bench.finish();
}

/// A monitor that complained before it ended has its words in the record.
#[test]
fn the_last_words_of_a_monitor_stay() {
    let Some(mut bench) = Bench::released() else { return };
    // A program that does not like the command line; a script would not do, for what runs must be the file that is named.
    let cat = bench.scratch().join("qemu-system-x86_64");
    fs::copy("/bin/cat", &cat).unwrap();
    bench.set_variable("URUNC_QEMU", cat.to_str().unwrap());
    let (shim, bundle, _) = bench.created("c1", &Spec::tiny("hang"));
    shim.client.start("c1").expect_err("it ends at once");
    let (_, json, _) = run(&bench, &["inspect", "c1", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json["last_words"].as_str().unwrap().contains("invalid option"), "{json}");
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn the_beginning_of_an_id_is_enough_unless_it_is_ambiguous() {
    let Some(bench) = Bench::released() else { return };
    let (shim, first, _) = bench.created("abc1", &Spec::tiny("hang"));
    let second = bench.bundle("abc12", &Spec::tiny("hang").in_pod("abc1")).without_stdio();
    shim.client.create(&second).unwrap();
    let id = |name: &str| {
        let (status, stdout, stderr) = run(&bench, &["inspect", name, "--json"]);
        match status {
            0 => serde_json::from_str::<Value>(&stdout).unwrap()["id"].as_str().unwrap().to_owned(),
            _ => stderr,
        }
    };
    assert_eq!(id("abc1"), "abc1", "a whole id is no beginning");
    assert_eq!(id("abc12"), "abc12");
    assert_eq!(id(&format!("{}/abc12", bench.namespace)), "abc12");
    let ambiguous = id("ab");
    let names = ["abc1", "abc12"].map(|id| format!("{}/{id}", bench.namespace));
    assert!(ambiguous.starts_with("urunc: ab: ambiguous"), "{ambiguous}");
    assert!(names.iter().all(|name| ambiguous.contains(name)), "{ambiguous}");
    assert!(id("x").contains("no container of this id"));
    assert!(id("other/abc1").contains("no container of this id"));
    shim.client.delete("abc12").unwrap();
    second.remove();
    bench.end(&shim, first);
    bench.finish();
}
