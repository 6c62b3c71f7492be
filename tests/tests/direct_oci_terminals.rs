//! The daemon dies while the OCI runtime is at work for it with a terminal: what the two have put into the run directory
//! for the time of that call goes with it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{fs, path::PathBuf};

use urunc_tests::direct::{Bench, Bundle, Executed, Proc, SOON, Spec, double, eventually, hanging, hangs};

/// What a double does first that hangs then, as a runtime does that dies while it writes: both the pid file and the
/// temporary one from which it would be renamed are there.
const WRITES: &str = "for word; do if [ \"$file\" = next ]; then file=$word; fi; \
                      if [ \"$word\" = --pid-file ]; then file=next; fi; done; \
                      echo 4000000 >$file; echo 4000000 >${file%/*}/.${file##*/}";

/// The names in a run directory, and in its folders, that begin like this.
fn names(bench: &Bench, like: &[&str]) -> Vec<String> {
    let entries = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries(bench.run_directory("c1")).map(|e| e.path()).filter(|path| path.is_dir());
    let all = entries(bench.run_directory("c1")).chain(folders.flat_map(entries));
    let names = all.map(|e| e.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| like.iter().any(|l| name.starts_with(l))).collect();
    names.sort();
    names
}

/// `delete` leaves nothing of one whose daemon is dead.
#[track_caller]
fn goes(bench: &Bench, bundle: Bundle, hung: &Proc) {
    assert!(hung.ends_within(SOON), "the OCI runtime outlives the daemon");
    bench.delete(&bundle).deleted();
    let left = names(bench, &[""]);
    assert!(!bench.run_directory("c1").exists(), "the run directory is left, with {left:?}");
    assert!(bench.members("c1").is_empty() && !bench.is_mounted(&bundle));
    bundle.remove();
}

#[test]
fn an_exec_that_was_at_work_leaves_no_file() {
    let Some(mut bench) = Bench::released() else { return };
    let scripts = [hangs(&bench), format!("{WRITES}; {}", hangs(&bench))];
    // Such a process may be there already, with a terminal that nobody takes.
    let made = format!("\"$real\" \"$@\"; {}", hangs(&bench));
    for script in [&scripts[0], &scripts[1], &made] {
        hangs(&bench);
        bench.set_variable("URUNC_OCI_RUNTIME", &double(&bench, "exec", script));
        let bundle = bench.ordinary("c1", &Spec::busybox("exec sleep 1000")).without_stdio();
        let (shim, _) = bench.running(&bundle);
        let terminal = Executed::on_a_terminal(&bundle, "e1", &["/bin/sleep", "1000"]);
        shim.client.exec(&terminal).unwrap();
        let starting = shim.client.send_start_exec(&terminal);
        let hung = hanging(&bench);
        eventually("a socket for its terminal", || !names(&bench, &["console"]).is_empty());
        if *script != scripts[0] {
            assert!(!names(&bench, &["pid", ".pid"]).is_empty(), "{:?}", names(&bench, &[""]));
        }
        shim.daemon.kill();
        starting.wait().unwrap_err();
        drop(terminal);
        goes(&bench, bundle, &hung);
        bench.check();
    }
    bench.finish();
}

#[test]
fn two_execs_that_were_at_work_leave_no_file() {
    let Some(mut bench) = Bench::released() else { return };
    bench.set_variable("URUNC_OCI_RUNTIME", &double(&bench, "exec", &format!("{WRITES}; {}", hangs(&bench))));
    let bundle = bench.ordinary("c1", &Spec::busybox("exec sleep 1000")).without_stdio();
    let (shim, _) = bench.running(&bundle);
    let typed = Executed::on_a_terminal(&bundle, "e1", &["/bin/sleep", "1000"]);
    let plain = Executed::new(&bundle, "e2", &["/bin/sleep", "1000"]);
    let mut at_work = vec![];
    for exec in [&typed, &plain] {
        shim.client.exec(exec).unwrap();
        at_work.push(shim.client.send_start_exec(exec));
    }
    eventually("both are at work", || {
        names(&bench, &["pid"]).len() == 2 && names(&bench, &[".pid"]).len() == 2
    });
    let hung = hanging(&bench);
    shim.daemon.kill();
    at_work.into_iter().for_each(|call| drop(call.wait().unwrap_err()));
    drop((typed, plain));
    goes(&bench, bundle, &hung);
    bench.finish();
}

#[test]
fn a_create_that_was_at_work_leaves_no_file() {
    let Some(mut bench) = Bench::released() else { return };
    let scripts = [
        hangs(&bench),
        format!("{WRITES}; {}", hangs(&bench)),
        // Its init is there, and its terminal.
        format!("\"$real\" \"$@\"; {}", hangs(&bench)),
    ];
    for script in &scripts {
        hangs(&bench);
        bench.set_variable("URUNC_OCI_RUNTIME", &double(&bench, "create", script));
        let spec = Spec::busybox("exec sleep 1000").on_a_terminal();
        let mut bundle = bench.ordinary("c1", &spec).without_stdio();
        bundle.terminal = true;
        let shim = bench.start(&bundle);
        let creating = shim.client.send_create(&bundle, 6 * SOON);
        let hung = hanging(&bench);
        eventually("a socket for its terminal", || !names(&bench, &["console"]).is_empty());
        shim.daemon.kill();
        creating.wait().unwrap_err();
        goes(&bench, bundle, &hung);
        bench.check();
    }
    bench.finish();
}
