//! `containerd.runc.v1.Options`: what they ask for is what the OCI runtime is told, or it is refused by name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::path::Path;

use containerd_shim_protos::{shim::oci::Options, ttrpc::Code};
use protobuf::{Message, well_known_types::any::Any};
use urunc_tests::direct::{Bench, Bundle, Executed, Spec, Spy, process, skip};

const SLEEPS: &[&str] = &["/bin/sleep", "1000"];

/// With these options.
fn with(mut bundle: Bundle, options: &Options) -> Bundle {
    bundle.options = Some(Any {
        type_url: "containerd.runc.v1.Options".to_owned(),
        value: options.write_to_bytes().unwrap(),
        ..Any::default()
    });
    bundle
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[test]
fn the_runtime_that_is_named_is_called_with_what_is_asked_for() {
    let Some(bench) = Bench::released() else { return };
    let spy = Spy::new(&bench, "spy");
    let root = bench.scratch().join("states");
    let options = Options {
        binary_name: text(&spy.program),
        root: text(&root),
        no_pivot_root: true,
        no_new_keyring: true,
        ..Options::default()
    };
    let life = |options: &Options| {
        let bundle = with(bench.ordinary("c1", &Spec::ordinary(SLEEPS)).without_stdio(), options);
        let (shim, _) = bench.running(&bundle);
        let exec = Executed::new(&bundle, "e1", &["/bin/true"]);
        shim.client.execute(&exec);
        assert_eq!(shim.client.wait_exec(&exec), Ok(0));
        shim.client.delete_exec(&exec).unwrap();
        drop(exec);
        (shim, bundle)
    };

    let (shim, bundle) = life(&options);
    let states = root.join(&bench.namespace);
    assert!(states.join("c1/state.json").exists(), "its state is not below Root");
    assert!(!bench.run_directory("c1").join("oci").exists(), "its state is in two places");
    assert_eq!(bench.record("c1").unwrap()["oci"]["root"].as_str(), states.to_str());
    bench.end(&shim, bundle);
    assert!(!states.join("c1").exists(), "its state is left below Root");
    for verb in ["create", "start", "exec", "delete"] {
        let calls = spy.calls(verb);
        assert_eq!(calls.len(), 1, "{verb}: {calls:?}");
        assert!(calls[0].windows(2).any(|w| w == ["--root", &text(&states)]), "{calls:?}");
        for option in ["--no-pivot", "--no-new-keyring"] {
            assert_eq!(calls[0].iter().any(|w| w == option), verb == "create", "{calls:?}");
        }
    }

    // Whoever ends it after the daemon's death has the record alone.
    let (shim, bundle) = life(&options);
    shim.daemon.kill();
    bench.delete(&bundle).deleted();
    assert!(!states.join("c1").exists(), "its state is left below Root");
    bundle.remove();

    // Nothing of it is told unasked.
    let before = spy.calls("create").len();
    let (shim, bundle) = life(&Options { binary_name: text(&spy.program), ..Options::default() });
    let create = spy.calls("create").swap_remove(before);
    assert!(!create.iter().any(|w| w.starts_with("--no-") || w == "--systemd-cgroup"), "{create:?}");
    let own = text(&bench.run_directory("c1").join("oci"));
    assert!(create.windows(2).any(|w| w == ["--root", &own]), "{create:?}");
    bench.end(&shim, bundle);
    // And it is not the runtime of those who do not name it.
    let before = spy.calls("create").len();
    let (shim, bundle) = life(&Options::default());
    assert_eq!(spy.calls("create").len(), before);
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn a_name_is_looked_up_in_the_path() {
    let Some(mut bench) = Bench::released() else { return };
    let spy = Spy::new(&bench, "a-spy");
    let path = format!("{}:{}", text(bench.scratch()), std::env::var("PATH").unwrap());
    bench.set_variable("PATH", &path);
    let options = Options { binary_name: "a-spy".to_owned(), ..Options::default() };
    let bundle = with(bench.ordinary("c1", &Spec::ordinary(SLEEPS)).without_stdio(), &options);
    let (shim, _) = bench.running(&bundle);
    assert_eq!(spy.calls("create").len(), 1);
    bench.end(&shim, bundle);
    bench.finish();
}

/// What opens its output anew, and tells whose it is.
const ANEW: &str =
    "echo anew >/proc/self/fd/1 && echo anew >/proc/self/fd/2; busybox stat -L -c %u:%g /proc/self/fd/1";

#[test]
fn its_stdio_is_the_users_of_iouid() {
    let Some(bench) = Bench::released() else { return };
    let options = Options { io_uid: 1000, io_gid: 1001, ..Options::default() };
    let script = format!("{ANEW}; read x; exit 0");
    let spec = Spec::busybox(&script).edit(|s| s["process"]["user"] = user());
    let bundle = with(bench.ordinary("c1", &spec), &options).with_stdin();
    let (shim, _) = bench.running(&bundle);
    bundle.output.as_ref().unwrap().wait_for("anew\n1000:1001\n");
    bundle.errors.as_ref().unwrap().wait_for("anew\n");

    let mut process = process(&["/bin/sh", "-c", ANEW]);
    process["user"] = user();
    let exec = Executed::of(&bundle, "e1", process);
    shim.client.execute(&exec);
    assert_eq!(shim.client.wait_exec(&exec), Ok(0));
    assert_eq!(exec.output.to_end(), "anew\n1000:1001\n");
    assert_eq!(exec.errors.as_ref().unwrap().to_end(), "anew\n");
    shim.client.delete_exec(&exec).unwrap();
    drop(exec);
    shim.client.close_stdin("c1", "");
    assert_eq!(shim.client.wait("c1"), Ok(0));
    bench.end(&shim, bundle);
    bench.finish();
}

fn user() -> serde_json::Value {
    serde_json::json!({"uid": 1000, "gid": 1001})
}

#[test]
fn what_is_not_honoured_is_refused_by_name_and_is_nothing_to_a_guest() {
    let Some(bench) = Bench::released() else { return };
    let of = |options: Options| options.write_to_bytes().unwrap();
    // `criu_path` is field 8, which the bindings have forgotten.
    let criu = [&[8 << 3 | 2, 5][..], b"/criu"].concat();
    let mut cases = vec![
        (
            "ShimCgroup",
            of(Options { shim_cgroup: "/shims".into(), ..Options::default() }),
            Code::UNIMPLEMENTED,
        ),
        ("CriuPath", criu, Code::UNIMPLEMENTED),
        (
            "CriuImagePath",
            of(Options { criu_image_path: "/images".into(), ..Options::default() }),
            Code::UNIMPLEMENTED,
        ),
        (
            "CriuWorkPath",
            of(Options { criu_work_path: "/work".into(), ..Options::default() }),
            Code::UNIMPLEMENTED,
        ),
        (
            "BinaryName",
            of(Options { binary_name: "bin/runc".into(), ..Options::default() }),
            Code::INVALID_ARGUMENT,
        ),
        ("Root", of(Options { root: "states".into(), ..Options::default() }), Code::INVALID_ARGUMENT),
    ];
    if Path::new("/run/systemd/system").exists() {
        skip("systemd runs here: SystemdCgroup is not refused");
    } else {
        let systemd = Options { systemd_cgroup: true, ..Options::default() };
        cases.push(("SystemdCgroup", of(systemd), Code::FAILED_PRECONDITION));
    }
    let any = |value: &[u8]| {
        let type_url = "containerd.runc.v1.Options".to_owned();
        Some(Any { type_url, value: value.to_owned(), ..Any::default() })
    };
    for (name, value, code) in cases {
        let mut bundle = bench.ordinary("c1", &Spec::ordinary(SLEEPS)).without_stdio();
        bundle.options = any(&value);
        let shim = bench.start(&bundle);
        let failure = shim.client.create(&bundle).unwrap_err();
        assert!(failure.message.contains(name), "{name}: {failure:?}");
        assert_eq!(failure.code, Some(code), "{failure:?}");
        assert!(!bench.run_directory("c1").exists() && !bench.is_mounted(&bundle), "{name}");
        shim.client.shutdown("c1");
        bench.delete(&bundle).deleted();
        bundle.remove();

        let mut guest = bench.bundle("c1", &Spec::tiny("exit=3")).without_stdio();
        guest.options = any(&value);
        let (shim, _) = bench.running(&guest);
        assert_eq!(shim.client.wait("c1"), Ok(3), "{name}");
        bench.end(&shim, guest);
    }
    bench.finish();
}

/// What the client opened is the client's: a user of the container is nobody on the host.
#[test]
fn the_clients_own_stdio_stays_the_clients() {
    use std::os::unix::fs::MetadataExt;
    let Some(bench) = Bench::released() else { return };
    let options = Options { io_uid: 1000, io_gid: 1001, ..Options::default() };
    let spec = Spec::busybox("echo said; read x; exit 0").edit(|s| s["process"]["user"] = user());
    let mut bundle = with(bench.ordinary("c1", &spec), &options).with_stdin();
    // A file as well as a FIFO.
    let file = bench.scratch().join("stderr");
    bundle.stderr = format!("file://{}", text(&file));
    let owner = |path: &Path| std::fs::metadata(path).map(|m| (m.uid(), m.gid())).unwrap();
    let (shim, _) = bench.running(&bundle);
    bundle.output.as_ref().unwrap().wait_for("said\n");
    let exec = Executed::new(&bundle, "e1", SLEEPS).with_stdin();
    shim.client.execute(&exec);
    let execs = exec.stdin.parent().unwrap();
    for path in
        [&bundle.path.join("stdin"), &bundle.path.join("stdout"), &file, &exec.stdin, &execs.join("stdout")]
    {
        assert_eq!(owner(path), (0, 0), "{}", path.display());
    }
    shim.client.close_stdin("c1", "");
    assert_eq!(shim.client.wait("c1"), Ok(0));
    drop(exec);
    bench.end(&shim, bundle);
    bench.finish();
}

/// A folder below a Root that several share is no more ours than its name.
#[test]
fn a_strangers_state_below_root_is_not_touched() {
    let Some(bench) = Bench::with_faults() else { return };
    let root = bench.scratch().join("states");
    let strange = root.join(&bench.namespace).join("c1");
    std::fs::create_dir_all(&strange).unwrap();
    std::fs::write(strange.join("state.json"), "{}").unwrap();
    let options = Options { root: text(&root), ..Options::default() };
    // Refused by whoever looks; or cut off where it would have been looked at.
    for faults in [&[][..], &["oci.after-intent=kill"], &["oci.after-intent=error"]] {
        let bundle = with(bench.ordinary("c1", &Spec::ordinary(SLEEPS)).without_stdio(), &options);
        let shim = bench.start(&bundle);
        bench.faults.set(faults);
        shim.client.create(&bundle).unwrap_err();
        bench.faults.set(&[]);
        if shim.daemon.is_alive() {
            shim.client.shutdown("c1");
        }
        bench.delete(&bundle).deleted();
        assert!(strange.join("state.json").exists(), "a stranger's state was removed: {faults:?}");
        bundle.remove();
    }
    bench.finish();
}
