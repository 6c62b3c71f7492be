//! The operator's configuration. For now it comes from the environment that containerd gives to its shims; a later
//! issue brings `/etc/urunc/config.toml`.
//!
//! | variable | default | meaning |
//! | --- | --- | --- |
//! | `URUNC_ROOT` | `/run/urunc` | where the records are |
//! | `URUNC_ACCEL` | `auto` | `auto`, `kvm` or `tcg` |
//! | `URUNC_QEMU` | looked up in `PATH` | absolute path of the QEMU binary |
//! | `URUNC_LOG` | `info` | `error`, `warn`, `info`, `debug` or `trace` |

use std::{
    env,
    path::{Path, PathBuf},
};

use vmm_api::{Accel, Monitor};

use crate::Error;

/// Where the records are unless `URUNC_ROOT` says otherwise.
pub const DEFAULT_ROOT: &str = "/run/urunc";
/// Guest RAM where no limit is given, in MiB.
pub const DEFAULT_MEMORY_MIB: u64 = 256;

/// What the operator decided.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the records are.
    pub root: PathBuf,
    /// Which accelerator to use.
    pub accel: Accel,
}

impl Config {
    /// Reads the environment.
    pub fn from_env() -> Result<Self, Error> {
        let root =
            env::var_os("URUNC_ROOT").filter(|v| !v.is_empty()).map_or(DEFAULT_ROOT.into(), PathBuf::from);
        if !root.is_absolute() {
            return Err(invalid(
                "URUNC_ROOT",
                &root.to_string_lossy(),
                "is not absolute",
                "give an absolute path",
            ));
        }
        let accel = match env::var("URUNC_ACCEL").as_deref() {
            Err(_) | Ok("" | "auto") => Accel::Auto,
            Ok("kvm") => Accel::Kvm,
            Ok("tcg") => Accel::Tcg,
            Ok(other) => return Err(invalid("URUNC_ACCEL", other, "is unknown", "use auto, kvm or tcg")),
        };
        Ok(Self { root, accel })
    }

    /// The folders of monitors that the operator put elsewhere than below `/usr`: the private root has to show them.
    pub fn monitor_folders<'a>(&self, monitors: impl Iterator<Item = &'a dyn Monitor>) -> Vec<PathBuf> {
        let folder = |m| Some(configured(m)?.parent()?.to_owned());
        let shown = ["/usr", "/bin", "/sbin", "/lib", "/lib64"];
        let mut folders: Vec<PathBuf> = monitors.filter_map(folder).collect();
        folders.retain(|f| f.is_absolute() && f != Path::new("/") && !shown.iter().any(|s| f.starts_with(s)));
        folders.dedup();
        folders
    }

    /// Finds the program of a monitor: the configured path, else PATH.
    pub fn find_monitor(&self, monitor: &dyn Monitor) -> Result<PathBuf, Error> {
        let program = match configured(monitor) {
            Some(path) if path.is_absolute() && is_executable(&path) => Some(path),
            Some(path) => {
                return Err(Error::Unmet {
                    field: variable(monitor),
                    value: path.to_string_lossy().into_owned(),
                    problem: "is not the absolute path of a program".to_owned(),
                    remedy: format!("name {} or leave it unset", monitor.program()),
                });
            }
            None => env::split_paths(&env::var_os("PATH").unwrap_or_default())
                .filter(|dir| dir.is_absolute())
                .map(|dir| dir.join(monitor.program()))
                .find(|p| is_executable(p)),
        };
        program.ok_or_else(|| Error::Unmet {
            field: crate::contract::HYPERVISOR.to_owned(),
            value: monitor.name().to_owned(),
            problem: format!("needs {}, which is not installed here", monitor.program()),
            remedy: monitor.remedy().to_owned(),
        })
    }
}

/// The environment variable that names a monitor's program.
fn variable(monitor: &dyn Monitor) -> String {
    format!("URUNC_{}", monitor.name().to_uppercase().replace('-', "_"))
}

fn configured(monitor: &dyn Monitor) -> Option<PathBuf> {
    env::var_os(variable(monitor)).filter(|v| !v.is_empty()).map(PathBuf::from)
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn invalid(field: &str, value: &str, problem: &str, remedy: &str) -> Error {
    Error::Invalid {
        field: field.to_owned(),
        value: value.to_owned(),
        problem: problem.to_owned(),
        remedy: remedy.to_owned(),
    }
}
