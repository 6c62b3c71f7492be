//! What cannot be run is refused by name, with a remedy, and nothing is left of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{fs, path::Path};

use containerd_shim_protos::ttrpc::Code;
use serde_json::json;
use urunc_tests::direct::{Bench, Bundle, Client, SOON, Spec, leaves};

/// Creates a bundle that must be refused with this code and these words, and looks that nothing is left.
#[track_caller]
fn refused(bench: &Bench, client: &Client, bundle: Bundle, code: Code, words: &[&str]) {
    let failure = client.create(&bundle).expect_err("it is refused");
    assert_eq!(failure.code, Some(code), "{failure:?}");
    for word in words {
        assert!(failure.message.contains(word), "{word:?} is not named: {failure:?}");
    }
    assert!(!bench.run_directory(&bundle.id).exists(), "the run directory is still there after {failure:?}");
    assert_eq!(leaves(&bench.namespace, &bundle.id), Vec::<&Path>::new(), "after {failure:?}");
    assert_eq!(client.state(&bundle.id).unwrap_err().code, Some(Code::NOT_FOUND));
    assert_eq!(client.delete(&bundle.id).unwrap_err().code, Some(Code::NOT_FOUND));
    bundle.remove();
}

#[test]
fn a_bundle_that_asks_for_what_is_not_built() {
    let Some(bench) = Bench::released() else { return };
    let first = bench.bundle("c0", &Spec::tiny("hang")).without_stdio();
    let shim = bench.start(&first);
    let tiny = || Spec::tiny("hang").in_pod("c0");
    let unimplemented =
        |bundle, words: &[&str]| refused(&bench, &shim.client, bundle, Code::UNIMPLEMENTED, words);

    for hook in ["createContainer", "startContainer", "poststart"] {
        let spec = tiny().edit(|s| s["hooks"] = json!({hook: [{"path": "/bin/true"}]}));
        unimplemented(bench.bundle("c1", &spec), &[&format!("hooks.{hook}"), "leave it out"]);
    }
    let spec =
        tiny().edit(|s| s["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"})));
    unimplemented(bench.bundle("c1", &spec), &["user namespace", "hostUsers"]);

    let mut bundle = bench.bundle("c1", &tiny()).without_stdio();
    bundle.stdout = "npipe:////./pipe/c1".to_owned();
    unimplemented(bundle, &["stdout", "npipe", "FIFO"]);
    unimplemented(bench.bundle("c1", &tiny().key("block", "/disk")), &["block"]);
    unimplemented(bench.bundle("c1", &tiny().key("mountRootfs", "true")), &["mountRootfs"]);
    // It is an ordinary container, for which not all of runc's options are honoured.
    let ordinary = Spec::ordinary(&["/bin/true"]).in_pod("c0");
    let mut bundle = bench.ordinary("c1", &ordinary).without_stdio();
    let options =
        containerd_shim_protos::shim::oci::Options { shim_cgroup: "/shims".to_owned(), ..Default::default() };
    bundle.options = Some(protobuf::well_known_types::any::Any {
        type_url: "containerd.runc.v1.Options".to_owned(),
        value: protobuf::Message::write_to_bytes(&options).unwrap(),
        ..Default::default()
    });
    unimplemented(bundle, &["ShimCgroup", "/shims", "leave it out"]);

    shim.client.shutdown("c0");
    assert!(shim.daemon.ends_within(SOON));
    first.remove();
    bench.finish();
}

#[test]
fn a_bundle_that_is_wrong_in_itself() {
    let Some(bench) = Bench::released() else { return };
    let first = bench.bundle("c0", &Spec::tiny("hang")).without_stdio();
    let shim = bench.start(&first);
    let tiny = || Spec::tiny("hang").in_pod("c0");
    let invalid =
        |bundle, words: &[&str]| refused(&bench, &shim.client, bundle, Code::INVALID_ARGUMENT, words);

    // What nobody could understand; and of a guest, what the OCI runtime is not asked about.
    let guests = json!({"ociVersion": 7, "annotations": tiny().json["annotations"]}).to_string();
    for spec in ["{\"annotations\": 7}", "[", &guests] {
        let bundle = bench.bundle("c1", &tiny());
        fs::write(bundle.path.join("config.json"), spec).unwrap();
        invalid(bundle, &["config.json", "not a valid OCI spec"]);
    }
    for (key, value, words) in [
        ("unikernelType", "rumprun", &["unikernelType", "rumprun", "unikraft"][..]),
        ("unikernelType", "", &["unikernelType", "missing"]),
        ("hypervisor", "bhyve", &["hypervisor", "bhyve", "qemu"]),
        ("binary", "/no-such-kernel", &["binary", "/no-such-kernel", "not in the image"]),
        ("binary", "../../etc/passwd", &["binary", "leaves the image"]),
        ("binary", "/etc", &["binary", "/etc"]),
        ("binary", "/initrd", &["neither a Linux bzImage nor an ELF file"]),
        ("binary", "", &["binary", "missing"]),
    ] {
        invalid(bench.bundle("c1", &tiny().key(key, value)), words);
    }
    let many =
        tiny().edit(|s| s["linux"]["resources"]["cpu"] = json!({"quota": 100_000_000, "period": 100_000}));
    invalid(bench.bundle("c1", &many), &["cpu.quota", "vCPUs"]);
    let nul = tiny().edit(|s| s["process"]["args"] = json!(["a\0b"]));
    invalid(bench.bundle("c1", &nul), &["process.args", "NUL"]);
    let mut bundle = bench.bundle("c1", &tiny()).without_stdio();
    bundle.stdout = "stdout".to_owned();
    invalid(bundle, &["stdout", "absolute"]);
    let mut bundle = bench.bundle("c1", &tiny()).without_stdio();
    bundle.stdout = bundle.path.join("config.json").to_string_lossy().into_owned();
    invalid(bundle, &["config.json", "FIFO"]);

    shim.client.shutdown("c0");
    assert!(shim.daemon.ends_within(SOON));
    first.remove();
    bench.finish();
}

#[test]
fn an_id_that_would_lead_elsewhere() {
    let Some(bench) = Bench::released() else { return };
    let first = bench.bundle("c0", &Spec::tiny("hang")).without_stdio();
    let shim = bench.start(&first);
    for id in ["../c1", "../../../c1", "/c1", ".c1", "", "c1/c2"] {
        let mut bundle = bench.bundle("c1", &Spec::tiny("hang").in_pod("c0")).without_stdio();
        id.clone_into(&mut bundle.id);
        let failure = shim.client.create(&bundle).expect_err("an id becomes a folder");
        assert_eq!(failure.code, Some(Code::INVALID_ARGUMENT), "{id:?}: {failure:?}");
    }
    shim.client.shutdown("c0");
    assert!(shim.daemon.ends_within(SOON));
    bench.finish();
}

#[test]
fn a_host_that_lacks_something() {
    let Some(bench) = Bench::released() else { return };
    let first = bench.bundle("c0", &Spec::tiny("hang")).without_stdio();
    let shim = bench.start(&first);
    let tiny = || Spec::tiny("hang").in_pod("c0");
    let unmet =
        |bundle, words: &[&str]| refused(&bench, &shim.client, bundle, Code::FAILED_PRECONDITION, words);
    unmet(bench.bundle("c1", &tiny().memory(1024 * 1024)), &["memory.limit", "1048576", "raise the limit"]);
    // Places that belong to others.
    for path in ["/", "/.."] {
        let spec = tiny().edit(|s| s["linux"]["cgroupsPath"] = path.into());
        let bundle = bench.bundle("c1", &spec);
        let failure = shim.client.create(&bundle).unwrap_err();
        let codes = [Some(Code::FAILED_PRECONDITION), Some(Code::INVALID_ARGUMENT)];
        assert!(codes.contains(&failure.code), "{path}: {failure:?}");
        bundle.remove();
    }
    // Things that are not there: any error, naming them.
    let spec =
        tiny().edit(|s| s["linux"]["namespaces"] = json!([{"type": "network", "path": "/run/netns/none"}]));
    let bundle = bench.bundle("c1", &spec);
    let failure = shim.client.create(&bundle).unwrap_err();
    assert!(failure.message.contains("/run/netns/none"), "{failure:?}");
    bundle.remove();
    let mut bundle = bench.bundle("c1", &tiny());
    bundle.rootfs[0].source = "/no/such/image".to_owned();
    let failure = shim.client.create(&bundle).unwrap_err();
    assert!(failure.message.contains("root file system"), "{failure:?}");
    assert!(!bench.run_directory("c1").exists());
    bundle.remove();
    let mut bundle = bench.bundle("c1", &tiny()).without_stdio();
    bundle.stdout = "/no/such/fifo".to_owned();
    let failure = shim.client.create(&bundle).unwrap_err();
    assert!(failure.message.contains("/no/such/fifo"), "{failure:?}");
    bundle.remove();

    shim.client.shutdown("c0");
    assert!(shim.daemon.ends_within(SOON));
    first.remove();
    bench.finish();
}

#[test]
fn a_monitor_that_is_not_installed() {
    let Some(mut bench) = Bench::released() else { return };
    bench.set_variable("PATH", "/no/such/folder");
    let first = bench.bundle("c0", &Spec::tiny("hang")).without_stdio();
    let shim = bench.start(&first);
    for spec in [Spec::tiny("hang").in_pod("c0"), Spec::tiny("hang").in_pod("c0").key("hypervisor", "qemu")] {
        let words = ["com.urunc.unikernel.hypervisor", "qemu-system-x86_64", "apt-get install"];
        refused(&bench, &shim.client, bench.bundle("c1", &spec), Code::FAILED_PRECONDITION, &words);
    }
    // Named by annotation it is refused before anything exists: there is nothing to undo.
    let bundle =
        bench.bundle("c1", &Spec::tiny("hang").in_pod("c0").key("hypervisor", "qemu")).without_stdio();
    let failure = shim.client.create(&bundle).unwrap_err();
    assert!(!failure.message.contains("undone"), "{failure:?}");
    shim.client.shutdown("c0");
    assert!(shim.daemon.ends_within(SOON));
    bench.finish();
}
