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
    size: Option<u64>,
}

impl Blob {
    /// From a descriptor.
    pub fn of(descriptor: &Value) -> Result<Self, String> {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        let is_hex = |hex: &str| !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit());
        match digest.split_once(':') {
            Some((algorithm, hex)) if algorithm.bytes().all(|b| b.is_ascii_alphanumeric()) && is_hex(hex) => {
                let size = descriptor["size"].as_u64();
                Ok(Self { name: format!("blobs/{algorithm}/{hex}"), digest: digest.to_owned(), size })
            }
            _ => Err(format!("{digest:?} is no digest")),
        }
    }

    /// What of it is not as its descriptor says; nothing: all is.
    pub fn differs(&self, files: &Files) -> Result<Option<String>, String> {
        let Self { name, digest, size } = self;
        if !digest.starts_with(&format!("{ALGORITHM}:")) {
            return Ok(Some(format!("{name}: {digest} is not checked, for only {ALGORITHM} is")));
        }
        let mut part = files.open(name)?;
        if let Some(size) = size.filter(|size| *size != part.size()) {
            return Ok(Some(format!("{name}: has {} bytes, and its descriptor says {size}", part.size())));
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
