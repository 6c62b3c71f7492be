//! The operator's configuration: `/etc/urunc/config.toml`, variables of the environment that containerd gives to its
//! shims, and the options of a containerd runtime, each winning over those before it.
//!
//! | key | variable | default | meaning |
//! | --- | --- | --- | --- |
//! | `runtime.root` | `URUNC_ROOT` | `/run/urunc` | where the records are |
//! | `runtime.accel` | `URUNC_ACCEL` | `auto` | `auto`, `kvm` or `tcg` |
//! | `runtime.grace_seconds` | | 0 | how long a guest may take after its power button until it is killed; 0: for ever |
//! | `oci.runtime` | `URUNC_OCI_RUNTIME` | `runc` or `crun` in `PATH` | absolute path of the OCI runtime for ordinary containers |
//! | `log.level` | `URUNC_LOG` | `info` | `off`, `error`, `warn`, `info`, `debug` or `trace` |
//! | `monitors.qemu.path` | `URUNC_QEMU` | looked up in `PATH` | absolute path of the QEMU binary |
//! | `monitors.qemu.data_path` | | QEMU's own | where its firmware is (`-L`) |
//! | `monitors.qemu.default_memory_mb` | | 256 | guest RAM where no limit is given, MiB |
//! | `monitors.qemu.default_vcpus` | | 1 | vCPUs where no CPU quota is given |
//! | `monitors.qemu.overhead_mb` | | QEMU's own | what the monitor needs beside guest RAM, MiB |
//!
//! The rest is in [`key::KEYS`]. A file that is not there asks for nothing, unless `URUNC_CONFIG_FILE` names it; what
//! cannot be understood is an error with place, line and key, and never half obeyed: a container would run otherwise
//! than its operator believes. Only [`Config::root`] looks past what is wrong with other keys, for clean-up must go on.
//!
//! Root and log level are the daemon's: of a container's options only Create knows, and `delete`, `start` and `gc`
//! have to find the records. So options may repeat them (a path to the very same file does), but not change them.

mod file;
mod key;
mod monitor;
mod options;
#[cfg(test)]
mod tests;
mod value;

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use vmm_api::Accel;

pub use key::{KEYS, Key};
pub use options::Options;
pub use value::{Origin, Value};

use crate::Error;
use file::{Said, Source};

/// Where the configuration is unless [`FILE_VARIABLE`] says otherwise.
pub const FILE: &str = "/etc/urunc/config.toml";
/// The variable that names another file.
pub const FILE_VARIABLE: &str = "URUNC_CONFIG_FILE";

/// Guest RAM where nothing is said, in MiB.
const DEFAULT_MEMORY_MIB: u64 = 256;

/// What the operator decided.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the records are.
    pub root: PathBuf,
    /// Which accelerator to use.
    pub accel: Accel,
    /// How long a guest may take after its power button until it is killed; `None`: as long as it likes.
    pub grace: Option<Duration>,
    settings: BTreeMap<&'static str, Setting>,
    unused: Vec<(String, Setting)>,
}

/// A key's value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The value.
    pub value: Value,
    /// Who said so.
    pub origin: Origin,
}

/// The environment, as far as it is looked at.
type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl Config {
    /// Reads the file and the environment.
    pub fn load() -> Result<Self, Error> {
        Self::load_below(Path::new("/"))
    }

    /// Reads the file of another root directory, as a debug pod sees its node's, and the environment.
    pub fn load_below(root: &Path) -> Result<Self, Error> {
        Self::from(root, &|name| env::var_os(name), &mut Err)
    }

    /// Where the records are, whatever is wrong with keys that do not say it.
    pub fn root() -> Result<PathBuf, Error> {
        let mut forgive = |e: Error| match &e {
            Error::Config { key, .. } if key == "runtime.root" => Err(e),
            _ => Ok(()),
        };
        Ok(Self::from(Path::new("/"), &|name| env::var_os(name), &mut forgive)?.root)
    }

    fn from(
        root: &Path,
        env: Environment<'_>,
        wrong: &mut dyn FnMut(Error) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let mut config = Self::default();
        let (path, named) = path(env)?;
        let path = root.join(path.strip_prefix("/").unwrap_or(&path));
        match file::read(&path)? {
            Some(text) => {
                let said = file::parse(Source::File(&path), &text, wrong)?;
                config.take(said);
            }
            None if named => return Err(missing(FILE_VARIABLE, &path)),
            None => {}
        }
        config.take_environment(env, wrong)?;
        config.settle();
        Ok(config)
    }

    /// With what containerd's runtime options say of one container on top.
    pub fn with(&self, options: &Options) -> Result<Self, Error> {
        let said = match options {
            Options::Path(path) if !path.is_absolute() => {
                return Err(Error::Config {
                    place: "runtime options".to_owned(),
                    key: "ConfigPath".to_owned(),
                    problem: format!("{path:?} is not absolute; give an absolute path"),
                });
            }
            Options::Path(path) => {
                let unreadable = |e: Error| Error::Config {
                    place: "runtime options".to_owned(),
                    key: "ConfigPath".to_owned(),
                    problem: e.chain(),
                };
                let text = file::read(path)
                    .map_err(unreadable)?
                    .ok_or_else(|| missing("runtime options: ConfigPath", path))?;
                file::parse(Source::File(path), &text, &mut Err)?
            }
            Options::Body(text) => file::parse(Source::Options, text, &mut Err)?,
        };
        for of_daemon in said.iter().filter(|said| said.key.of_daemon) {
            let own = self.get(of_daemon.key.name);
            if own.value != of_daemon.value {
                return Err(Error::Config {
                    place: of_daemon.origin.to_string(),
                    key: of_daemon.name.clone(),
                    problem: format!(
                        "the runtime options say {}, but the shim has {} ({}), and of a container's options only its Create knows; set it in {FILE}, or in the environment",
                        of_daemon.value, own.value, own.origin
                    ),
                });
            }
        }
        let mut config = self.clone();
        config.take(said);
        config.settle();
        Ok(config)
    }

    /// Of one key.
    pub fn get(&self, name: &str) -> Setting {
        let default = || Setting {
            value: key::find(name).map_or(Value::Text(String::new()), |(key, _)| key.default()),
            origin: Origin::Default,
        };
        self.settings.get(name).cloned().unwrap_or_else(default)
    }

    /// What was read and nobody looks at: keys of monitors that are not built here, and of what is off.
    pub fn unused(&self) -> &[(String, Setting)] {
        &self.unused
    }

    fn default() -> Self {
        let (settings, unused) = (BTreeMap::new(), Vec::new());
        let mut config = Self { root: PathBuf::new(), accel: Accel::Auto, grace: None, settings, unused };
        config.settle();
        config
    }

    fn take(&mut self, said: Vec<Said>) {
        for Said { key, name, value, origin, used } in said {
            let setting = Setting { value, origin };
            if used {
                self.settings.insert(key.name, setting);
            } else {
                self.unused.push((name, setting));
            }
        }
    }

    fn take_environment(
        &mut self,
        env: Environment<'_>,
        wrong: &mut dyn FnMut(Error) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for key in &KEYS {
            let Some(variable) = key.variable else { continue };
            let Some(text) = env(variable).filter(|text| !text.is_empty()) else { continue };
            let value = match text.into_string() {
                Ok(text) => Value::Text(text),
                Err(text) => Value::Other("the bytes", format!("{text:?}")),
            };
            match key.check(value) {
                Ok(value) => {
                    let origin = Origin::Environment(variable);
                    self.settings.insert(key.name, Setting { value, origin });
                }
                Err(problem) => wrong(Error::Config {
                    place: "environment".to_owned(),
                    key: variable.to_owned(),
                    problem,
                })?,
            }
        }
        Ok(())
    }

    /// The fields, from the settings.
    fn settle(&mut self) {
        self.root = self.text("runtime.root").into();
        self.accel = match self.text("runtime.accel").as_str() {
            "kvm" => Accel::Kvm,
            "tcg" => Accel::Tcg,
            _ => Accel::Auto,
        };
        self.grace = self.number("runtime.grace_seconds").map(Duration::from_secs);
    }

    /// The OCI runtime, if the operator names one.
    pub fn oci_runtime(&self) -> Option<PathBuf> {
        Some(self.text("oci.runtime")).filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    /// The log level's name.
    pub fn log_level(&self) -> String {
        self.text("log.level")
    }

    fn text(&self, name: &str) -> String {
        match self.get(name).value {
            Value::Text(text) => text,
            _ => String::new(),
        }
    }

    /// A number, if it is given and not 0.
    fn number(&self, name: &str) -> Option<u64> {
        match self.get(name).value {
            Value::Number(number) => Some(number).filter(|n| *n > 0),
            _ => None,
        }
    }
}

/// The file, and whether somebody named it.
fn path(env: Environment<'_>) -> Result<(PathBuf, bool), Error> {
    match env(FILE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from) {
        None => Ok((FILE.into(), false)),
        Some(path) if path.is_absolute() => Ok((path, true)),
        Some(path) => Err(Error::Config {
            place: "environment".to_owned(),
            key: FILE_VARIABLE.to_owned(),
            problem: format!("{path:?} is not absolute; give an absolute path"),
        }),
    }
}

fn missing(who: &str, path: &Path) -> Error {
    Error::Config {
        place: who.to_owned(),
        key: String::new(),
        problem: format!("{} is not there; make it, or name another file", path.display()),
    }
}
