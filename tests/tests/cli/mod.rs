//! What people do the same with `docker` and with `nerdctl`: what they type into a guest, and ordinary containers.

use std::{thread, time::Duration};

use urunc_tests::{
    direct::{Proc, eventually},
    harness::{Cli, Image, Job, SOON, on_terminal},
};

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

/// `pause` and `unpause`: a guest that says something every half second is silent in between. It ticks for as long as
/// its arguments go, so that nobody has to hurry, and is left running.
pub fn a_guest_ticks_but_not_while_it_is_paused(cli: &impl Cli, name: &str) {
    const TICK: Duration = Duration::from_millis(500);
    let words: Vec<_> = (0..27).flat_map(|n| [format!("say=tick{n}"), "sleep=500".to_owned()]).collect();
    let words: Vec<_> = words.iter().map(String::as_str).chain(["hang"]).collect();
    cli.run_detached(name, &[], Image::Tiny, &words);
    let ticks = || {
        let logs = cli.call(&["logs", name]).expect(0).text();
        logs.lines().filter(|line| line.starts_with("tick")).count()
    };
    eventually("it ticks", || ticks() > 0);
    cli.call(&["pause", name]).expect(0);
    cli.wait_for_status(name, "paused");
    // What it has said before may be on its way.
    eventually("a paused guest is silent", || {
        let before = ticks();
        thread::sleep(2 * TICK);
        ticks() == before
    });
    let before = ticks();
    thread::sleep(4 * TICK);
    assert_eq!(ticks(), before, "a paused guest went on");
    cli.call(&["unpause", name]).expect(0);
    cli.wait_for_status(name, "running");
    eventually("it goes on", || ticks() > before);
}

/// `run`, `run -it`, `run -i` of busybox, which is no guest.
pub fn busybox_runs_as_under_runc(cli: &impl Cli) {
    let script = "echo out; echo err >&2; exit 7";
    let done = cli.run(&[], Image::Busybox, &["sh", "-c", script]).expect(7);
    assert_eq!((done.text().as_str(), done.stderr.as_str()), ("out\n", "err\n"));

    let script = "tty; read line; echo got $line; exit 4";
    let flags = ["--rm", "-it"];
    let mut typed = on_terminal(&cli.run_command(&flags, Image::Busybox, &["sh", "-c", script]));
    typed.wait_for("/dev/", SOON);
    typed.type_in("hello\r");
    let done = typed.wait(SOON).expect(4);
    assert!(done.text().contains("got hello"), "{done}");

    let mut job = Job::to_type_in(cli.run_command(&["--rm", "-i"], Image::Busybox, &["cat"]));
    job.type_in("one\n");
    job.wait_for("one\n", SOON);
    job.close_input();
    job.wait(SOON).expect(0);
}

/// A detached one: `exec` (with a status, on a terminal, with input), `logs`, `pause`, `stop`, `start`, `rm`.
pub fn busybox_is_executed_in_stopped_and_removed(cli: &impl Cli) {
    let waits = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    cli.run_detached("box", &[], Image::Busybox, &["sh", "-c", waits]);
    cli.wait_for_logs("box", "ready\n");

    let script = "echo $WORD; id -u; pwd; echo err >&2; exit 9";
    let flags = ["exec", "-e", "WORD=word", "-u", "1000", "-w", "/tmp", "box"];
    let done = cli.call(&[&flags[..], &["sh", "-c", script]].concat());
    // nerdctl's own status is 1, and it says the command's.
    assert!(done.status == Some(9) || done.stderr.contains("exit code 9"), "{done}");
    assert_eq!(done.text(), "word\n1000\n/tmp\n");
    assert!(done.stderr.starts_with("err\n"), "{done}");
    let mut typed = on_terminal(&cli.command(&["exec", "-it", "box", "sh"]));
    typed.type_in("tty; echo $((6*7)); exit\r");
    let done = typed.wait(SOON).expect(0);
    assert!(done.text().contains("/dev/pts/") && done.text().contains("42"), "{done}");
    let mut cat = Job::to_type_in(cli.command(&["exec", "-i", "box", "cat"]));
    cat.type_in("meow\n");
    cat.wait_for("meow\n", SOON);
    cat.close_input();
    cat.wait(SOON).expect(0);

    cli.call(&["pause", "box"]).expect(0);
    cli.wait_for_status("box", "paused");
    cli.call(&["unpause", "box"]).expect(0);
    cli.call(&["exec", "box", "true"]).expect(0);

    let process = Proc::of(cli.pid("box"));
    cli.call(&["stop", "-t", "15", "box"]).expect(0);
    assert!(!process.is_alive());
    assert_eq!(cli.wait_for_status("box", "exited")["ExitCode"], 3);
    assert_eq!(cli.wait_for_logs("box", "bye\n"), "ready\nbye\n");
    // Once more, and it is removed while it runs.
    cli.call(&["start", "box"]).expect(0);
    let process = Proc::of(cli.pid("box"));
    cli.call(&["exec", "box", "true"]).expect(0);
    cli.call(&["rm", "-f", "box"]).expect(0);
    assert!(!process.is_alive());
}

/// What is not there, and what cannot be executed, is told by the status, which is the client's, and in words.
pub fn what_cannot_be_executed_is_told_by_the_status(cli: &impl Cli, [missing, forbidden]: [i32; 2]) {
    for (program, status, why) in [
        ("nosuchprogram", missing, "executable file not found"),
        ("/bin/none", missing, "no such file"),
        ("/etc/hosts", forbidden, "permission denied"),
    ] {
        let done = cli.run(&["--entrypoint", program], Image::Busybox, &[]).expect(status);
        assert!(done.stderr.contains(why), "{done}");
        // `--rm` of what could not be started goes on in the background.
        eventually("nothing is kept", || cli.call(&["ps", "-aq"]).expect(0).text().is_empty());
    }
}

/// A container ends with its first process, whatever that leaves behind, and `--rm` removes it.
pub fn what_runs_in_the_background_ends_with_busybox(cli: &impl Cli) {
    for flags in [&[][..], &["--pid", "host"]] {
        let script = "sleep 12345 >/dev/null 2>&1 & echo $!; exit 6";
        let done = cli.run(flags, Image::Busybox, &["sh", "-c", script]).expect(6);
        assert!(done.took < SOON, "{done}");
        if !flags.is_empty() {
            // Nobody ends it there but us: its pid namespace lives on.
            let pid = done.text().trim().parse().unwrap();
            assert!(Proc::find(pid).is_none_or(|process| !process.is_alive()), "{done}");
        }
        // With the output in its hands, too.
        let done = cli.run(flags, Image::Busybox, &["sh", "-c", "sleep 12345 & exit 5"]).expect(5);
        assert!(done.took < SOON, "{done}");
        assert_eq!(cli.call(&["ps", "-aq"]).expect(0).text(), "");
    }
}
