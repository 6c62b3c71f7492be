//! Ordinary containers: busybox, as under runc's own shim.

use urunc_tests::{
    direct::{Proc, eventually, eventually_some},
    harness::{Events, Image, Job, SOON, Test, Version, on_terminal},
};

const WAITS: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done";

/// `ctr run`: output, errors and the exit status; `-t`: a terminal with what is typed.
pub fn busybox_says_what_it_has_to_and_ends_with_its_own_status(version: Version) {
    Test::with(version, &[Image::Busybox], |containerd| {
        for status in [0, 7] {
            let script = format!("echo out; echo err >&2; exit {status}");
            let done = containerd.run(Image::Busybox, "c", &["sh", "-c", &script]).expect(status);
            // ctr itself may warn of the host.
            assert!(done.text() == "out\n" && done.stderr.ends_with("err\n"), "{done}");
        }
        let script = "tty; read line; echo got $line; exit 4";
        let words = ["sh", "-c", script];
        let run = containerd.run_command(&["--rm", "-t"], Image::Busybox.name(), "tty", &words);
        let mut typed = on_terminal(&run);
        typed.wait_for("/dev/pts/", SOON);
        typed.type_in("hello\n");
        let done = typed.wait(SOON).expect(4);
        assert!(done.text().contains("got hello"), "{done}");
    });
}

/// `ctr task exec`, with a status, on a terminal, and killed alone; `ps`, `pause`, `resume`, `metrics`, `kill`; and what
/// is not done for it either.
pub fn processes_are_executed_in_busybox(version: Version) {
    Test::with(version, &[Image::Busybox], |containerd| {
        let events = Events::listen(containerd, Image::Busybox);
        let task = containerd.run_detached(Image::Busybox, "c", &["sh", "-c", WAITS]);

        let exec = |id: &str, flags: &[&str], words: &[&str]| {
            let fifos = containerd.scratch().join("fifo").to_string_lossy().into_owned();
            let fixed = ["task", "exec", "--fifo-dir", &fifos, "--exec-id", id];
            containerd.ctr(&[&fixed, flags, &["c"], words].concat())
        };
        let done = Job::start(exec("e1", &[], &["sh", "-c", "echo out; echo err >&2; exit 9"])).wait(SOON);
        assert_eq!((done.status, done.text().as_str()), (Some(9), "out\n"), "{done}");
        assert!(done.stderr.contains("err\n"), "{done}");
        let mut typed = on_terminal(&exec("e2", &["-t"], &["sh"]));
        typed.type_in("echo $((6*7)); exit 5\n");
        let done = typed.wait(SOON).expect(5);
        assert!(done.text().contains("42"), "{done}");

        let sleeps = Job::start(exec("e3", &[], &["sleep", "1000"]));
        let pids = eventually_some("two processes", || {
            Some(containerd.pids("c")).filter(|pids| pids.iter().any(|pid| is_sleep_1000(*pid)))
        });
        assert!(pids.contains(&task.pid), "{pids:?}");
        containerd.call(&["task", "kill", "--exec-id", "e3", "-s", "SIGTERM", "c"]).expect(0);
        sleeps.wait(SOON).expect(143);

        containerd.call(&["task", "pause", "c"]).expect(0);
        containerd.wait_for_status("c", "PAUSED");
        containerd.call(&["task", "resume", "c"]).expect(0);
        containerd.wait_for_status("c", "RUNNING");
        let metrics = containerd.call(&["task", "metrics", "--format", "json", "c"]).expect(0).text();
        assert!(metrics.contains("memory"), "{metrics}");
        let refused = containerd.call(&["task", "checkpoint", "c"]);
        assert!(refused.status != Some(0) && !refused.stderr.contains("not found"), "{refused}");
        containerd.wait_for_status("c", "RUNNING");

        let process = Proc::of(task.pid);
        containerd.kill("c", "SIGTERM");
        containerd.wait_for_status("c", "STOPPED");
        assert!(!process.is_alive());
        assert_eq!(containerd.delete("c"), 3);
        let topics = || {
            let of = events.tasks().into_iter().filter(|e| e.body["container_id"] == "c");
            of.map(|e| e.topic).collect::<Vec<_>>()
        };
        let count = |topic: &str| topics().iter().filter(|t| *t == topic).count();
        // The last one, behind the exits of three execs and of the container.
        eventually("its end is told", || count("/tasks/delete") > 0);
        assert_eq!(topics()[..2], ["/tasks/create", "/tasks/start"], "{:?}", topics());
        assert_eq!(count("/tasks/exec-started"), 3, "{:?}", topics());
        assert_eq!(count("/tasks/exit"), 4, "{:?}", topics());
    });
}

fn is_sleep_1000(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x001000\x00")
}

/// It lives on when containerd is killed; what ends meanwhile is told afterwards. Its daemon's death is its own: nothing
/// of it stays.
pub fn busybox_outlives_containerd_and_not_its_daemon(version: Version) {
    Test::with(version, &[Image::Busybox], |containerd| {
        let task = containerd.run_detached(Image::Busybox, "c", &["sh", "-c", WAITS]);
        let process = Proc::of(task.pid);
        containerd.kill9();
        containerd.restart();
        assert_eq!(containerd.task("c").unwrap(), task);
        let exec = ["task", "exec", "--exec-id", "e", "c", "echo", "hello"];
        assert_eq!(containerd.call(&exec).expect(0).text(), "hello\n");
        containerd.kill9();
        process.kill();
        containerd.restart();
        containerd.wait_for_status("c", "STOPPED");
        assert_eq!(containerd.delete("c"), 137);

        let task = containerd.run_detached(Image::Busybox, "d", &["sh", "-c", WAITS]);
        let process = Proc::of(task.pid);
        containerd.daemon("d").kill();
        assert!(process.ends_within(SOON), "it outlives its daemon's delete");
        eventually("the shim's own clean-up is done", || containerd.has_forgotten("d"));
        containerd.forget("d");
    });
}
