//! What is read from the image: `urunc.json`, the kernel's headers, whether the initrd is there. Only through the
//! launcher's fd of the root file system, never leaving it, regular files only, bounded.

use std::{collections::BTreeMap, fmt, io::Read, os::fd::BorrowedFd};

use base64::{Engine, engine::general_purpose::STANDARD};
use host_mount::{Beneath, open_beneath};
use rustix::io::Errno;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use vmm_api::kernel::Format;

use crate::{
    Error,
    contract::{self, Keys, invalid},
    plan,
};

/// The image's own description, at its root.
const DESCRIPTION: &str = "urunc.json";
/// The most that is read of it, in bytes.
const MOST_DESCRIPTION: u64 = 1024 * 1024;

/// Whether an image is a guest's: by its `urunc.json`, or because the kernel is there that its pod's keys name.
pub fn is_guest(root: BorrowedFd<'_>, pods: &Keys) -> Result<bool, Error> {
    if is_described(root)? {
        return Ok(true);
    }
    for path in [pods.get(contract::BINARY), pods.given(contract::BINARY)].into_iter().flatten() {
        match handle(root, path) {
            Ok(_) => return Ok(true),
            Err(host_mount::Error::NotAFile { .. }) => {}
            Err(host_mount::Error::Open { source, .. }) if is_missing(&source) => {}
            Err(e) => return Err(unusable(contract::BINARY, path, e)),
        }
    }
    Ok(false)
}

/// Whether an image has a `urunc.json`, or something else by its name: then it is to be a guest.
fn is_described(root: BorrowedFd<'_>) -> Result<bool, Error> {
    match handle(root, DESCRIPTION) {
        Ok(_) | Err(host_mount::Error::NotAFile { .. }) => Ok(true),
        Err(host_mount::Error::Open { source, .. }) if is_missing(&source) => Ok(false),
        Err(e) => Err(unusable(DESCRIPTION, DESCRIPTION, e)),
    }
}

/// Reads `urunc.json`; an image without one gives no keys. The whole file may be base64, too.
pub fn description(root: BorrowedFd<'_>) -> Result<Keys, Error> {
    let file = match Beneath::read(root, DESCRIPTION) {
        Ok(file) => file,
        Err(host_mount::Error::Open { source, .. }) if is_missing(&source) => return Ok(Keys::default()),
        Err(e) => return Err(unusable(DESCRIPTION, DESCRIPTION, e)),
    };
    let mut text = Vec::new();
    file.take(MOST_DESCRIPTION + 1).read_to_end(&mut text).map_err(|source| Error::ImageUnreadable {
        key: DESCRIPTION.to_owned(),
        path: DESCRIPTION.to_owned(),
        source,
    })?;
    if text.len() as u64 > MOST_DESCRIPTION {
        return Err(invalid(
            DESCRIPTION,
            "",
            "is larger than 1 MiB",
            "keep only the keys of the contract in it",
        ));
    }
    parse(&text)
}

/// The keys of a `urunc.json`.
pub fn parse(text: &[u8]) -> Result<Keys, Error> {
    let decoded = STANDARD.decode(text.trim_ascii()).ok().filter(|decoded| !decoded.is_empty());
    let pairs: Pairs = serde_json::from_slice(decoded.as_deref().unwrap_or(text)).map_err(|e| {
        let form = if decoded.is_some() { ", decoded from base64," } else { "" };
        let problem = format!("{form} is no JSON object of strings ({e})");
        invalid(DESCRIPTION, "", problem.trim_start_matches([',', ' ']), "write {\"key\": \"value\", ...}")
    })?;
    let keys = Keys::from_pairs(pairs.0.iter().map(|(k, v)| (k, v)));
    keys.check_image()?;
    Ok(keys)
}

/// A flat object of strings, every key once: of two, nobody knows which was meant.
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    let value = map
                        .next_value::<String>()
                        .map_err(|e| A::Error::custom(format!("{}: {e}", contract::shown(&key))))?;
                    if pairs.contains_key(&key) {
                        return Err(A::Error::custom(format!("{} is there twice", contract::shown(&key))));
                    }
                    pairs.insert(key, value);
                }
                Ok(Pairs(pairs.into_iter().collect()))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// All keys: those of the request, and what is missing from the image.
pub fn keys(root: BorrowedFd<'_>, request: &Keys) -> Result<Keys, Error> {
    let mut keys = request.clone().or(description(root)?);
    if keys.is_empty() {
        return Err(Error::Unsupported {
            feature: format!("{}: missing: an ordinary container", contract::TYPE),
            remedy: "give the com.urunc.unikernel.* annotations or a urunc.json at the image's root, or use runtime io.containerd.runc.v2",
        });
    }
    // A plain word that happens to be base64, too: the image shows which it is.
    for key in [contract::BINARY, contract::INITRD] {
        let (Some(path), Some(given)) = (keys.get(key), keys.given(key)) else { continue };
        let lacks = |path: &str| matches!(handle(root, path), Err(host_mount::Error::Open { source, .. }) if is_missing(&source));
        match (lacks(path), lacks(given)) {
            (true, true) => {
                let problem =
                    format!("is not in the image, nor is {}, the same in base64", contract::shown(given));
                return Err(invalid(key, path, &problem, "name a regular file of the image"));
            }
            (true, false) => keys.take_as_given(key),
            (false, _) => {}
        }
    }
    keys.check()?;
    plan::kind(&keys)?;
    Ok(keys)
}

/// Tells what the kernel file is.
pub fn kernel(root: BorrowedFd<'_>, path: &str) -> Result<Format, Error> {
    let file = Beneath::read(root, path).map_err(|e| unusable(contract::BINARY, path, e))?;
    Format::probe(&file).map_err(|source| Error::ImageUnreadable {
        key: contract::BINARY.to_owned(),
        path: path.to_owned(),
        source,
    })
}

/// Looks whether the initrd is there and can be read.
pub fn initrd(root: BorrowedFd<'_>, path: &str) -> Result<(), Error> {
    let unreadable =
        |source| Error::ImageUnreadable { key: contract::INITRD.to_owned(), path: path.to_owned(), source };
    fault::point("image.initrd").map_err(|f| unreadable(f.into()))?;
    let mut file = Beneath::read(root, path).map_err(|e| unusable(contract::INITRD, path, e))?;
    let mut byte = [0u8; 1];
    match file.read(&mut byte) {
        Ok(0) => Err(invalid(contract::INITRD, path, "is empty", "name a cpio archive")),
        Ok(_) => Ok(()),
        Err(source) => Err(unreadable(source)),
    }
}

/// The handle of a file, for the launcher that attaches its mount.
pub fn handle(root: BorrowedFd<'_>, path: &str) -> Result<std::os::fd::OwnedFd, host_mount::Error> {
    open_beneath(root, path, Beneath::Handle)
}

fn is_missing(e: &std::io::Error) -> bool {
    matches!(
        Errno::from_io_error(e),
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG | Errno::ACCESS)
    )
}

/// A file that is not there, or not a file, is the image's fault; one that cannot be read for now (a lazily pulled
/// snapshot whose server is away gives EIO or ETIMEDOUT) may be right.
fn unusable(key: &str, path: &str, e: host_mount::Error) -> Error {
    match e {
        host_mount::Error::Open { source, .. } if is_missing(&source) => {
            invalid(key, path, "is not in the image", "name a regular file of the image")
        }
        host_mount::Error::Open { source, .. } => {
            Error::ImageUnreadable { key: key.to_owned(), path: path.to_owned(), source }
        }
        host_mount::Error::NotAFile { .. } => {
            invalid(key, path, "is not a regular file", "name a regular file of the image")
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::AsFd};

    use super::*;

    #[test]
    fn a_description_that_is_wrong_is_told_by_what_is_wrong_with_it() {
        let deep = "[".repeat(200_000);
        let deep_value = format!("{{\"com.urunc.unikernel.binary\": {}}}", "[".repeat(200_000));
        for (text, words) in [
            ("", "urunc.json: is no JSON object of strings (EOF"),
            ("[]", "expected an object"),
            (deep.as_str(), "expected an object"),
            (
                deep_value.as_str(),
                "\"com.urunc.unikernel.binary\": invalid type: sequence, expected a string",
            ),
            ("{\"a\": \"b\", \"a\": \"c\"}", "\"a\" is there twice"),
            ("{\"a\": {\"b\": \"c\"}}", "\"a\": invalid type: map, expected a string"),
            (
                "{\"com.urunc.unikernel.binary\": \"/a\\u0000b\"}",
                "com.urunc.unikernel.binary: \"/a\\0b\" holds a NUL",
            ),
            ("{\"com.urunc.unikernel.bootKernel\": \"/boot/vmlinuz\"}", "names something of the host"),
            ("{\"com.urunc.unikernel.block\": \"/disk\"}", "com.urunc.unikernel.block"),
            ("bm8ganNvbg==", "urunc.json: decoded from base64, is no JSON object of strings"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
            assert!(error.len() < 500, "{} bytes of an error", error.len());
        }
        // Whole files are base64, too.
        let keys = parse(STANDARD.encode("{\"com.urunc.unikernel.binary\": \"/k\"}").as_bytes()).unwrap();
        assert_eq!(keys.get(contract::BINARY), Some("/k"));
    }

    #[test]
    fn a_path_that_is_base64_too_is_what_the_image_has() {
        let image = tempfile::tempdir().unwrap();
        let root = fs::File::open(image.path()).unwrap();
        let pairs = [
            (contract::TYPE.to_owned(), "linux".to_owned()),
            (contract::BINARY.to_owned(), "YS9i".to_owned()),
        ];
        let request = Keys::from_pairs(pairs.iter().map(|(k, v)| (k, v)));
        let binary = || keys(root.as_fd(), &request).unwrap().get(contract::BINARY).map(str::to_owned);
        let neither = keys(root.as_fd(), &request).unwrap_err().to_string();
        assert!(neither.contains("\"a/b\" is not in the image, nor is \"YS9i\""), "{neither}");
        fs::write(image.path().join("YS9i"), "x").unwrap();
        assert_eq!(binary().as_deref(), Some("YS9i"));
        fs::create_dir(image.path().join("a")).unwrap();
        fs::write(image.path().join("a/b"), "x").unwrap();
        assert_eq!(binary().as_deref(), Some("a/b"));
    }

    #[test]
    fn of_a_pods_images_those_are_guests_that_are_described_or_have_the_kernel() {
        let image = tempfile::tempdir().unwrap();
        let root = fs::File::open(image.path()).unwrap();
        let is_guest = |binary: &str| {
            let pair = (contract::BINARY.to_owned(), binary.to_owned());
            is_guest(root.as_fd(), &Keys::from_pairs([(&pair.0, &pair.1)])).unwrap()
        };
        fs::create_dir(image.path().join("boot")).unwrap();
        for binary in ["/boot/vmlinuz", "/boot", "YS9i", ""] {
            assert!(!is_guest(binary), "{binary}");
        }
        fs::write(image.path().join("boot/vmlinuz"), "x").unwrap();
        fs::write(image.path().join("YS9i"), "x").unwrap();
        assert!(is_guest("/boot/vmlinuz") && is_guest("YS9i") && !is_guest("/boot"));
        assert!(is_guest(&STANDARD.encode("/boot/vmlinuz")));
        fs::write(image.path().join(DESCRIPTION), "{}").unwrap();
        assert!(is_guest(""));
    }

    #[test]
    fn nothing_is_opened_outside_of_the_image() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "x").unwrap();
        let image = outside.path().join("image");
        fs::create_dir(&image).unwrap();
        for (link, target) in
            [("up", "../secret"), ("absolute", outside.path().join("secret").to_str().unwrap())]
        {
            std::os::unix::fs::symlink(target, image.join(link)).unwrap();
        }
        std::os::unix::fs::symlink("../secret", image.join(DESCRIPTION)).unwrap();
        let root = fs::File::open(&image).unwrap();
        for path in ["up", "absolute", "../secret", "/../secret"] {
            kernel(root.as_fd(), path).unwrap_err();
            initrd(root.as_fd(), path).unwrap_err();
        }
        assert_eq!(description(root.as_fd()).unwrap(), Keys::default());
    }
}
