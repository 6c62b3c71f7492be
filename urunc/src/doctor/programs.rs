//! What is installed and configured.

use std::{
    fs,
    io::{ErrorKind, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use proc_id::Process;
use runtime_core::config::{Config, Setting, Value};
use rustix::process::Signal;

use super::{Host, Row};
use crate::output::describe;

/// How long a program may take to tell its version.
const VERSION_WAIT: Duration = Duration::from_secs(5);
/// Where containerd looks for its shims.
const FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
const SHIM: &str = "containerd-shim-urunc-v2";

/// The monitors that are built in: one of them is needed.
pub fn monitors(host: &Host<'_>, config: Option<&Config>) -> Vec<Row> {
    let mut rows = Vec::new();
    for monitor in vmm_backends::monitors() {
        let key = format!("monitors.{}.path", monitor.name());
        let path = match config.map(|c| c.get(&key)) {
            Some(Setting { value: Value::Text(path), origin }) if !path.is_empty() => {
                let path = PathBuf::from(path);
                if let Some(problem) = no_program(&host.path(&path)) {
                    let found = format!("{key}: {path:?} {problem} ({origin})");
                    let remedy = format!("name {} in {key}, or leave it unset", monitor.program());
                    rows.push(Row::missing(monitor.name(), found, remedy));
                    continue;
                }
                Some(path)
            }
            _ => installed(host, monitor.program()),
        };
        rows.push(match path {
            Some(path) => Row::ok(monitor.name(), format!("{}{}", path.display(), version(host, &path))),
            None => Row::missing(
                monitor.name(),
                format!("{} is not installed", monitor.program()),
                monitor.remedy(),
            ),
        });
    }
    rows
}

/// What runs ordinary containers.
pub fn oci(host: &Host<'_>, config: Option<&Config>) -> Row {
    const CHECK: &str = "oci";
    let lacking = "ordinary containers, such as sidecars, do not run";
    let named = config.and_then(Config::oci_runtime);
    if let Some(path) = &named
        && let Some(problem) = no_program(&host.path(path))
    {
        let found = format!("oci.runtime: {path:?} {problem}: {lacking}");
        return Row::note(CHECK, found, "name runc or crun in oci.runtime, or leave it unset");
    }
    let found = || ["runc", "crun"].into_iter().find_map(|name| installed(host, name));
    let Some(path) = named.or_else(found) else {
        let found = format!("neither runc nor crun in {}: {lacking}", FOLDERS.join(", "));
        return Row::note(CHECK, found, "apt-get install runc, or crun");
    };
    if !host.is_ours() {
        return Row::ok(CHECK, path.display().to_string());
    }
    match oci_runtime::probe(&path, Instant::now() + VERSION_WAIT) {
        Ok(v) => Row::ok(CHECK, format!("{} ({} {}, spec {})", path.display(), v.name, v.version, v.spec)),
        Err(e) => Row::note(
            CHECK,
            format!("{e}: {lacking}"),
            "apt-get install runc, or name another in oci.runtime",
        ),
    }
}

/// The shim, where containerd finds it.
pub fn shim(host: &Host<'_>) -> Row {
    match installed(host, SHIM) {
        Some(path) => Row::ok("shim", format!("{}{}", path.display(), version(host, &path))),
        None => Row::missing(
            "shim",
            format!("{SHIM} is in none of {}", FOLDERS.join(", ")),
            "make install, or give containerd the whole path as the runtime",
        ),
    }
}

/// The network of pods.
pub fn cni(host: &Host<'_>) -> Row {
    let is_list = |path: &PathBuf| {
        path.extension().is_some_and(|e| ["conf", "conflist", "json"].iter().any(|known| e == *known))
    };
    let entries = |folder: &str| {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(host.path(folder)).into_iter().flatten().flatten().map(|e| e.path()).collect();
        paths.sort();
        paths
    };
    let list = entries("/etc/cni/net.d").into_iter().find(is_list);
    let plugins = ["/opt/cni/bin", "/usr/lib/cni"].into_iter().find(|folder| !entries(folder).is_empty());
    let remedy = "install your cluster's network, or apt-get install containernetworking-plugins";
    match (list, plugins) {
        (Some(list), Some(folder)) => {
            let name = list.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Row::ok("cni", format!("/etc/cni/net.d/{name}, plug-ins in {folder}"))
        }
        (list, plugins) => {
            let mut lacks = Vec::new();
            if list.is_none() {
                lacks.push("no configuration in /etc/cni/net.d");
            }
            if plugins.is_none() {
                lacks.push("no plug-ins in /opt/cni/bin");
            }
            Row::note("cni", format!("{}: pods get no network", lacks.join(", ")), remedy)
        }
    }
}

pub(super) fn installed(host: &Host<'_>, name: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| is_program(&host.path(path)))
}

fn is_program(path: &Path) -> bool {
    no_program(path).is_none()
}

/// Why a file is no program; nothing: it is one.
fn no_program(path: &Path) -> Option<String> {
    match path.metadata() {
        Err(e) if e.kind() == ErrorKind::NotFound => Some("is not there".to_owned()),
        Err(e) => Some(format!("cannot be looked at: {e}")),
        Ok(m) if !m.is_file() => Some(format!("is {}, no program", describe(m.file_type()))),
        Ok(m) if m.permissions().mode() & 0o111 == 0 => Some("is not executable".to_owned()),
        Ok(_) => None,
    }
}

/// The first line that a program says of its version, in brackets.
pub(super) fn version(host: &Host<'_>, program: &Path) -> String {
    if !host.is_ours() {
        return String::new();
    }
    let flag = if program.ends_with(SHIM) { "-v" } else { "--version" };
    match first_line(program, flag) {
        Some(line) => format!(" ({line})"),
        None => " (does not tell its version)".to_owned(),
    }
}

fn first_line(program: &Path, flag: &str) -> Option<String> {
    let mut child = Command::new(program)
        .arg(flag)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let process = Process::of_child(child.id()).ok();
    let ended = process.as_ref().is_some_and(|process| process.wait(Some(VERSION_WAIT)).unwrap_or(false));
    if !ended {
        process.map(|process| process.signal(Signal::KILL));
    }
    let mut text = String::new();
    if let (true, Some(stdout)) = (ended, child.stdout.take()) {
        stdout.take(4096).read_to_string(&mut text).ok();
    }
    child.wait().ok();
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}
