//! What people type into a guest, the same with `docker` and with `nerdctl`.

use urunc_tests::harness::{Cli, Image, Job, SOON, on_terminal};

/// `run -i`.
pub fn input_without_a_terminal_reaches_the_guest(cli: &impl Cli) {
    let mut job = Job::to_type_in(cli.run_command(&["--rm", "-i"], Image::Tiny, &["echo", "exit=5"]));
    job.wait_for("tiny: echo\n", SOON);
    job.type_in("one\n");
    job.wait_for("one\n", SOON);
    job.type_in("two\nquit\n");
    let done = job.wait(SOON).expect(5);
    assert_eq!(done.text(), "tiny: unikernel -- echo exit=5\ntiny: echo\none\ntwo\n");
}

/// `run -it`, the keys that detach, `attach`.
pub fn a_client_detaches_and_another_one_attaches(cli: &impl Cli) {
    let run = ["-it", "--name", "typed"];
    let mut first = on_terminal(&cli.run_command(&run, Image::Tiny, &["echo", "exit=5"]));
    first.wait_for("tiny: echo", SOON);
    first.type_in("one\r");
    first.wait_for("one", SOON);
    first.type_in("\x10");
    first.type_in("\x11");
    first.wait(SOON);
    assert_eq!(cli.inspect("typed")["State"]["Status"], "running");

    let mut second = on_terminal(&cli.command(&["attach", "typed"]));
    second.type_in("two\r");
    second.wait_for("two", SOON);
    second.type_in("quit\r");
    second.wait(SOON).expect(5);
    assert_eq!(cli.wait_for_status("typed", "exited")["ExitCode"], 5);
    cli.call(&["rm", "typed"]).expect(0);
}
