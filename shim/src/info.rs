//! `-info` and `-v`.

use std::io::{Write, stdout};

use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use protobuf::{Message, MessageField, well_known_types::any::Any};
use runtime_core::{config::Config, oci};

use crate::{
    error::Error,
    given,
    options::{self, Given},
};

/// The runtime's name.
pub const NAME: &str = "io.containerd.urunc.v2";
/// The name that containerd has given the OCI `features`: its value is their JSON.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// Prints a serialized `RuntimeInfo` (containerd, api/types/introspection.proto). On stdin are the runtime's options.
/// CRI asks for each of its handlers, containerd 2.2 and later at the first Create of a runtime.
pub fn run() -> Result<(), Error> {
    let unread = |source| Error::Message { action: "read the runtime options on stdin", source };
    let options = match given::read()? {
        nothing if nothing.is_empty() => None,
        given => Some(Any::parse_from_bytes(&given).map_err(unread)?),
    };
    let given = options.as_ref().map(options::of).transpose()?.unwrap_or_default();
    let info = RuntimeInfo {
        name: NAME.to_owned(),
        version: MessageField::some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..RuntimeVersion::default()
        }),
        options: options.into(),
        // A host without an OCI runtime runs guests, and no pod asks a guest for a feature.
        features: features(&given).ok().into(),
        ..RuntimeInfo::default()
    };
    let bytes = info
        .write_to_bytes()
        .map_err(|source| Error::Message { action: "write the runtime's info", source })?;
    print(&bytes)
}

/// Those of ordinary containers.
fn features(given: &Given) -> Result<Any, runtime_core::Error> {
    let config = Config::load()?;
    let config = given.config.as_ref().map_or(Ok(config.clone()), |options| config.with(options))?;
    let json = oci::features(&given.oci, &config)?;
    Ok(Any { type_url: FEATURES.to_owned(), value: json.into_bytes(), ..Any::default() })
}

/// Prints the version.
pub fn version() -> Result<(), Error> {
    print(format!("containerd-shim-urunc-v2 (urunc in Rust) {}\n", env!("CARGO_PKG_VERSION")).as_bytes())
}

fn print(bytes: &[u8]) -> Result<(), Error> {
    let mut out = stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Error::system("print"))
}
