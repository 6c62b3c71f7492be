//! An image's own description: any text is keys or an error. What it gives can be given again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime_core::preview::keys_of_text;

fuzz_target!(|text: &[u8]| {
    let Ok(keys) = keys_of_text(text) else { return };
    for (key, value) in keys {
        assert!(key.starts_with("com.urunc.unikernel."), "{key}");
        assert!(value.len() <= 4096 && !value.is_empty() && !value.contains(char::is_control), "{value:?}");
    }
});
