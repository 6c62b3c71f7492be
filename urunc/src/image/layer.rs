//! The image's one layer: kernel, initrd and `urunc.json`, as an uncompressed tar stream.
//!
//! Uncompressed because kernels and initrds are compressed already, and so that the layer's digest is its diff id
//! too. Written twice, first into a measure, since its name in the archive is its digest; both times from the same
//! open files.

use super::{
    archive::{Archive, Measure, Sink},
    contract::{INITRD, KERNEL, URUNC_JSON},
    input::Input,
};
use crate::error::Error;

/// What the layer holds.
pub struct Layer {
    /// `/unikernel/kernel`.
    pub kernel: Input,
    /// `/unikernel/initrd`.
    pub initrd: Option<Input>,
    /// `/urunc.json`.
    pub urunc_json: Vec<u8>,
}

impl Layer {
    /// Digest and size.
    pub fn measure(&self) -> Result<(String, u64), Error> {
        let mut measure = Measure::default();
        self.write(&mut measure)?;
        Ok(measure.finish())
    }

    /// Writes the layer, entries in the order of their names.
    pub fn write(&self, to: &mut dyn Sink) -> Result<(), Error> {
        let mut archive = Archive::new(to);
        archive.dir("unikernel/")?;
        if let Some(initrd) = &self.initrd {
            archive.file(INITRD, initrd)?;
        }
        archive.file(KERNEL, &self.kernel)?;
        archive.bytes(URUNC_JSON, &self.urunc_json)?;
        archive.finish()
    }
}
