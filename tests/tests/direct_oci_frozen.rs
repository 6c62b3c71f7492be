//! Containers that are paused, or are just being paused, and are to end: on cgroup v1 what is frozen does not die of a
//! signal before it goes on. And containers of whose cgroup we do not know where it is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{fs, os::unix::fs::PermissionsExt};

use containerd_shim_protos::api::{Empty, PauseRequest, Status};
use urunc_tests::direct::{Bench, Bundle, Pending, Proc, SOON, Shim, Spec, double, eventually, hanging};

const SLEEPS: &[&str] = &["/bin/sleep", "1000"];

fn pause(shim: &Shim) -> Pending<Empty> {
    shim.client.send("Pause", &PauseRequest { id: "c1".to_owned(), ..PauseRequest::default() })
}

/// A path that is relative to where the OCI runtime happens to be: which that is we do not know.
fn at_a_relative_path(bench: &Bench) -> Bundle {
    let path = format!("{}-c1", bench.namespace);
    let spec = Spec::ordinary(SLEEPS).edit(|spec| spec["linux"]["cgroupsPath"] = path.into());
    bench.ordinary("c1", &spec).without_stdio()
}

/// The OCI runtime has frozen it, and has not said so yet: its Pause is answered, or fails, and it ends.
#[test]
fn one_that_is_killed_while_it_is_paused_ends() {
    let Some(mut bench) = Bench::released() else { return };
    let hanging_file = bench.scratch().join("hanging");
    for ends in ["exit 0", "exit 1"] {
        let script = format!(
            "\"$real\" \"$@\"; echo $$ >{0}.new; mv {0}.new {0}; while [ -e {0} ]; do sleep 0.02; done; {ends}",
            hanging_file.display()
        );
        bench.set_variable("URUNC_OCI_RUNTIME", &double(&bench, "pause", &script));
        let bundle = bench.ordinary("c1", &Spec::ordinary(SLEEPS)).without_stdio();
        let (shim, pid) = bench.running(&bundle);
        let (init, pausing) = (Proc::of(pid.cast_signed()), pause(&shim));
        hanging(&bench);
        shim.client.kill("c1", 9).unwrap();
        fs::remove_file(&hanging_file).unwrap();
        pausing.wait().ok();
        assert!(init.ends_within(SOON), "{ends}: it was killed, and lives");
        assert_eq!(shim.client.wait("c1"), Ok(137), "{ends}");
        bench.end(&shim, bundle);
    }
    bench.finish();
}

#[test]
fn one_that_is_paused_wherever_it_is_ends() {
    let Some(bench) = Bench::released() else { return };
    let logger = bench.scratch().join("logger");
    fs::write(&logger, "#!/bin/sh\nexec 5>&-\nexec cat <&3 >/dev/null\n").unwrap();
    fs::set_permissions(&logger, fs::Permissions::from_mode(0o700)).unwrap();
    for how in ["kill", "delete", "delete before its logger", "delete behind a dead daemon"] {
        let mut bundle = at_a_relative_path(&bench);
        // It is ended first, for a logger may be slow.
        if how.ends_with("logger") {
            bundle.stdout = format!("binary://{}", logger.display());
        }
        let (shim, pid) = bench.running(&bundle);
        let init = Proc::of(pid.cast_signed());
        pause(&shim).wait().unwrap();
        assert_eq!(shim.client.status("c1"), Ok(Status::PAUSED));
        match how {
            "kill" => {
                shim.client.kill("c1", 9).unwrap();
                assert_eq!(shim.client.wait("c1"), Ok(137));
                bench.end(&shim, bundle);
            }
            "delete" | "delete before its logger" => {
                assert_eq!(bench.delete(&bundle).deleted().exit_status, 137);
                shim.client.shutdown("c1");
                bundle.remove();
            }
            _ => {
                shim.daemon.kill();
                assert_eq!(bench.delete(&bundle).deleted().exit_status, 137);
                bundle.remove();
            }
        }
        assert!(!init.is_alive(), "{how}");
        eventually("nothing of it is left", || !bench.run_directory("c1").exists());
        bench.check();
    }
    bench.finish();
}
