//! A blob of an OCI layout as its descriptor says it: name, digest and size. Whether it is that is looked at byte by
//! byte, as containerd does it when it takes an image in; what differs is told, and not read any further.

use std::io;

use serde_json::Value;

use super::{
    archive::Measure,
    files::{Files, MOST, too_large},
};

/// The one algorithm that is known here, and by which containerd stores.
const ALGORITHM: &str = "sha256";

/// A blob.
pub struct Blob {
    /// The name of its file.
    pub name: String,
    digest: String,
    /// In bytes; else what its descriptor says instead.
    size: Result<u64, String>,
}

impl Blob {
    /// From a descriptor, which `field` is.
    pub fn of(field: &str, descriptor: &Value) -> Result<Self, String> {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        let is_hex = |hex: &str| !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit());
        match digest.split_once(':') {
            Some((algorithm, hex)) if algorithm.bytes().all(|b| b.is_ascii_alphanumeric()) && is_hex(hex) => {
                let size = descriptor["size"].as_u64().ok_or_else(|| match &descriptor["size"] {
                    Value::Null => format!("{field}.size: is missing"),
                    other => format!("{field}.size: {other} is no number of bytes"),
                });
                Ok(Self { name: format!("blobs/{algorithm}/{hex}"), digest: digest.to_owned(), size })
            }
            _ => Err(format!("{field}.digest: {digest:?} is no digest")),
        }
    }

    /// What of it is not as its descriptor says; nothing: all is.
    pub fn differs(&self, files: &Files) -> Result<Option<String>, String> {
        let Self { name, digest, size } = self;
        if !digest.starts_with(&format!("{ALGORITHM}:")) {
            return Ok(Some(format!("{name}: {digest} is not checked, for only {ALGORITHM} is")));
        }
        let mut part = files.open(name)?;
        match size {
            Err(problem) => return Ok(Some(problem.clone())),
            Ok(size) if *size != part.size() => {
                return Ok(Some(format!(
                    "{name}: has {} bytes, and its descriptor says {size}",
                    part.size()
                )));
            }
            Ok(_) => {}
        }
        let fail = |e: io::Error| format!("{name}: {e}");
        if part.size() > MOST {
            return Err(fail(too_large()));
        }
        let mut measure = Measure::default();
        io::copy(&mut part, &mut measure).map_err(fail)?;
        let (found, _) = measure.finish();
        Ok((found != *digest)
            .then(|| format!("{name}: its digest is {found}, and its descriptor says {digest}")))
    }
}
