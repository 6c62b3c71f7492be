//! A Resume that fails keeps nobody frozen: whatever the OCI runtime has done of it, the next one gets there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use containerd_shim_protos::api::{Empty, PauseRequest, ResumeRequest, Status};
use urunc_tests::direct::{Bench, Executed, Failure, SOON, Shim, Spec, double, eventually, hangs};

const TICKS: &str = "while :; do echo tick; sleep 0.02; done";

fn pause(shim: &Shim, id: &str) {
    let pause = PauseRequest { id: id.to_owned(), ..PauseRequest::default() };
    shim.client.send::<Empty>("Pause", &pause).wait().unwrap();
    assert_eq!(shim.client.status(id), Ok(Status::PAUSED));
}

fn resume(shim: &Shim, id: &str) -> Result<(), Failure> {
    let resume = ResumeRequest { id: id.to_owned(), ..ResumeRequest::default() };
    shim.client.send::<Empty>("Resume", &resume).wait().map(drop)
}

#[test]
fn one_that_fails_is_tried_again() {
    let Some(mut bench) = Bench::with_faults() else { return };
    let done = "\"$real\" \"$@\";";
    let scripts = [
        // It has done it: and says that it has not, and does not come to say anything, and does not come to its end.
        ("says", format!("{done} echo it broke >&2; exit 1")),
        ("dies", format!("{done} kill -9 $$")),
        ("hangs", format!("{done} {}", hangs(&bench))),
        // It has not.
        ("refuses", "echo it broke >&2; exit 1".to_owned()),
        ("dies-before", "kill -9 $$".to_owned()),
        ("hangs-before", hangs(&bench)),
    ];
    for (id, script) in &scripts {
        bench.set_variable("URUNC_OCI_RUNTIME", &double(&bench, "resume", script));
        let bundle = bench.ordinary(id, &Spec::busybox(TICKS));
        let (shim, _) = bench.running(&bundle);
        let output = bundle.output.as_ref().unwrap();
        output.wait_for("tick");
        pause(&shim, id);
        // One that hangs is given up after this.
        bench.faults.set(&["deadline.pause=500"]);
        let first = resume(&shim, id);
        bench.faults.set(&[]);
        double(&bench, "nothing", ":");
        // Who was told that it is done asks no more.
        if first.is_err() {
            assert_eq!(resume(&shim, id), Ok(()), "{id}: {first:?}");
        }
        assert_eq!(shim.client.status(id), Ok(Status::RUNNING), "{id}: {first:?}");
        let so_far = output.so_far().len();
        eventually("it goes on", || output.so_far().len() > so_far + 20);
        let exec = Executed::new(&bundle, "e1", &["/bin/echo", "here"]);
        shim.client.execute(&exec);
        assert_eq!(shim.client.wait_exec(&exec), Ok(0));
        assert_eq!(exec.output.to_end(), "here\n");
        shim.client.delete_exec(&exec).unwrap();
        bench.events.expect(
            id,
            &["create", "start", "paused", "resumed", "exec-added e1", "exec-started e1", "exec-exit e1"],
        );
        // And it is one like any other.
        pause(&shim, id);
        resume(&shim, id).unwrap();
        drop(exec);
        bench.end(&shim, bundle);
    }
    bench.finish();
}

/// Nobody has to resume it before it can go.
#[test]
fn one_whose_resume_has_failed_can_be_killed() {
    let Some(mut bench) = Bench::released() else { return };
    for (id, script) in [("done", "\"$real\" \"$@\"; exit 1"), ("undone", "exit 1")] {
        bench.set_variable("URUNC_OCI_RUNTIME", &double(&bench, "resume", script));
        let bundle = bench.ordinary(id, &Spec::busybox(TICKS));
        let (shim, _) = bench.running(&bundle);
        pause(&shim, id);
        drop(resume(&shim, id));
        shim.client.kill(id, 9).unwrap();
        let waited = shim.client.send_wait(id).within(SOON);
        assert_eq!(waited.expect("its end is told").map(|r| r.exit_status), Ok(137));
        bench.end(&shim, bundle);
    }
    bench.finish();
}
