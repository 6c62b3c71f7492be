//! The operator's configuration reaches the guest: from the file, from the environment, from containerd's runtime
//! options. What cannot be understood is told by place and key, before anything is made.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{fs, path::PathBuf};

use containerd_shim_protos::ttrpc::Code;
use protobuf::well_known_types::any::Any;
use serde_json::Value;
use urunc_tests::direct::{Bench, SOON, Spec, unseal};

/// A message `runtimeoptions.v1.Options` with a `config_path` (field 2) or a `config_body` (field 3).
fn options(field: u8, content: &str) -> Option<Any> {
    let mut value = vec![field << 3 | 2, u8::try_from(content.len()).expect("a short text")];
    value.extend(content.as_bytes());
    Some(Any { type_url: "runtimeoptions.v1.Options".to_owned(), value, ..Any::default() })
}

/// The file that the shims of this bench read from now on.
fn file(bench: &mut Bench, text: &str) -> PathBuf {
    let path = bench.scratch().join("config.toml");
    fs::write(&path, text).unwrap();
    bench.set_variable("URUNC_CONFIG_FILE", path.to_str().unwrap());
    path
}

/// What was planned for the guest of a container.
fn guest(bench: &Bench, id: &str) -> Value {
    let plan = fs::read(bench.run_directory(id).join("plan.json")).unwrap();
    unseal(&plan).unwrap()["what"]["guest"]["guest"].clone()
}

#[test]
fn the_file_and_the_options_reach_the_guest() {
    let Some(mut bench) = Bench::released() else { return };
    let path = file(
        &mut bench,
        "[runtime]\naccel = \"tcg\"\n[monitors.qemu]\ndefault_memory_mb = 33\ndefault_vcpus = 2\n",
    );
    // Of one container: what the options say counts for it alone.
    let (shim, bundle, _) = bench.created("c1", &Spec::tiny("hang"));
    let of_file = guest(&bench, "c1");
    let seen = ["memory_mib", "vcpus", "accel"].map(|key| of_file[key].to_string());
    assert_eq!(seen, ["33", "2", "\"tcg\""]);

    let member = |id: &str| bench.bundle(id, &Spec::tiny("hang").in_pod("c1")).without_stdio();
    for (id, options, memory, vcpus) in [
        ("c2", options(3, "[monitors.qemu]\ndefault_memory_mb = 44\n"), 44, 2),
        ("c3", options(2, path.to_str().unwrap()), 33, 2),
        ("c4", None, 33, 2),
    ] {
        let mut bundle = member(id);
        bundle.options = options;
        shim.client.create(&bundle).unwrap();
        let guest = guest(&bench, id);
        assert_eq!(
            (guest["memory_mib"].as_u64(), guest["vcpus"].as_u64()),
            (Some(memory), Some(vcpus)),
            "{id}"
        );
        shim.client.delete(id).unwrap();
        bundle.remove();
    }

    let folder = bench.root.display().to_string();
    for (options, words) in [
        (
            options(3, "\n[runtime]\nroot = \"/elsewhere\""),
            &["line 3: runtime.root", folder.as_str(), "Create"][..],
        ),
        (options(3, "[runtime]\nrot = 1"), &["line 2: runtime.rot: is not known"]),
        (options(3, "[monitors.qemu]\nvhost = 3"), &["line 2: monitors.qemu.vhost", "give false"]),
        (options(2, "/nowhere/c.toml"), &["ConfigPath", "/nowhere/c.toml is not there"]),
        (options(2, "c.toml"), &["ConfigPath", "absolute"]),
        (Some(Any { type_url: "kata.v1.Options".to_owned(), ..Any::default() }), &["kata.v1.Options"]),
    ] {
        let mut bundle = member("c5");
        bundle.options = options;
        let failure = shim.client.create(&bundle).expect_err("it is refused");
        assert_eq!(failure.code, Some(Code::FAILED_PRECONDITION), "{failure:?}");
        for word in words {
            assert!(failure.message.contains(word), "{word:?} is not in {failure:?}");
        }
        assert!(!bench.run_directory("c5").exists());
        bundle.remove();
    }
    bench.end(&shim, bundle);
    bench.finish();
}

/// `start` refuses; `delete` and `gc`, who know nothing better, go on cleaning up.
#[test]
fn a_file_that_is_wrong_is_an_error_of_start_and_stops_no_clean_up() {
    let Some(mut bench) = Bench::released() else { return };
    file(&mut bench, "[monitors.qemu]\ndefault_vcpus = 1\n");
    let (shim, bundle, _) = bench.created("c1", &Spec::tiny("hang"));
    let path = file(&mut bench, "[monitors.qemu]\ndefault_vcpus = \"many\"\n");
    let other = bench.bundle("c2", &Spec::tiny("hang")).without_stdio();
    let started = bench.run_start(&other, b"").wait();
    assert_ne!(started.code, Some(0));
    let words = format!("{}:2: monitors.qemu.default_vcpus: the text \"many\"", path.display());
    assert!(started.stderr.contains(&words), "{}", started.stderr);
    other.remove();

    shim.daemon.kill();
    assert!(shim.daemon.ends_within(SOON));
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}
