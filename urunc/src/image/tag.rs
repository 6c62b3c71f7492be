//! Names of images, completed and checked as docker and containerd do.
//!
//! Pure. `busybox` means `docker.io/library/busybox:latest` to every tool, but only after each has completed it: an
//! archive carries the complete name, so that none has to guess.

use crate::error::Error;

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";
/// The longest repository, domain included, and the longest tag.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A complete name: domain, path and tag.
#[derive(Debug)]
pub struct Tag {
    repository: String,
    tag: String,
}

impl Tag {
    /// Completes and checks what a person wrote.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let require = |holds: bool, wanted: &'static str| match holds {
            true => Ok(()),
            false => Err(Error::Invalid { option: "--tag".to_owned(), value: text.to_owned(), wanted }),
        };
        require(!text.is_empty(), "NAME or NAME:TAG")?;
        require(!text.contains('@'), "NAME or NAME:TAG without a digest: the digest comes out of the build")?;
        let is_id = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        require(!is_id, "a name; 64 hexadecimal digits are the id of an image")?;

        let (domain, rest) = split_domain(text);
        let (path, tag) = rest.split_once(':').unwrap_or((rest, "latest"));
        let path = if domain == DEFAULT_DOMAIN && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        require(is_domain(domain), "a name whose registry is HOST or HOST:PORT")?;
        require(
            path.split('/').all(is_component),
            "a name of lower-case letters and digits, with single . _ __ or - between them",
        )?;
        require(
            is_tag(tag),
            "a name whose tag is at most 128 letters, digits, _ . and -, not beginning with . or -",
        )?;
        let repository = format!("{domain}/{path}");
        require(repository.len() <= MAX_NAME, "a name of at most 255 bytes")?;
        Ok(Self { repository, tag: tag.to_owned() })
    }

    /// The whole name, e.g. `docker.io/library/busybox:latest`.
    pub fn name(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }

    /// What stands behind the colon.
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

/// The first part is a registry if it could not be part of a path: it has a dot, a port, a capital letter, or is
/// `localhost`.
fn split_domain(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((LEGACY_DOMAIN, rest)) => (DEFAULT_DOMAIN, rest),
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.contains(|c: char| c.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, text),
    }
}

fn is_domain(text: &str) -> bool {
    if let Some((address, port)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let address_fits = !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
        return address_fits && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_separator = |s: &str| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-');
    text.starts_with(alphanumeric)
        && text.ends_with(alphanumeric)
        && text.split(alphanumeric).all(is_separator)
}

fn is_tag(text: &str) -> bool {
    text.len() <= MAX_TAG
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        for (text, name) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
            ("me/a_b__c-d--e.f", "docker.io/me/a_b__c-d--e.f:latest"),
            ("localhost:5000", "docker.io/library/localhost:5000"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x:y", "localhost:5000/x:y"),
            ("Reg/x", "Reg/x:latest"),
            ("registry.local/a/b/c:v1", "registry.local/a/b/c:v1"),
            ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ] {
            assert_eq!(Tag::parse(text).unwrap().name(), name, "{text}");
        }
    }

    #[test]
    fn bad_names_are_refused() {
        let (hex, long) = ("0".repeat(64), "a/".repeat(130) + "b");
        let long_tag = format!("a:{}", "t".repeat(129));
        for text in [
            "",
            "A",
            "a b",
            "a/B",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:.x",
            "a:b:c",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "a\nb",
            "a\0",
            "a@sha256:00",
            "x.y:p/a",
            "-x.y/a",
            "[::1/a",
            "[]/a",
            "é",
            &hex,
            &long,
            &long_tag,
        ] {
            assert!(Tag::parse(text).is_err(), "{text:?}");
        }
    }
}
