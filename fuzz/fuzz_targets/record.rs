//! A record as it lies on the disk, with a wrong checksum and with the right one: it is read, or told to be what it is.
//! One that is read names nothing but its own.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use record_store::Read;
use runtime_core::record::RunDir;
use sha2::{Digest, Sha256};

static PLACE: LazyLock<PathBuf> = LazyLock::new(|| {
    // `make fuzz` makes it, and removes it.
    let place = std::env::var_os("URUNC_FUZZ_PLACE").expect("URUNC_FUZZ_PLACE names a folder");
    let run = PathBuf::from(place).join("k8s.io").join("c1");
    fs::create_dir_all(&run).expect("a folder");
    run
});

fuzz_target!(|text: &[u8]| {
    let dir = RunDir::open(&PLACE).expect("it is there").expect("it is there");
    let sealed = text.strip_prefix(b"{").map(|members| {
        let sum: String = Sha256::digest(members).iter().map(|b| format!("{b:02x}")).collect();
        [format!("{{\"sha256\":\"{sum}\",").as_bytes(), members].concat()
    });
    for content in [Some(text.to_vec()), sealed].into_iter().flatten() {
        fs::write(PLACE.join("record.json"), content).expect("it can be written");
        if let Read::Record(record) = dir.read() {
            assert_eq!((record.namespace.as_str(), record.id.as_str()), ("k8s.io", "c1"));
            assert!(record.txid.len() == 12 && record.txid.bytes().all(|b| b.is_ascii_hexdigit()));
            // Nobody signals it here; but a number that cannot be a process's own is refused.
            if let Some(process) = &record.process {
                assert!(process.pid > 1 || process.open().is_err());
            }
        }
    }
});
