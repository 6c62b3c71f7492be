//! `Root` is somebody's folder, who may have a container of the same id there: it is not ours.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use containerd_shim_protos::{shim::oci::Options, ttrpc::Code};
use protobuf::{Message, well_known_types::any::Any};
use rustix::process::Signal;
use serde_json::Value;
use urunc_tests::direct::{Bench, Bundle, Proc, SOON, Spec, eventually, runc};

/// A container that somebody else has made with the OCI runtime itself.
struct Stranger {
    root: PathBuf,
    id: &'static str,
}

impl Stranger {
    /// It runs, below `root`, from the bundle of another id.
    fn run(bench: &Bench, root: &Path, id: &'static str) -> Self {
        // One folder deep: the OCI runtime removes no more.
        Self::run_in(bench, root, id, &format!("/{}-theirs", bench.namespace))
    }

    /// The same in this cgroup.
    fn run_in(bench: &Bench, root: &Path, id: &'static str, cgroup: &str) -> Self {
        // It ends by any signal that it hears.
        let hears = "trap 'exit 1' TERM; sleep 1000 & wait";
        let bundle = bench.ordinary("theirs", &Spec::busybox(hears));
        let config = bundle.path.join("config.json");
        let mut spec: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
        spec["root"]["path"] = bundle.rootfs[0].source.clone().into();
        spec["linux"]["cgroupsPath"] = cgroup.into();
        fs::write(&config, serde_json::to_vec(&spec).unwrap()).unwrap();
        let stranger = Self { root: root.to_owned(), id };
        stranger.call(&["run", "--detach", "--bundle", &bundle.path.to_string_lossy(), id]);
        assert!(stranger.runs());
        stranger
    }

    fn call(&self, args: &[&str]) -> String {
        let mut command = Command::new(runc());
        command.arg("--root").arg(&self.root).args(args).stdin(Stdio::null()).stderr(Stdio::null());
        // A container keeps what it inherits.
        if args[0] == "run" {
            assert!(command.stdout(Stdio::null()).status().unwrap().success());
            return String::new();
        }
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }

    fn runs(&self) -> bool {
        self.call(&["state", self.id]).contains("\"status\": \"running\"")
    }

    fn end(self) {
        self.call(&["delete", "--force", self.id]);
        eventually("it is gone", || !self.root.join(self.id).exists());
        fs::remove_dir_all(&self.root).unwrap();
    }
}

fn bundle(bench: &Bench, root: &Path) -> Bundle {
    let mut bundle = bench.ordinary("c1", &Spec::busybox("sleep 1000"));
    let options = Options { root: root.to_string_lossy().into_owned(), ..Options::default() };
    bundle.options = Some(Any {
        type_url: "containerd.runc.v1.Options".to_owned(),
        value: options.write_to_bytes().unwrap(),
        ..Any::default()
    });
    bundle
}

#[test]
fn somebody_elses_container_of_the_same_id_is_refused() {
    let Some(bench) = Bench::released() else { return };
    let root = bench.scratch().join("shared");
    let theirs = Stranger::run(&bench, &root.join(&bench.namespace), "c1");
    let bundle = bundle(&bench, &root);
    let shim = bench.start(&bundle);
    assert_eq!(shim.client.create(&bundle).unwrap_err().code, Some(Code::ALREADY_EXISTS));
    assert!(!bench.run_directory("c1").exists() && !bench.is_mounted(&bundle));
    assert!(theirs.runs());
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    assert!(theirs.runs());
    theirs.end();
    bundle.remove();
    bench.finish();
}

/// It came between our look and our create, and the daemon died in between: the clean-up finds it where its own would be.
#[test]
fn somebody_who_comes_just_then_is_not_taken_for_ours() {
    let Some(bench) = Bench::with_faults() else { return };
    let root = bench.scratch().join("shared");
    let bundle = bundle(&bench, &root);
    let shim = bench.start(&bundle);
    bench.faults.set(&["plan.made=hold"]);
    let creating = shim.client.send_create(&bundle, std::time::Duration::from_secs(20));
    eventually("the plan is made", || bench.faults.has_fired("plan.made"));
    let theirs = Stranger::run(&bench, &root.join(&bench.namespace), "c1");
    bench.faults.set(&["oci.after-intent=kill"]);
    creating.wait().unwrap_err();
    assert!(bench.faults.has_fired("oci.after-intent") && shim.daemon.ends_within(SOON));
    assert_eq!(bench.record("c1").unwrap()["oci"]["root"], root.join(&bench.namespace).to_str().unwrap());
    bench.faults.set(&[]);
    bench.delete(&bundle).deleted();
    assert!(!bench.run_directory("c1").exists() && !bench.is_mounted(&bundle));
    assert!(theirs.runs());
    theirs.end();
    bundle.remove();
    bench.finish();
}

/// Another runtime has a container of the same namespace and id: its cgroup has the same path. Whatever ends ours, that one
/// goes on.
#[test]
fn a_stranger_who_comes_into_its_cgroup_goes_on() {
    let Some(bench) = Bench::released() else { return };
    let cgroup = format!("/{}/c1", bench.namespace);
    let root = bench.scratch().join("theirs-root");
    const LISTENS: &str = "sleep 1000 & trap 'exit 5' TERM; echo ready; wait; exit 6";
    for how in ["its own end", "KILL for all", "TERM for all", "delete behind a dead daemon"] {
        let bundle = bench.ordinary("c1", &Spec::busybox(LISTENS));
        let (shim, pid) = bench.running(&bundle);
        bundle.output.as_ref().unwrap().wait_for("ready");
        let theirs = Stranger::run_in(&bench, &root, "c1", &cgroup);
        let own = bench.members("c1").len();
        let status = match how {
            "its own end" => shim.client.kill("c1", 9).map(|()| Some(137)).unwrap(),
            "KILL for all" => shim.client.kill_all("c1", 9).map(|()| Some(137)).unwrap(),
            // Its other process hears it, too.
            "TERM for all" => {
                Proc::of(pid.cast_signed()).stop();
                shim.client.kill_all("c1", 15).unwrap();
                eventually("its child has ended", || {
                    bench.members("c1").iter().filter(|p| p.is_alive()).count() < own
                });
                Proc::of(pid.cast_signed()).signal(Signal::CONT);
                Some(5)
            }
            _ => {
                shim.daemon.kill();
                None
            }
        };
        if let Some(status) = status {
            assert_eq!(shim.client.wait("c1"), Ok(status), "{how}");
            bench.end(&shim, bundle);
        } else {
            bench.delete(&bundle).deleted();
            bundle.remove();
        }
        assert!(theirs.runs(), "{how}");
        theirs.end();
        // The path was ours, and goes with whoever leaves it last: the next action sees to it.
        bench.run("next", 0);
    }
    bench.finish();
}
