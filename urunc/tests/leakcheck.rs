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
    // Only what is below that root: others' containers come and go on this host.
    let (status, stdout, stderr) = run(urunc()
        .args(["leakcheck", "--save"])
        .arg(&saved)
        .arg("--root")
        .arg(&root)
        .args(["--only-marked", "--json"]));
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

/// Starts a sleeper that has this open as its standard output, and ends it at the end of the test.
struct Sleeper(std::process::Child);

impl Sleeper {
    fn start(stdout: fs::File) -> Self {
        let mut command = std::process::Command::new("sleep");
        Self(command.arg("1000").current_dir("/").stdout(stdout).spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A sleeper that holds a file below the root, and this test's own insides.
#[test]
fn a_holder_and_the_fds_of_a_process_are_named_in_the_table_and_in_json() {
    let folder = TempDir::new().unwrap();
    let (root, saved) = (folder.path().join("root"), folder.path().join("before.json"));
    fs::create_dir(&root).unwrap();
    let save = |args: &[&str]| {
        let (status, _, stderr) = run(urunc().args(["leakcheck", "--save"]).arg(&saved).args(args));
        assert_eq!((status, stderr.as_str()), (0, ""));
    };
    let since = || {
        let look = |more: &[&str]| {
            let (status, stdout, _) =
                run(urunc().args(["leakcheck", "--settle", "0", "--since"]).arg(&saved).args(more));
            assert_eq!(status, 1, "{}", String::from_utf8_lossy(&stdout));
            String::from_utf8(stdout).unwrap()
        };
        (look(&[]), serde_json::from_str::<serde_json::Value>(&look(&["--json"])).unwrap())
    };
    let is_named = |table: &str, json: &serde_json::Value, kind: &str, name: &str| {
        let named = |line: &str| line.starts_with(kind) && line.contains(name);
        assert!(table.lines().any(named), "{name}: {table}");
        let entries = json["leaked"].as_array().unwrap();
        let named = |entry: &serde_json::Value| {
            entry["kind"] == kind && entry["name"].as_str().unwrap().contains(name)
        };
        assert!(entries.iter().any(named), "{name}: {json}");
    };
    save(&["--root", root.to_str().unwrap()]);
    let sleeper = Sleeper::start(fs::File::create(root.join("log")).unwrap());
    let (table, json) = since();
    is_named(&table, &json, "holder", &format!("{}@", sleeper.0.id()));
    is_named(&table, &json, "file", "/log");

    // The process must live while it is looked into; this one opens a file meanwhile.
    save(&["--process", &std::process::id().to_string()]);
    let kept = folder.path().join("kept");
    let _kept = fs::File::create(&kept).unwrap();
    let (table, json) = since();
    is_named(&table, &json, "fd", &format!("{} #1 of {}@", kept.display(), std::process::id()));
}

/// A folder as another container's shim that was killed leaves it, as far as it goes: it is removed at the end.
struct Leaf(std::path::PathBuf);

impl Leaf {
    /// In the first tree of cgroups that can be written to.
    fn make() -> Option<Self> {
        let trees = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"].map(std::path::Path::new);
        let tree = trees.into_iter().find(|tree| tree.join("cgroup.procs").exists())?;
        let leaf = tree.join(format!("urunc-{:012x}", std::process::id()));
        fs::create_dir(&leaf).ok().map(|()| Self(leaf))
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).ok();
    }
}

/// What others leave on this host while the demo runs is not the demo's.
#[test]
fn what_bears_only_our_name_counts_unless_only_what_is_marked_does() {
    let folder = TempDir::new().unwrap();
    let saved = folder.path().join("before.json");
    let root = folder.path().to_str().unwrap();
    let found = |more: &[&str]| {
        let (status, _, stderr) =
            run(urunc().args(["leakcheck", "--save"]).arg(&saved).args(["--marker", root]).args(more));
        assert_eq!((status, stderr.as_str()), (0, ""));
        let leaf = Leaf::make()?;
        let (_, json, _) = run(urunc().args(["leakcheck", "--settle", "0", "--json", "--since"]).arg(&saved));
        Some(String::from_utf8(json).unwrap().contains(leaf.0.to_str().unwrap()))
    };
    let Some(by_name) = found(&[]) else {
        println!("skipped: no cgroup directory can be made here");
        return;
    };
    assert!(by_name);
    assert_eq!(found(&["--only-marked"]), Some(false));
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
    fails(&["--since", name, "--process", "7"], "cannot be used with");
    fails(&["--save", name, "--only-marked"], "required");
    fails(&["--save", name, "--process", "0"], "0 is not in 1..");
    fails(&["--save", "/none/x"], "cannot write \"/none/x\": No such file or directory");
}
