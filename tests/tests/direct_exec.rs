//! What a process that is executed in an ordinary container leaves behind, and what becomes of one whose container ends
//! meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use containerd_shim_protos::api::Status;
use urunc_tests::direct::{Bench, Bundle, Executed, SOON, Shim, Spec, eventually, eventually_some};

/// Always one process: it is counted.
const SLEEPS: &str = "echo ready; exec sleep 1000";
/// More than what a Delete of an exec may wait for who was left behind.
const LONG: Duration = Duration::from_secs(8);

fn run(bench: &Bench, id: &str) -> (Shim, Bundle) {
    let bundle = bench.ordinary(id, &Spec::busybox(SLEEPS));
    let shim = bench.start(&bundle);
    shim.client.create(&bundle).unwrap();
    shim.client.start(id).unwrap();
    bundle.output.as_ref().unwrap().wait_for("ready");
    (shim, bundle)
}

/// A service that was started by an exec goes on, and its client gets the end of the output all the same: whether the
/// service is silent or speaks all the time.
#[test]
fn what_an_exec_leaves_behind_goes_on_and_does_not_keep_its_output() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle) = run(&bench, "c1");
    let before = bench.members("c1").len();
    // As under runc, what it writes behind the cut is a broken pipe.
    let talks = "trap '' PIPE; while :; do echo again; sleep 0.01; done";
    let scripts = [
        ("silent", false, "echo first; sleep 1000 & echo last".to_owned()),
        ("talks", false, format!("echo first; ({talks}) & echo last")),
        ("terminal", true, format!("trap '' HUP; echo first; ({talks}) & echo last")),
    ];
    for (n, (name, terminal, script)) in scripts.iter().enumerate() {
        let args = ["/bin/sh", "-c", script];
        let exec = match terminal {
            true => Executed::on_a_terminal(&bundle, name, &args),
            false => Executed::new(&bundle, name, &args),
        };
        shim.client.execute(&exec);
        assert_eq!(shim.client.wait_exec(&exec), Ok(0), "{name}");
        let began = Instant::now();
        shim.client.delete_exec(&exec).unwrap();
        assert!(began.elapsed() < LONG, "the Delete of {name} took {:?}", began.elapsed());
        let said = exec.output.to_end();
        assert!(said.contains("first") && said.contains("last"), "{name}: {said:?}");
        if !terminal {
            assert!(bench.members("c1").len() > before + n, "what {name} has left behind is gone");
        }
    }
    assert_eq!(shim.client.status("c1"), Ok(Status::RUNNING));
    bench.end(&shim, bundle);
    bench.finish();
}

/// All that it has said is there, however fast it has ended, and nothing is waited for.
#[test]
fn the_output_of_an_exec_is_whole() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle) = run(&bench, "c1");
    for (n, terminal) in [false, true, false, true].into_iter().enumerate() {
        let (name, args) = (format!("e{n}"), ["/bin/seq", "1", "20000"]);
        let exec = match terminal {
            true => Executed::on_a_terminal(&bundle, &name, &args),
            false => Executed::new(&bundle, &name, &args),
        };
        shim.client.execute(&exec);
        assert_eq!(shim.client.wait_exec(&exec), Ok(0));
        shim.client.delete_exec(&exec).unwrap();
        let said = exec.output.to_end();
        let lines: Vec<_> = said.lines().collect();
        assert_eq!((lines.len(), lines.last().copied()), (20000, Some("20000")), "{terminal}");
    }
    bench.end(&shim, bundle);
    bench.finish();
}

/// The container ends right behind the Start of execs on terminals: what they have said is not lost, and who waits is
/// answered.
#[test]
fn an_exec_whose_container_ends_is_answered() {
    let Some(bench) = Bench::released() else { return };
    for n in 0..3 {
        let id = format!("c{n}");
        let (shim, bundle) = run(&bench, &id);
        let exec = Executed::on_a_terminal(&bundle, "e1", &["/bin/sh", "-c", "echo here; sleep 1000"]);
        shim.client.execute(&exec);
        exec.output.wait_for("here");
        shim.client.kill(&id, 9).unwrap();
        assert_eq!(shim.client.wait_exec(&exec), Ok(137));
        shim.client.delete_exec(&exec).unwrap();
        assert_eq!(exec.output.to_end(), "here\r\n");
        eventually("the container is stopped", || shim.client.status(&id) == Ok(Status::STOPPED));
        bench.end(&shim, bundle);
    }
    bench.finish();
}

/// A shell is left, and what it has started in the background goes on: a client has its end all the same, without a Delete,
/// for which CRI has it wait. What goes on may speak, as much as it likes: it is not ended for it, nor held up for good.
#[test]
fn a_terminal_ends_with_the_exec_whatever_it_leaves_behind() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle) = run(&bench, "c1");
    let ticks = "while echo tick; do n=$((n+1)); echo $n >/tmp/ticks; sleep 0.05; done";
    let script =
        format!("busybox setsid sh -c '{ticks}' & busybox setsid seq 1000000000 & sleep 0.3; exit 6");
    let exec = Executed::on_a_terminal(&bundle, "e1", &["/bin/sh", "-c", &script]);
    shim.client.execute(&exec);
    assert_eq!(shim.client.wait_exec(&exec), Ok(6));
    assert!(exec.output.to_end().contains("tick\r\n"));
    shim.client.delete_exec(&exec).unwrap();
    let file = Path::new(&bundle.rootfs[0].source).join("tmp/ticks");
    let ticks = || fs::read_to_string(&file).ok().and_then(|text| text.trim().parse::<u32>().ok());
    let before = eventually_some("it has ticked", ticks);
    // Beside one who says more than anybody may.
    eventually("it goes on", || ticks().is_some_and(|now| now > before + 3));
    bench.end(&shim, bundle);
    bench.finish();
}

/// Whether it has a terminal says the request, whatever its spec says: as with runc's shim.
#[test]
fn the_terminal_of_an_exec_is_the_requests() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle) = run(&bench, "c1");
    let tells = ["/bin/sh", "-c", "tty; exit 4"];
    for (name, terminal, said) in [("wanted", true, "/dev/pts/"), ("unwanted", false, "not a tty")] {
        for spec in ["the opposite", "nothing"] {
            let mut exec = match terminal {
                true => Executed::on_a_terminal(&bundle, &format!("{name}-{}", spec.len()), &tells),
                false => Executed::new(&bundle, &format!("{name}-{}", spec.len()), &tells),
            };
            match spec {
                "nothing" => drop(exec.process.as_object_mut().unwrap().remove("terminal")),
                _ => exec.process["terminal"] = (!terminal).into(),
            }
            shim.client.execute(&exec);
            assert_eq!(shim.client.wait_exec(&exec), Ok(4), "{name}, {spec}");
            shim.client.delete_exec(&exec).unwrap();
            let output = exec.output.to_end();
            assert!(output.contains(said), "{name}, {spec}: {output:?}");
        }
    }
    bench.end(&shim, bundle);
    bench.finish();
}

/// Its Delete comes first, or that of its container.
#[test]
fn who_waits_for_an_exec_that_is_never_started_is_answered() {
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.ordinary("c1", &Spec::busybox(SLEEPS));
    let shim = bench.start(&bundle);
    shim.client.create(&bundle).unwrap();
    let [first, second] = ["e1", "e2"].map(|id| Executed::new(&bundle, id, &["/bin/true"]));
    let waits = [&first, &second].map(|exec| {
        shim.client.exec(exec).unwrap();
        shim.client.send_wait_exec("c1", &exec.exec_id)
    });
    let answer = shim.client.delete_exec(&first).unwrap();
    assert_eq!((answer.pid, answer.exit_status), (0, 0));
    shim.client.delete("c1").unwrap();
    for wait in waits {
        assert_eq!(wait.within(SOON).expect("it is answered").unwrap().exit_status, 0);
    }
    drop((first, second));
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}
