//! The image contract: `com.urunc.unikernel.*`, from annotations and from `urunc.json` at the image's root, merged
//! per key, annotations win. Values are plain or base64.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use vmm_api::GuestKind;

use crate::Error;

/// What every key begins with.
pub const PREFIX: &str = "com.urunc.unikernel.";
/// The kind of guest.
pub const TYPE: &str = "com.urunc.unikernel.unikernelType";
/// The monitor.
pub const HYPERVISOR: &str = "com.urunc.unikernel.hypervisor";
/// The kernel's path in the image.
pub const BINARY: &str = "com.urunc.unikernel.binary";
/// The initrd's path in the image.
pub const INITRD: &str = "com.urunc.unikernel.initrd";
/// The arguments where `process.args` is empty.
pub const CMDLINE: &str = "com.urunc.unikernel.cmdline";
/// The monitor where none is named.
pub const DEFAULT_HYPERVISOR: &str = "qemu";

/// Keys whose use is not built yet, and the values that ask for nothing.
const NOT_YET: [(&str, &[&str]); 4] = [
    ("com.urunc.unikernel.block", &[]),
    ("com.urunc.unikernel.blkMntPoint", &[]),
    ("com.urunc.unikernel.useDMBlock", &["false", "0"]),
    ("com.urunc.unikernel.mountRootfs", &["false", "0"]),
];

/// The keys that were given, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys(BTreeMap<String, String>);

impl Keys {
    /// The contract's keys among `pairs`. Empty values count as not given.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let given = pairs.into_iter().filter(|(k, v)| k.starts_with(PREFIX) && !v.is_empty());
        Self(given.map(|(k, v)| (k.clone(), decode(k, v))).collect())
    }

    /// Fills in what is missing from `image`.
    pub fn or(mut self, image: Self) -> Self {
        for (key, value) in image.0 {
            self.0.entry(key).or_insert(value);
        }
        self
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether nothing was given at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of one key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Refuses what can be seen to be wrong without the image and without knowing whether all keys are here.
    pub fn check(&self) -> Result<(), Error> {
        for (key, value) in &self.0 {
            if value.contains(['\0', '\n']) {
                return Err(invalid(
                    key,
                    value,
                    "holds a NUL or a newline",
                    "give a plain or base64 text without",
                ));
            }
        }
        for (key, harmless) in NOT_YET {
            if let Some(value) = self.get(key)
                && !harmless.contains(&value)
            {
                return Err(Error::Unsupported {
                    feature: format!("{key}: {value:?}"),
                    remedy: "leave the annotation out; the guest's files come from kernel and initrd",
                });
            }
        }
        self.kind()?;
        self.path(BINARY)?;
        self.path(INITRD)?;
        if self.kind()? == Some(GuestKind::Unikraft)
            && let Some(initrd) = self.get(INITRD)
        {
            return Err(invalid(INITRD, initrd, "is not supported for a unikraft guest", "leave it out"));
        }
        Ok(())
    }

    /// The kind of guest, if it is given.
    pub fn kind(&self) -> Result<Option<GuestKind>, Error> {
        match self.get(TYPE) {
            None => Ok(None),
            Some("linux") => Ok(Some(GuestKind::Linux)),
            Some("unikraft") => Ok(Some(GuestKind::Unikraft)),
            Some(other) => Err(invalid(TYPE, other, "is not a known kind of guest", "use linux or unikraft")),
        }
    }

    /// A path in the image, if it is given: it may be relative to the image's root, but not leave it.
    pub fn path(&self, key: &str) -> Result<Option<&str>, Error> {
        let Some(path) = self.get(key) else { return Ok(None) };
        let mut depth = 0i32;
        for part in path.split('/') {
            depth += match part {
                "" | "." => 0,
                ".." => -1,
                _ => 1,
            };
            if depth < 0 {
                return Err(invalid(key, path, "leaves the image", "give a path below the image's root"));
            }
        }
        if depth == 0 {
            return Err(invalid(key, path, "names no file", "give the path of a file in the image"));
        }
        Ok(Some(path))
    }

    /// The value of a key without which nothing can run.
    pub fn required(&self, key: &str) -> Result<&str, Error> {
        self.get(key).ok_or_else(|| {
            invalid(key, "", "is missing", "set it as an annotation or in urunc.json at the image's root")
        })
    }
}

/// Values are plain or base64 (the Go urunc of 2025 took base64 alone, that of 2026 takes annotations plain). A value
/// is base64 if it is canonical base64 of a text; plain words hardly ever are: decoded they are no UTF-8. Paths with a
/// leading slash never are.
fn decode(key: &str, value: &str) -> String {
    let known: &[&str] = match key {
        TYPE => &["linux", "unikraft"],
        HYPERVISOR => &["qemu", "firecracker", "cloud-hypervisor", "hvt", "spt"],
        _ => &["true", "false"],
    };
    if known.contains(&value) {
        return value.to_owned();
    }
    match STANDARD.decode(value).map(String::from_utf8) {
        Ok(Ok(text)) if !text.is_empty() && !text.chars().any(|c| c.is_control() && c != '\n') => text,
        _ => value.to_owned(),
    }
}

pub fn invalid(field: &str, value: &str, problem: &str, remedy: &str) -> Error {
    Error::Invalid {
        field: field.to_owned(),
        value: value.to_owned(),
        problem: problem.to_owned(),
        remedy: remedy.to_owned(),
    }
}

/// Of an id, and of what becomes a name as an id does.
pub fn invalid_name(field: &str, value: &str) -> Error {
    let right = "use letters, digits, '.', '_' and '-', at most 255, a letter or digit first";
    invalid(field, value, "is not valid", right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn keys(pairs: &[(&str, &str)]) -> Keys {
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (format!("{PREFIX}{k}"), (*v).to_owned())).collect();
        Keys::from_pairs(pairs.iter().map(|(k, v)| (k, v)))
    }

    #[test]
    fn values_are_plain_or_base64() {
        for text in
            ["linux", "unikraft", "qemu", "/unikernel/kernel", "unikernel/kernel", "boot/vmlinuz", "kernel"]
        {
            assert_eq!(decode(BINARY, text), text);
            assert_eq!(decode(BINARY, &STANDARD.encode(text)), text);
            assert_eq!(decode(TYPE, &STANDARD.encode(text)), text);
        }
    }

    #[test]
    fn annotations_win_key_by_key() {
        let merged = keys(&[("hypervisor", "spt")]).or(keys(&[("hypervisor", "qemu"), ("binary", "/k")]));
        assert_eq!(merged.get(HYPERVISOR), Some("spt"));
        assert_eq!(merged.get(BINARY), Some("/k"));
    }

    #[test]
    fn what_is_wrong_is_refused_by_name() {
        for (pairs, kind, part) in [
            (&[("unikernelType", "rumprun")][..], Kind::InvalidArgument, "unikernelType"),
            (&[("binary", "../../etc/passwd")], Kind::InvalidArgument, "leaves the image"),
            (&[("binary", "/a/../../b")], Kind::InvalidArgument, "leaves the image"),
            (&[("initrd", "/")], Kind::InvalidArgument, "names no file"),
            (&[("binary", "a\nb")], Kind::InvalidArgument, "newline"),
            (&[("block", "/disk")], Kind::Unimplemented, "block"),
            (&[("mountRootfs", "true")], Kind::Unimplemented, "mountRootfs"),
            (&[("unikernelType", "unikraft"), ("initrd", "/i")], Kind::InvalidArgument, "initrd"),
        ] {
            let error = keys(pairs).check().unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
        let missing = keys(&[]).required(BINARY).unwrap_err().to_string();
        assert!(missing.starts_with(&format!("{BINARY}: is missing; set it")), "{missing}");
        keys(&[("unikernelType", "linux"), ("binary", "/a/../b"), ("mountRootfs", "false")]).check().unwrap();
    }
}
