//! crun as the OCI runtime, named by `BinaryName`: the life of an ordinary container is the same.
//!
//! crun refuses hybrid cgroups. There it runs with a mount table of its own that does not show the v2 tree.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use containerd_shim_protos::{
    api::{Empty, PauseRequest, ResumeRequest, Status},
    shim::oci::Options,
    ttrpc::Code,
};
use protobuf::{Message, well_known_types::any::Any};
use urunc_tests::direct::{Bench, Bundle, Executed, Shim, Spec, cache, eventually, skip};

const SLEEPS: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";

/// crun, as it can run here; `None`: it cannot, which was said.
fn crun(bench: &Bench) -> Option<PathBuf> {
    let real = cache().join("crun/bin/crun");
    if !real.exists() {
        skip(&format!("crun: there is no {}; run `make deps`", real.display()));
        return None;
    }
    if !Path::new("/sys/fs/cgroup/unified").exists() {
        return Some(real);
    }
    let double = bench.scratch().join("crun");
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/oci-runtime/tests/real/doubles/crun.sh");
    symlink(text.canonicalize().unwrap(), &double).unwrap();
    symlink(real, bench.scratch().join("crun.real")).unwrap();
    Some(double)
}

/// A bundle whose container is given to crun, which keeps its state below `root`.
fn bundle(bench: &Bench, id: &str, spec: &Spec, crun: &Path, root: &Path) -> Bundle {
    let mut bundle = bench.ordinary(id, spec);
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let options = Options { binary_name: text(crun), root: text(root), ..Options::default() };
    bundle.options = Some(Any {
        type_url: "containerd.runc.v1.Options".to_owned(),
        value: options.write_to_bytes().unwrap(),
        ..Any::default()
    });
    bundle
}

fn run(bench: &Bench, bundle: &Bundle) -> (Shim, u32) {
    let shim = bench.start(bundle);
    let pid = shim.client.create(bundle).unwrap();
    assert_eq!(shim.client.start(&bundle.id), Ok(pid));
    (shim, pid)
}

#[test]
fn a_life_with_every_verb() {
    let Some(bench) = Bench::released() else { return };
    let Some(crun) = crun(&bench) else { return bench.finish() };
    let root = bench.scratch().join("cruns");
    let bundle = bundle(&bench, "c1", &Spec::busybox(SLEEPS), &crun, &root);
    let (shim, pid) = run(&bench, &bundle);
    let client = &shim.client;
    bundle.output.as_ref().unwrap().wait_for("ready\n");
    // It is crun's, and where `Root` says.
    let state = root.join(&bench.namespace).join("c1/status");
    let status: serde_json::Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
    assert_eq!(status["pid"], pid, "{status}");

    let exec = Executed::new(&bundle, "e1", &["/bin/sh", "-c", "echo out; echo err >&2; exit 9"]);
    client.execute(&exec);
    assert_eq!(client.wait_exec(&exec), Ok(9));
    assert_eq!(
        (exec.output.to_end().as_str(), exec.errors.as_ref().unwrap().to_end().as_str()),
        ("out\n", "err\n")
    );
    client.delete_exec(&exec).unwrap();
    let typed = Executed::on_a_terminal(&bundle, "typed", &["/bin/tty"]);
    client.execute(&typed);
    assert_eq!(client.wait_exec(&typed), Ok(0));
    assert!(typed.output.to_end().starts_with("/dev/pts/"));
    client.delete_exec(&typed).unwrap();

    let pause = PauseRequest { id: "c1".to_owned(), ..PauseRequest::default() };
    client.send::<Empty>("Pause", &pause).wait().unwrap();
    assert_eq!(client.status("c1"), Ok(Status::PAUSED));
    let resume = ResumeRequest { id: "c1".to_owned(), ..ResumeRequest::default() };
    client.send::<Empty>("Resume", &resume).wait().unwrap();
    assert_eq!(client.status("c1"), Ok(Status::RUNNING));
    client.kill("c1", 15).unwrap();
    assert_eq!(client.wait("c1"), Ok(3));
    bench.end(&shim, bundle);
    assert!(!state.exists());
    bench.finish();
}

#[test]
fn what_cannot_be_executed_harms_nothing() {
    let Some(bench) = Bench::released() else { return };
    let Some(crun) = crun(&bench) else { return bench.finish() };
    let root = bench.scratch().join("cruns");
    let none = bundle(&bench, "c1", &Spec::ordinary(&["/nonexistent"]), &crun, &root).without_stdio();
    let shim = bench.start(&none);
    let failure = shim.client.create(&none).unwrap_err();
    assert!(failure.message.contains("nonexistent") && failure.message.contains("undone"), "{failure:?}");
    assert_eq!(shim.client.delete("c1").unwrap_err().code, Some(Code::NOT_FOUND));
    shim.client.shutdown("c1");
    bench.delete(&none).deleted();
    none.remove();
    bench.check();

    let bundle = bundle(&bench, "c2", &Spec::busybox(SLEEPS), &crun, &root);
    let (shim, _) = run(&bench, &bundle);
    let exec = Executed::new(&bundle, "none", &["/nonexistent"]);
    shim.client.exec(&exec).unwrap();
    let refused = shim.client.start_exec(&exec).unwrap_err();
    assert!(refused.message.contains("nonexistent"), "{refused:?}");
    assert_eq!(shim.client.status("c2"), Ok(Status::RUNNING));
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn a_dead_daemons_container_is_unwound() {
    let Some(bench) = Bench::released() else { return };
    let Some(crun) = crun(&bench) else { return bench.finish() };
    let root = bench.scratch().join("cruns");
    let bundle = bundle(&bench, "c1", &Spec::busybox(SLEEPS), &crun, &root);
    let (shim, _) = run(&bench, &bundle);
    let members = bench.members("c1");
    assert!(!members.is_empty());
    shim.daemon.kill();
    bench.delete(&bundle).deleted();
    eventually("they are gone", || members.iter().all(|member| !member.is_alive()));
    assert!(!root.join(&bench.namespace).join("c1").exists() && !bench.is_mounted(&bundle));
    bundle.remove();
    bench.finish();
}
