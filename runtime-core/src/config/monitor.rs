//! What is configured of a monitor: where its program and its firmware are, what it needs, what its guests get.

use std::{
    env,
    path::{Path, PathBuf},
};

use vmm_api::Monitor;

use super::{Config, key::MONITORS};
use crate::Error;

impl Config {
    /// The folders of monitors that the operator put elsewhere than below `/usr`: the private root has to show them.
    pub fn monitor_folders<'a>(&self, monitors: impl Iterator<Item = &'a dyn Monitor>) -> Vec<PathBuf> {
        let folders = |m: &'a dyn Monitor| {
            let program = self.program(m).and_then(|program| Some(program.parent()?.to_owned()));
            program.into_iter().chain(self.data_path(m))
        };
        let shown = ["/usr", "/bin", "/sbin", "/lib", "/lib64"];
        let mut folders: Vec<PathBuf> = monitors.flat_map(folders).collect();
        folders.retain(|f| f.is_absolute() && f != Path::new("/") && !shown.iter().any(|s| f.starts_with(s)));
        folders.dedup();
        folders
    }

    /// Finds the program of a monitor: the configured path, else PATH.
    pub fn find_monitor(&self, monitor: &dyn Monitor) -> Result<PathBuf, Error> {
        let program = match self.program(monitor) {
            Some(path) if is_executable(&path) => Some(path),
            Some(path) => {
                return Err(Error::Unmet {
                    field: format!("{MONITORS}{}.path", monitor.name()),
                    value: path.to_string_lossy().into_owned(),
                    problem: format!(
                        "is not the path of a program ({})",
                        self.get(&name(monitor, "path")).origin
                    ),
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

    /// Where a monitor's firmware is, if the operator says so.
    pub fn data_path(&self, monitor: &dyn Monitor) -> Option<PathBuf> {
        Some(self.text(&name(monitor, "data_path"))).filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    /// What a monitor needs beside guest RAM, in MiB.
    pub fn overhead_mib(&self, monitor: &dyn Monitor) -> u64 {
        self.number(&name(monitor, "overhead_mb")).unwrap_or_else(|| monitor.overhead_mib())
    }

    /// Guest RAM where no limit is given, in MiB.
    pub fn default_memory_mib(&self, monitor: &dyn Monitor) -> u64 {
        self.number(&name(monitor, "default_memory_mb")).unwrap_or(super::DEFAULT_MEMORY_MIB)
    }

    /// vCPUs where no CPU quota is given.
    pub fn default_vcpus(&self, monitor: &dyn Monitor) -> u32 {
        self.number(&name(monitor, "default_vcpus")).and_then(|n| u32::try_from(n).ok()).unwrap_or(1)
    }

    fn program(&self, monitor: &dyn Monitor) -> Option<PathBuf> {
        Some(self.text(&name(monitor, "path"))).filter(|path| !path.is_empty()).map(PathBuf::from)
    }
}

fn name(monitor: &dyn Monitor, key: &str) -> String {
    format!("{MONITORS}{}.{key}", monitor.name())
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}
