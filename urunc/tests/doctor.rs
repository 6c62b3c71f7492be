//! `urunc doctor`: hosts made of files, each with its diagnosis.

#![allow(clippy::unwrap_used)] // helpers of tests are tests, too

mod common;
#[path = "common/snapshot.rs"]
mod snapshot;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use common::{run, urunc};
use snapshot::snapshot;
use tempfile::TempDir;

/// A host: files with their contents; links stand for device nodes.
fn host(files: &[(&str, &str)], programs: &[&str], devices: &[(&str, &str)]) -> TempDir {
    let host = TempDir::new().unwrap();
    let place = |path: &str| {
        let place = host.path().join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        place
    };
    for (path, text) in files {
        fs::write(place(path), text).unwrap();
    }
    for program in programs {
        let place = place(program);
        fs::write(&place, "").unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for (device, real) in devices {
        symlink(real, place(device)).unwrap();
    }
    host
}

const MOUNTS: &str = "42 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";

/// As in deploy/containerd.
const RUNTIME: &str = "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.urunc]\n\
    runtime_type = \"io.containerd.urunc.v2\"\n";

/// One row of the diagnosis, spaces made one, with its remedy.
#[track_caller]
fn row(host: &Path, check: &str) -> String {
    let (_, table) = diagnose(host, &[]);
    let lines = table.lines().skip_while(|line| !line.starts_with(&format!("{check} ")));
    let own = lines.enumerate().take_while(|(n, line)| *n == 0 || line.starts_with(' '));
    own.flat_map(|(_, line)| line.split_whitespace()).collect::<Vec<_>>().join(" ")
}

/// The diagnosis: exit status, table.
#[track_caller]
fn diagnose(host: &Path, variables: &[(&str, &str)]) -> (i32, String) {
    let mut command = urunc();
    for variable in ["URUNC_ROOT", "URUNC_ACCEL", "URUNC_QEMU", "URUNC_LOG", "URUNC_CONFIG_FILE"] {
        command.env_remove(variable);
    }
    command.args(["doctor", "--sysroot"]).arg(host).envs(variables.iter().copied());
    let (status, stdout, stderr) = run(&mut command);
    assert_eq!(stderr, "");
    let text = String::from_utf8(stdout).unwrap().replace(host.to_str().unwrap(), "<host>");
    // The last row is of the file system that the test's own folder is on.
    let state = text.find("state ").unwrap();
    (status, text[..state].to_owned())
}

/// /dev/null stands for KVM's node: any character device does.
const ALL: [(&str, &str); 1] = [("dev/kvm", "/dev/null")];

#[test]
fn a_node_that_lacks_nothing_it_needs() {
    let host = host(
        &[
            ("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n"),
            ("proc/cpuinfo", "processor : 0\nflags\t\t: fpu vmx sse\n"),
            ("proc/self/mountinfo", MOUNTS),
            ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n"),
            ("etc/containerd/config.toml", "version = 3\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n"),
            ("etc/containerd/conf.d/urunc.toml", RUNTIME),
            ("etc/cni/net.d/10-net.conflist", "{}"),
        ],
        &[
            "usr/bin/qemu-system-x86_64",
            "usr/local/bin/containerd-shim-urunc-v2",
            "usr/sbin/runc",
            "usr/bin/containerd",
            "opt/cni/bin/bridge",
        ],
        &ALL,
    );
    let (status, table) = diagnose(host.path(), &[]);
    // The one thing that a folder cannot have without root is a device of its own: there is no tun.
    snapshot("doctor-node", &table);
    assert_eq!(status, 1);
    let (_, json, _) = run(urunc().args(["doctor", "--json", "--sysroot"]).arg(host.path()));
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&json).unwrap();
    let missing: Vec<_> =
        rows.iter().filter(|r| r["state"] == "missing").map(|r| r["check"].clone()).collect();
    assert_eq!(missing, ["tun"]);
}

#[test]
fn a_host_with_nothing() {
    let host = host(&[("proc/sys/kernel/osrelease", "4.19.0\n")], &[], &[]);
    let (status, table) = diagnose(host.path(), &[("URUNC_ACCEL", "kvm")]);
    snapshot("doctor-nothing", &table);
    assert_eq!(status, 1);
}

/// This kind of machine: KVM is there, and it is software.
#[test]
fn a_kvm_in_software_is_told_from_a_real_one() {
    let cpu = |flags: &str| {
        let files = [("proc/cpuinfo", format!("flags : {flags}\n"))];
        let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (*p, t.as_str())).collect();
        host(&files, &[], &ALL)
    };
    let row = |host: &TempDir, accel: &str| {
        let (_, table) = diagnose(host.path(), &[("URUNC_ACCEL", accel)]);
        let line = table.lines().find(|line| line.starts_with("kvm ")).unwrap().to_owned();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let software = cpu("fpu sse");
    let neither = "kvm note only software: /dev/kvm is there, but the CPU has neither vmx nor svm; ";
    assert_eq!(row(&software, "auto"), format!("{neither}TCG is used"));
    assert_eq!(row(&software, "kvm"), format!("{neither}runtime.accel is kvm"));
    let real = cpu("fpu svm");
    assert_eq!(row(&real, "auto"), "kvm ok usable: /dev/kvm, and the CPU has svm");
    assert_eq!(row(&real, "tcg"), "kvm note usable (svm), but runtime.accel is tcg");
}

#[test]
fn the_very_host_is_diagnosed_with_versions() {
    let (status, stdout, stderr) = run(urunc().args(["doctor", "--json"]));
    assert!(matches!(status, 0 | 1), "{status}: {stderr}");
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&stdout).unwrap();
    let qemu = rows.iter().find(|row| row["check"] == "qemu").unwrap();
    if qemu["state"] == "ok" {
        assert!(qemu["found"].as_str().unwrap().contains("version"), "{qemu}");
    }
    let oci = rows.iter().find(|row| row["check"] == "oci").unwrap();
    if oci["state"] == "ok" {
        assert!(oci["found"].as_str().unwrap().contains("spec 1."), "{oci}");
    }
    assert_eq!(status == 1, rows.iter().any(|row| row["state"] == "missing"));
}

#[test]
fn the_configuration_is_that_of_the_host_that_is_looked_at() {
    let broken = host(&[("etc/urunc/config.toml", "[bad]\n")], &[], &[]);
    let told = row(broken.path(), "configuration");
    let wanted = "configuration MISSING <host>/etc/urunc/config.toml:1: bad: is not known";
    assert!(told.starts_with(wanted), "{told}");
    let tcg = host(
        &[("etc/urunc/config.toml", "[runtime]\naccel = \"tcg\"\n"), ("proc/cpuinfo", "flags : svm\n")],
        &[],
        &ALL,
    );
    assert!(row(tcg.path(), "kvm").contains("runtime.accel is tcg"));
}

#[test]
fn a_monitor_that_is_configured_wrongly_is_told_by_its_key() {
    let text = "[monitors.qemu]\npath = \"/opt/qemu\"\n";
    let host = host(&[("etc/urunc/config.toml", text)], &["usr/bin/qemu-system-x86_64"], &[]);
    let told = |problem: &str| {
        format!(
            "qemu MISSING monitors.qemu.path: \"/opt/qemu\" {problem} (<host>/etc/urunc/config.toml:2) \
             -> name qemu-system-x86_64 in monitors.qemu.path, or leave it unset"
        )
    };
    let opt = host.path().join("opt/qemu");
    assert_eq!(row(host.path(), "qemu"), told("is not there"));
    fs::create_dir_all(&opt).unwrap();
    assert_eq!(row(host.path(), "qemu"), told("is a directory, no program"));
    fs::remove_dir(&opt).unwrap();
    fs::write(&opt, "").unwrap();
    assert_eq!(row(host.path(), "qemu"), told("is not executable"));
    fs::set_permissions(&opt, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(row(host.path(), "qemu"), "qemu ok /opt/qemu");
}

#[test]
fn the_oci_runtime_is_the_one_that_would_be_used() {
    let host = host(&[], &["usr/bin/crun"], &[]);
    assert_eq!(row(host.path(), "oci"), "oci ok /usr/bin/crun");
    fs::write(host.path().join("usr/bin/runc"), "").unwrap();
    assert_eq!(row(host.path(), "oci"), "oci ok /usr/bin/crun", "a file that is not executable");
    fs::set_permissions(host.path().join("usr/bin/runc"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(row(host.path(), "oci"), "oci ok /usr/bin/runc");
    let configured = |name: &str| {
        fs::create_dir_all(host.path().join("etc/urunc")).unwrap();
        fs::write(host.path().join("etc/urunc/config.toml"), format!("[oci]\nruntime = \"{name}\"\n"))
            .unwrap();
        row(host.path(), "oci")
    };
    assert_eq!(configured("/usr/bin/crun"), "oci ok /usr/bin/crun");
    let lacks = "ordinary containers, such as sidecars, do not run";
    let told = configured("/opt/runc");
    assert!(
        told.starts_with(&format!("oci note oci.runtime: \"/opt/runc\" is not there: {lacks} ->")),
        "{told}"
    );
}

#[test]
fn what_containerd_does_not_read_does_not_count() {
    let told = |main: &str| {
        let files = [("etc/containerd/config.toml", main), ("etc/containerd/conf.d/urunc.toml", RUNTIME)];
        row(host(&files, &["usr/bin/containerd"], &[]).path(), "containerd")
    };
    let has = "containerd ok /usr/bin/containerd; /etc/containerd/conf.d/urunc.toml has the runtime";
    assert_eq!(told("imports = [\"conf.d/*.toml\"]\n"), has);
    assert_eq!(told("imports = [\"/etc/containerd/conf.d/urunc.toml\"]\n"), has);
    let alone = "containerd note /usr/bin/containerd; /etc/containerd/conf.d/urunc.toml has the runtime, \
                 but /etc/containerd/config.toml does not import it";
    assert!(told("version = 3\n").starts_with(alone), "{}", told("version = 3\n"));
    let off = "disabled_plugins = [\"cri\"]\n";
    let both = told(off);
    let disabled = "its CRI plug-in is disabled in /etc/containerd/config.toml";
    assert!(both.starts_with(alone) && both.contains(disabled), "{both}");
    let imported = told(&format!("{off}imports = [\"/etc/containerd/conf.d/*.toml\"]\n"));
    assert!(imported.starts_with("containerd note") && imported.contains(disabled), "{imported}");
    // A comment, or another key, is no runtime.
    assert!(told("# io.containerd.urunc.v2\n").starts_with("containerd note"));
    let broken = told("imports = [\n");
    let wanted = "containerd MISSING /usr/bin/containerd; /etc/containerd/config.toml is not TOML";
    assert!(broken.starts_with(wanted), "{broken}");
}

/// A process without a terminal cannot open /dev/tty, as nobody can open a node without a driver: ENXIO.
#[test]
fn a_kvm_that_cannot_be_opened_is_not_usable() {
    let host = host(&[("proc/cpuinfo", "flags : vmx\n")], &[], &[("dev/kvm", "/dev/tty")]);
    for (accel, state, so) in [("auto", "note", "TCG is used"), ("kvm", "MISSING", "runtime.accel is kvm")] {
        let mut command = std::process::Command::new("setsid");
        command.arg("--wait").arg(env!("CARGO_BIN_EXE_urunc")).args(["doctor", "--sysroot"]).arg(host.path());
        let (_, stdout, stderr) = run(command.env("URUNC_ACCEL", accel).env_remove("URUNC_CONFIG_FILE"));
        let table = String::from_utf8(stdout).unwrap();
        let line = table.lines().find(|line| line.starts_with("kvm ")).unwrap_or(&stderr);
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        let wanted =
            format!("kvm {state} /dev/kvm is there, but cannot be opened: No such device or address");
        assert!(line.starts_with(&wanted) && line.ends_with(so), "{line}");
    }
}
