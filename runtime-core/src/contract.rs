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

/// What the block device of a guest would be.
const BLOCK: &str = "com.urunc.unikernel.block";
/// Where a guest would mount it.
const BLOCK_MOUNT_POINT: &str = "com.urunc.unikernel.blkMntPoint";
/// Whether the snapshot's device would be that block device.
const USE_DM_BLOCK: &str = "com.urunc.unikernel.useDMBlock";
/// Whether the guest would get the image's root file system.
const MOUNT_ROOTFS: &str = "com.urunc.unikernel.mountRootfs";
/// The unikernel's version, which nothing here depends on.
const VERSION: &str = "com.urunc.unikernel.unikernelVersion";

/// Switches of what is not built yet; off, they ask for nothing.
const SWITCHES: [&str; 2] = [USE_DM_BLOCK, MOUNT_ROOTFS];

/// Keys whose use is not built yet.
const NOT_YET: [&str; 8] = [
    BLOCK,
    BLOCK_MOUNT_POINT,
    "com.urunc.unikernel.solo5NetDev",
    "com.urunc.unikernel.solo5BlkDev",
    "com.urunc.unikernel.vAccel",
    "com.urunc.unikernel.RPCAddress",
    "com.urunc.unikernel.bootKernel",
    "com.urunc.unikernel.bootInitrd",
];
/// Those of them that name something of the host: they never come from an image.
const OF_THE_HOST: [&str; 4] = [
    "com.urunc.unikernel.vAccel",
    "com.urunc.unikernel.RPCAddress",
    "com.urunc.unikernel.bootKernel",
    "com.urunc.unikernel.bootInitrd",
];

/// The keys that are paths in the image.
const PATHS: [&str; 2] = [BINARY, INITRD];

/// The longest value, in bytes, as every urunc takes it.
const MOST_VALUE: usize = 4096;
/// The longest value in base64: beyond, it is not even decoded.
const MOST_GIVEN: usize = MOST_VALUE.div_ceil(3) * 4;

/// The keys that were given, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Keys {
    values: BTreeMap<String, String>,
    /// Of the values that were decoded: as they were given.
    #[serde(skip)]
    given: BTreeMap<String, String>,
}

impl Keys {
    /// The contract's keys among `pairs`. Empty values count as not given.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let mut keys = Self::default();
        for (key, value) in pairs.into_iter().filter(|(k, v)| k.starts_with(PREFIX) && !v.is_empty()) {
            let decoded = if value.len() > MOST_GIVEN { None } else { decode(key, value) };
            if decoded.is_some() {
                keys.given.insert(key.clone(), value.clone());
            }
            keys.values.insert(key.clone(), decoded.unwrap_or_else(|| value.clone()));
        }
        keys
    }

    /// Fills in what is missing from `image`.
    pub fn or(mut self, image: Self) -> Self {
        for (key, value) in image.values {
            if self.values.contains_key(&key) {
                continue;
            }
            self.given.extend(image.given.get_key_value(&key).map(|(k, v)| (k.clone(), v.clone())));
            self.values.insert(key, value);
        }
        self
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether nothing was given at all.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value of one key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// How a value was given that was taken for base64.
    pub fn given(&self, key: &str) -> Option<&str> {
        self.given.get(key).map(String::as_str)
    }

    /// Takes a value that was decoded as it was given: it was no base64 after all.
    pub fn take_as_given(&mut self, key: &str) {
        if let Some(given) = self.given.remove(key) {
            self.values.insert(key.to_owned(), given);
        }
    }

    /// The keys that nobody knows: of a newer contract, or misspelt.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        let own = [TYPE, HYPERVISOR, BINARY, INITRD, CMDLINE, VERSION];
        let is_known =
            move |key: &str| own.contains(&key) || SWITCHES.contains(&key) || NOT_YET.contains(&key);
        self.values.keys().map(String::as_str).filter(move |key| !is_known(key))
    }

    /// Refuses what can be seen to be wrong without the image and without knowing whether all keys are here.
    pub fn check(&self) -> Result<(), Error> {
        for (key, value) in &self.values {
            if value.len() > MOST_VALUE {
                return Err(invalid(
                    key,
                    value,
                    &format!("is {} bytes long", value.len()),
                    &format!("give at most {MOST_VALUE}, before base64"),
                ));
            }
            if value.contains(char::is_control) {
                return Err(invalid(
                    key,
                    value,
                    "holds a NUL, a newline or another control character",
                    "give a plain or base64 text without",
                ));
            }
        }
        for key in NOT_YET {
            if let Some(value) = self.get(key) {
                return Err(unsupported(key, value));
            }
        }
        for key in SWITCHES {
            match self.get(key).map(|value| (value, switch(value))) {
                None | Some((_, Some(false))) => {}
                Some((value, Some(true))) => return Err(unsupported(key, value)),
                Some((value, None)) => return Err(invalid(key, value, "is no switch", "give true or false")),
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

    /// Refuses what an image may not ask for, on top of that.
    pub fn check_image(&self) -> Result<(), Error> {
        match OF_THE_HOST.into_iter().find_map(|key| Some((key, self.get(key)?))) {
            Some((key, value)) => Err(invalid(
                key,
                value,
                "is given by the image, but names something of the host",
                "leave it out of the image",
            )),
            None => self.check(),
        }
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

/// A switch, as Go's ParseBool reads it.
fn switch(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn unsupported(key: &str, value: &str) -> Error {
    Error::Unsupported {
        feature: format!("{key}: {}", shown(value)),
        remedy: "leave it out; the guest's files come from kernel and initrd",
    }
}

/// Values are plain or base64 (the Go urunc of 2025 took base64 alone, that of 2026 takes annotations plain). A value
/// is base64 if it is canonical base64 of a text that such a value may be. Plain words hardly ever are: decoded they
/// are no UTF-8, or of characters that no path has. Paths with a leading slash are, at 4, 8 or more letters, but what
/// they decode to is no text. `None`: it is plain.
fn decode(key: &str, value: &str) -> Option<String> {
    let known: &[&str] = match key {
        TYPE => &["linux", "unikraft"],
        HYPERVISOR => &["qemu", "firecracker", "cloud-hypervisor", "hvt", "spt"],
        _ => &["true", "false"],
    };
    if known.contains(&value) {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    let is_path = PATHS.contains(&key);
    // Long or padded ones cannot be so by chance; what is wrong in them is told by `check`.
    let is_sure = value.len() >= 16 || value.ends_with('=');
    let plausible =
        |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c) || (!is_path && " =,:@".contains(c));
    let is_text = !text.is_empty() && (is_sure || text.chars().all(plausible));
    is_text.then_some(text)
}

/// A value as it is shown in a sentence: the beginning of one that is long.
pub fn shown(value: &str) -> String {
    const SHOWN: usize = 80;
    match value.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}... ({} bytes)", &value[..end], value.len()),
        None => format!("{value:?}"),
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
            assert_eq!(decode(BINARY, text), None, "{text}");
            assert_eq!(decode(BINARY, &STANDARD.encode(text)).as_deref(), Some(text));
            assert_eq!(decode(TYPE, &STANDARD.encode(text)).as_deref(), Some(text));
        }
        // What four letters decode to may be printable, but it is no path.
        for plain in ["disk", "abcd", "boot", "vmlinuz1", "image123", "a/b/c/d/"] {
            assert_eq!(decode(BINARY, plain), None, "{plain}");
        }
        // One that may be either is known in both forms.
        let both = keys(&[("binary", "YS9i")]);
        assert_eq!((both.get(BINARY), both.given(BINARY)), (Some("a/b"), Some("YS9i")));
    }

    #[test]
    fn what_is_long_is_refused_with_its_beginning_only() {
        let long = "x".repeat(4 << 20);
        for value in [long.clone(), STANDARD.encode(&long), "x".repeat(4097)] {
            for key in ["binary", "cmdline", "unikernelVersion", "block"] {
                let error = keys(&[(key, &value)]).check().unwrap_err().to_string();
                assert!(error.contains(key) && error.contains("bytes long"), "{error}");
                assert!(error.len() < 400, "{} bytes of an error", error.len());
            }
        }
        keys(&[("cmdline", &"x".repeat(4096))]).check().unwrap();
        keys(&[("cmdline", &STANDARD.encode("y".repeat(4096)))]).check().unwrap();
    }

    #[test]
    fn keys_that_nobody_knows_are_named() {
        let keys =
            keys(&[("binary", "/k"), ("binray", "/k"), ("mountRootfs", "0"), ("unikernelVersion", "0.18")]);
        assert_eq!(keys.unknown().collect::<Vec<_>>(), ["com.urunc.unikernel.binray"]);
        keys.check().unwrap();
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
            (&[("binary", "L2EKYg==")], Kind::InvalidArgument, "binary: \"/a\\nb\" holds a NUL, a newline"),
            (&[("cmdline", "YQBiYw==")], Kind::InvalidArgument, "cmdline: \"a\\0bc\" holds a NUL"),
            (&[("block", "/disk")], Kind::Unimplemented, "block: \"/disk\""),
            (&[("blkMntPoint", "/")], Kind::Unimplemented, "blkMntPoint"),
            (&[("useDMBlock", "true")], Kind::Unimplemented, "useDMBlock"),
            (&[("useDMBlock", "dHJ1ZQ==")], Kind::Unimplemented, "useDMBlock: \"true\""),
            (&[("mountRootfs", "yes")], Kind::InvalidArgument, "give true or false"),
            (&[("solo5NetDev", "service")], Kind::Unimplemented, "solo5NetDev"),
            (&[("solo5BlkDev", "storage")], Kind::Unimplemented, "solo5BlkDev"),
            (&[("vAccel", "vsock")], Kind::Unimplemented, "vAccel"),
            (&[("RPCAddress", "x")], Kind::Unimplemented, "RPCAddress"),
            (&[("bootKernel", "/boot/vmlinuz")], Kind::Unimplemented, "bootKernel"),
            (&[("bootInitrd", "/boot/initrd")], Kind::Unimplemented, "bootInitrd"),
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
