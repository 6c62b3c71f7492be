//! A bundle's config.json, annotations and hooks included: any text is a request or an error that fits on a screen.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::Spec;
use runtime_core::{record::StdioPaths, request::Request};

fuzz_target!(|text: &[u8]| {
    let Ok(spec) = serde_json::from_slice::<Spec>(text) else { return };
    match Request::new("c1", Path::new("/bundle"), &spec, vec![], StdioPaths::default()) {
        Ok(request) => {
            assert!(request.vcpus.is_none_or(|n| (1..=255).contains(&n)));
            assert!(request.root.is_absolute());
            assert!(request.keys.iter().all(|(_, value)| !value.contains('\0')));
        }
        // What is shown of a value is bounded; names of fields may be the spec's own.
        Err(e) => assert!(e.chain().len() < 10 * text.len() + 1000),
    }
});
