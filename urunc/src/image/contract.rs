//! The image contract: which `com.urunc.unikernel.*` keys an image may carry, and how.
//!
//! Pure. The keys are written three times, for three readers: as `/urunc.json` in the image (values base64, as every
//! urunc reads it), as annotations of the manifest and as labels of the config (both plain: newer uruncs, and people,
//! read them there). A key or value that no runtime would understand is an error here rather than at the first run.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use vmm_api::GuestKind;

use crate::error::Error;

/// Where the kernel stands in the image.
pub const KERNEL: &str = "unikernel/kernel";
/// Where the initrd stands in the image.
pub const INITRD: &str = "unikernel/initrd";
/// Where the keys stand in the image.
pub const URUNC_JSON: &str = "urunc.json";

const PREFIX: &str = "com.urunc.unikernel.";
/// The longest value that every urunc takes.
const MAX_VALUE: usize = 4096;
const KINDS: [GuestKind; 2] = [GuestKind::Linux, GuestKind::Unikraft];

/// The keys of an image, by full name, plain.
pub type Keys = BTreeMap<String, String>;

/// What a value has to be.
enum Rule {
    Text,
    Bool,
    Path,
    /// The name of a device in a Solo5 manifest.
    Device,
}

/// The keys that `--annotation` takes. Of the contract's others, `cmdline` is what COMMAND says, `vAccel`,
/// `RPCAddress` and the boot keys never come from an image.
const KNOWN: [(&str, Rule); 7] = [
    ("com.urunc.unikernel.blkMntPoint", Rule::Path),
    ("com.urunc.unikernel.block", Rule::Path),
    ("com.urunc.unikernel.mountRootfs", Rule::Bool),
    ("com.urunc.unikernel.solo5BlkDev", Rule::Device),
    ("com.urunc.unikernel.solo5NetDev", Rule::Device),
    ("com.urunc.unikernel.unikernelVersion", Rule::Text),
    ("com.urunc.unikernel.useDMBlock", Rule::Bool),
];

/// The keys that options of their own set.
const RESERVED: [(&str, &str); 5] = [
    ("com.urunc.unikernel.unikernelType", "--type"),
    ("com.urunc.unikernel.hypervisor", "--hypervisor"),
    ("com.urunc.unikernel.binary", "--kernel"),
    ("com.urunc.unikernel.initrd", "--initrd"),
    ("com.urunc.unikernel.cmdline", "COMMAND"),
];

/// The guest kind that `--type` names.
pub fn kind(value: &str) -> Result<GuestKind, Error> {
    KINDS.into_iter().find(|kind| kind.as_str() == value).ok_or_else(|| Error::Unknown {
        option: "--type",
        value: value.to_owned(),
        known: KINDS.map(GuestKind::as_str).to_vec(),
    })
}

/// What the guest runs when nothing is said.
pub fn default_command(kind: GuestKind) -> &'static str {
    match kind {
        GuestKind::Linux => "/init",
        // A unikernel has one program; this is only its argv[0].
        GuestKind::Unikraft => "unikernel",
    }
}

/// All keys of the image: those of the options and the further `annotations`.
pub fn keys(kind: GuestKind, hypervisor: &str, initrd: bool, annotations: &[String]) -> Result<Keys, Error> {
    let known: &[&str] = match kind {
        GuestKind::Linux => &["qemu", "firecracker", "cloud-hypervisor"],
        GuestKind::Unikraft => &["qemu", "firecracker"],
    };
    if !known.contains(&hypervisor) {
        let (value, known) = (hypervisor.to_owned(), known.to_vec());
        return Err(Error::Unknown { option: "--hypervisor", value, known });
    }
    let mut keys = Keys::new();
    for annotation in annotations {
        let (key, value) = pair("--annotation", annotation)?;
        if let Some((_, option)) = RESERVED.iter().find(|(name, _)| *name == key) {
            return Err(Error::Reserved { key: key.to_owned(), option });
        }
        let Some((_, rule)) = KNOWN.iter().find(|(name, _)| *name == key) else {
            let known = KNOWN.iter().map(|(name, _)| *name).collect();
            return Err(Error::Unknown { option: "--annotation", value: key.to_owned(), known });
        };
        check(key, value, rule)?;
        if keys.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(Error::Duplicate { option: "--annotation", key: key.to_owned() });
        }
    }
    let mut set = |key: &str, value: String| keys.insert(format!("{PREFIX}{key}"), value);
    set("unikernelType", kind.as_str().to_owned());
    set("hypervisor", hypervisor.to_owned());
    set("binary", format!("/{KERNEL}"));
    if initrd {
        set("initrd", format!("/{INITRD}"));
    }
    Ok(keys)
}

/// The contents of `/urunc.json`: one flat object, values in standard, padded base64.
pub fn urunc_json(keys: &Keys) -> Result<Vec<u8>, Error> {
    let encoded: BTreeMap<&str, String> =
        keys.iter().map(|(k, v)| (k.as_str(), STANDARD.encode(v))).collect();
    let mut json = serde_json::to_vec_pretty(&encoded).map_err(|source| Error::Json { source })?;
    json.push(b'\n');
    Ok(json)
}

/// Splits `KEY=VALUE`; neither may hold what breaks a line.
pub fn pair<'a>(option: &'static str, text: &'a str) -> Result<(&'a str, &'a str), Error> {
    one_line(option, text)?;
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key, value)),
        _ => Err(Error::NotAPair { option, value: text.to_owned() }),
    }
}

/// Refuses what breaks lines, command lines and C strings.
pub fn one_line(option: &str, text: &str) -> Result<(), Error> {
    require(!text.contains(['\0', '\n', '\r']), option, text, "one line, without NUL")
}

fn check(key: &str, value: &str, rule: &Rule) -> Result<(), Error> {
    let fits = !value.is_empty() && value.len() <= MAX_VALUE;
    require(fits, key, value, "between 1 and 4096 bytes long")?;
    match rule {
        Rule::Text => Ok(()),
        Rule::Bool => require(matches!(value, "true" | "false"), key, value, "true or false"),
        Rule::Device => {
            let fits = value.len() <= 67 && value.bytes().all(|b| b.is_ascii_alphanumeric());
            require(fits, key, value, "at most 67 letters and digits")
        }
        Rule::Path => {
            let plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b));
            let clean = !value.split('/').any(|part| matches!(part, "." | "..")) && !value.starts_with('-');
            require(plain && clean, key, value, "a path of letters, digits and ._/- without . and .. in it")
        }
    }
}

fn require(holds: bool, option: &str, value: &str, wanted: &'static str) -> Result<(), Error> {
    if holds {
        Ok(())
    } else {
        Err(Error::Invalid { option: option.to_owned(), value: value.to_owned(), wanted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(annotations: &[&str]) -> String {
        let annotations: Vec<String> = annotations.iter().map(|a| (*a).to_owned()).collect();
        keys(GuestKind::Linux, "qemu", false, &annotations).unwrap_err().to_string()
    }

    #[test]
    fn wrong_annotations_are_named() {
        assert_eq!(message(&["foo"]), r#"--annotation: "foo" is not of the form KEY=VALUE"#);
        assert!(message(&["foo=bar"]).starts_with(r#"--annotation: "foo" is not known; use com.urunc"#));
        assert!(message(&["com.urunc.unikernel.foo=bar"]).contains("is not known"));
        assert!(message(&["com.urunc.unikernel.binary=/x"]).ends_with("is set by --kernel; use that"));
        assert!(message(&["com.urunc.unikernel.mountRootfs=yes"]).ends_with("it must be true or false"));
        assert!(message(&["com.urunc.unikernel.block=/a/../b"]).contains("must be a path"));
        assert!(message(&["com.urunc.unikernel.block="]).contains("between 1 and 4096 bytes"));
        assert!(message(&["com.urunc.unikernel.unikernelVersion=1\n2"]).contains("one line"));
        let once = "com.urunc.unikernel.mountRootfs=true";
        assert!(message(&[once, once]).contains("given twice"));
    }

    #[test]
    fn kinds_and_monitors_are_those_of_the_contract() {
        assert_eq!(kind("linux").unwrap(), GuestKind::Linux);
        assert_eq!(
            kind("Linux").unwrap_err().to_string(),
            r#"--type: "Linux" is not known; use linux or unikraft"#
        );
        let wrong = keys(GuestKind::Unikraft, "cloud-hypervisor", false, &[]).unwrap_err().to_string();
        assert_eq!(wrong, r#"--hypervisor: "cloud-hypervisor" is not known; use qemu or firecracker"#);
    }

    #[test]
    fn urunc_json_is_base64() {
        let json = urunc_json(&keys(GuestKind::Linux, "qemu", true, &[]).unwrap()).unwrap();
        let read: BTreeMap<String, String> = serde_json::from_slice(&json).unwrap();
        assert_eq!(read["com.urunc.unikernel.unikernelType"], "bGludXg=");
        assert_eq!(read["com.urunc.unikernel.initrd"], STANDARD.encode("/unikernel/initrd"));
        assert_eq!(read.len(), 4);
    }
}
