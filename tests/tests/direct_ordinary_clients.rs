//! Clients of an ordinary container come and go: what is executed in it does not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{fs, io::Write};

use urunc_tests::direct::{Bench, Client, Executed, Shim, Spec};

/// containerd goes and comes again in the midst of an exec: its output goes on, its input, its end; the terminal, too.
#[test]
fn an_exec_goes_on_between_two_clients() {
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.ordinary("c1", &Spec::busybox("sleep 1000"));
    let Shim { client, daemon, address } = bench.start(&bundle);
    client.create(&bundle).unwrap();
    client.start("c1").unwrap();
    let script = "echo begun; read line; echo got $line; exit 9";
    let plain = Executed::new(&bundle, "plain", &["/bin/sh", "-c", script]).with_stdin();
    let typed = Executed::on_a_terminal(&bundle, "typed", &["/bin/sh", "-c", script]).with_stdin();
    for exec in [&plain, &typed] {
        client.execute(exec);
        exec.output.wait_for("begun");
    }
    drop(client);

    let client = Client::connect(&address).unwrap();
    for exec in [&plain, &typed] {
        let waiting = client.send_wait_exec("c1", &exec.exec_id);
        fs::OpenOptions::new().write(true).open(&exec.stdin).unwrap().write_all(b"more\n").unwrap();
        exec.output.wait_for("got more");
        assert_eq!(waiting.wait().unwrap().exit_status, 9);
        assert_eq!(client.delete_exec(exec).unwrap().exit_status, 9);
    }
    bench.end(&Shim { client, daemon, address }, bundle);
    bench.finish();
}
