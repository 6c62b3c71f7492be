//! `-info` and `-v`.

use std::io::{Write, stdout};

use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use protobuf::{Message, MessageField};

use crate::error::Error;

/// The runtime's name.
pub const NAME: &str = "io.containerd.urunc.v2";

/// Prints a serialized `RuntimeInfo`. containerd 2.2 and later ask at the first Create of a runtime; the options that
/// may be on stdin change nothing.
pub fn run() -> Result<(), Error> {
    let info = RuntimeInfo {
        name: NAME.to_owned(),
        version: MessageField::some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..RuntimeVersion::default()
        }),
        ..RuntimeInfo::default()
    };
    let bytes = info
        .write_to_bytes()
        .map_err(|source| Error::Message { action: "write the runtime's info", source })?;
    print(&bytes)
}

/// Prints the version.
pub fn version() -> Result<(), Error> {
    print(format!("containerd-shim-urunc-v2 (urunc in Rust) {}\n", env!("CARGO_PKG_VERSION")).as_bytes())
}

fn print(bytes: &[u8]) -> Result<(), Error> {
    let mut out = stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Error::system("print"))
}
