//! The runtime options of a Create request: an `Any`, the message in it, and the TOML in that.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use protobuf::{Message, well_known_types::any::Any};
use runtime_core::config::{Config, Options};

#[path = "../../shim/src/options.rs"]
mod options;

static CONFIG: LazyLock<Config> = LazyLock::new(|| Config::load().expect("a configuration"));

fuzz_target!(|message: &[u8]| {
    let body = match Any::parse_from_bytes(message).map(|any| options::of(&any)) {
        Ok(Ok(given)) => {
            // Refused by name, or not; never a panic.
            let oci = &given.oci;
            let _ = (oci.check().is_ok(), oci.root().is_ok(), oci.program().is_ok());
            match given.config {
                Some(Options::Body(body)) => body,
                // A path may lead to any file of this host.
                _ => return,
            }
        }
        Ok(Err(_)) => return,
        Err(_) => match std::str::from_utf8(message) {
            Ok(text) => text.to_owned(),
            Err(_) => return,
        },
    };
    if let Ok(with) = CONFIG.with(&Options::Body(body)) {
        assert_eq!(with.root, CONFIG.root, "a container's options have moved the records");
        assert!(with.grace.is_none_or(|grace| grace.as_secs() <= 86_400));
    }
});
