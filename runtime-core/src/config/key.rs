//! The keys of the configuration, as one table: what each takes, what it is without a word, and which variable of the
//! environment says the same. Pure.
//!
//! The names are those of the Go urunc's file where it has the key. A key of a monitor that is not built here, or of
//! something that asks for nothing while it is off, is checked and then not used, so that one file serves both.

use super::value::Value;

/// The monitors that have a table of their own, beside those that are built in.
const OTHERS: [&str; 4] = ["firecracker", "hvt", "spt", "cloud-hypervisor"];
/// What the names of a monitor's keys begin with.
pub(super) const MONITORS: &str = "monitors.";

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its full name: `table.key`.
    pub name: &'static str,
    /// What it takes.
    pub takes: Takes,
    /// What it is unless somebody says otherwise.
    pub default: Default,
    /// The variable of the environment that says the same.
    pub variable: Option<&'static str>,
    /// Whether it is the daemon's, so that no container's options can change it.
    pub of_daemon: bool,
}

/// What a key takes.
#[derive(Debug)]
pub enum Takes {
    /// An absolute path, or nothing.
    Path,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number from 0 to this.
    Number(u64),
    /// Any text; it is read and not used.
    Text,
    /// `false`. `true` asks for what is not there.
    Off,
}

/// What a key is without a word.
#[derive(Clone, Copy, Debug)]
pub enum Default {
    /// This text.
    Text(&'static str),
    /// This number.
    Number(u64),
    /// Nothing.
    Nothing,
    /// `false`.
    Off,
}

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

const fn key(name: &'static str, takes: Takes, default: Default) -> Key {
    Key { name, takes, default, variable: None, of_daemon: false }
}

/// All keys, in the order in which they are shown.
pub static KEYS: [Key; 19] = [
    Key {
        variable: Some("URUNC_ROOT"),
        of_daemon: true,
        ..key("runtime.root", Takes::Path, Default::Text("/run/urunc"))
    },
    Key {
        variable: Some("URUNC_ACCEL"),
        ..key("runtime.accel", Takes::Word(&["auto", "kvm", "tcg"]), Default::Text("auto"))
    },
    // A day: more is a mistake.
    key("runtime.grace_seconds", Takes::Number(86_400), Default::Number(0)),
    key("runtime.libcontainer", Takes::Off, Default::Off),
    key("runtime.vAccel", Takes::Off, Default::Off),
    Key { variable: Some("URUNC_OCI_RUNTIME"), ..key("oci.runtime", Takes::Path, Default::Nothing) },
    Key {
        variable: Some("URUNC_LOG"),
        of_daemon: true,
        ..key("log.level", Takes::Word(LEVELS), Default::Text("info"))
    },
    key("log.syslog", Takes::Off, Default::Off),
    key("timestamps.enabled", Takes::Off, Default::Off),
    key("timestamps.destination", Takes::Text, Default::Nothing),
    key("monitors.qemu.default_memory_mb", Takes::Number(1 << 24), Default::Number(256)),
    key("monitors.qemu.default_vcpus", Takes::Number(255), Default::Number(1)),
    // Without a word it is the monitor's own.
    key("monitors.qemu.overhead_mb", Takes::Number(1 << 20), Default::Nothing),
    Key { variable: Some("URUNC_QEMU"), ..key("monitors.qemu.path", Takes::Path, Default::Nothing) },
    key("monitors.qemu.data_path", Takes::Path, Default::Nothing),
    key("monitors.qemu.vhost", Takes::Off, Default::Off),
    key("extra_binaries.virtiofsd.path", Takes::Text, Default::Nothing),
    key("extra_binaries.virtiofsd.options", Takes::Text, Default::Nothing),
    key("rootfs_view.enabled", Takes::Off, Default::Off),
];

/// The key of that name, and whether it is used: those of monitors that are not built here are not.
pub(super) fn find(name: &str) -> Option<(&'static Key, bool)> {
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return Some((key, key.is_used()));
    }
    let (monitor, rest) = name.strip_prefix(MONITORS)?.split_once('.')?;
    let like = format!("{MONITORS}qemu.{rest}");
    let key = KEYS.iter().find(|key| key.name == like)?;
    OTHERS.contains(&monitor).then_some((key, false))
}

/// Whether `name` is a table that keys are in.
pub(super) fn is_table(name: &str) -> bool {
    let inside = |key: &str| key.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
    KEYS.iter().any(|key| inside(key.name))
        || name.strip_prefix(MONITORS).is_some_and(|monitor| OTHERS.contains(&monitor))
}

impl Key {
    /// Whether anybody looks at it.
    pub fn is_used(&self) -> bool {
        !matches!(self.takes, Takes::Text)
    }

    /// What it is without a word.
    pub(super) fn default(&self) -> Value {
        match self.default {
            Default::Text(text) => Value::Text(text.to_owned()),
            Default::Number(number) => Value::Number(number),
            Default::Nothing => Value::Text(String::new()),
            Default::Off => Value::Bool(false),
        }
    }

    /// The value as it is used, or what is wrong with it.
    pub(super) fn check(&self, value: Value) -> Result<Value, String> {
        let wrong = |wanted: &str| Err(format!("{} {value} is given; give {wanted}", value.kind()));
        match (&self.takes, &value) {
            (Takes::Path, Value::Text(path)) if path.is_empty() => Ok(self.default()),
            (Takes::Path, Value::Text(path)) if path.starts_with('/') && !path.contains('\0') => Ok(value),
            (Takes::Path, _) => wrong("an absolute path"),
            (Takes::Word(words), Value::Text(word)) => {
                let word = word.to_lowercase();
                let word = if word == "warning" && words.contains(&"warn") { "warn" } else { &word };
                match words.contains(&word) {
                    true => Ok(Value::Text(word.to_owned())),
                    false => wrong(&words.join(", ")),
                }
            }
            (Takes::Word(words), _) => wrong(&words.join(", ")),
            // As the Go urunc has it: 0 is the default.
            (Takes::Number(_), Value::Number(0)) => Ok(self.default()),
            (Takes::Number(most), Value::Number(number)) if number <= most => Ok(value),
            (Takes::Number(most), _) => wrong(&format!("a whole number from 0 to {most}")),
            (Takes::Text, Value::Text(_)) | (Takes::Off, Value::Bool(false)) => Ok(value),
            (Takes::Text, _) => wrong("a text"),
            (Takes::Off, Value::Bool(true)) => {
                Err("is not supported yet: leave it out, or set it to false".to_owned())
            }
            (Takes::Off, _) => wrong("false"),
        }
    }
}
