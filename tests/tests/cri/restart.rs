//! containerd is killed and comes back.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use urunc_tests::{
    direct::{Proc, eventually},
    harness::{Container, Event, Events, Image, Job, Member, Node, Pod, SOON, Setup, Version},
};

/// A `start` that was killed may have left a daemon which nobody asked anything: it leaves by itself within 60 s.
const IDLE: Duration = Duration::from_secs(90);

/// Guests run on; what they print and how they end while containerd is away is told afterwards; no daemon is left
/// without a pod.
pub fn pods_outlive_containerd(version: Version) {
    Node::with(version, &Setup::of(&[Image::Tiny]), |node| {
        let pods = ["one", "two"].map(|name| node.runp(&Pod::new(name)));
        let guest =
            |name: &str, words: &[&str]| Container::new(name, Image::Tiny, &[&["tiny"], words].concat());
        let talks = ["say=before", "sleep=4000", "say=after", "hang"];
        let stays = [node.run(&pods[0], &guest("a", &talks)), node.run(&pods[1], &guest("b", &["hang"]))];
        node.wait_for(&stays[0], "before\n", SOON);
        let monitors = stays.each_ref().map(|member| node.member(member));
        let sandboxes = pods.each_ref().map(|pod| node.sandbox(pod));
        let daemons = node.daemons().len();
        // The last one, for it must not be over before containerd is away.
        let ends = node.run(&pods[1], &guest("ends", &["sleep=6000", "exit=9"]));
        let ending = node.member(&ends);

        node.containerd().kill9();
        let now = || time::OffsetDateTime::now_utc().unix_timestamp_nanos();
        let alive = now();
        assert!(ending.is_alive(), "the guest was to run longer than that");
        assert!(ending.ends_within(SOON));
        let is_noted = || node.containerd().record(&ends.id).is_some_and(|record| !record["exit"].is_null());
        eventually("its daemon notes its end", is_noted);
        let gone = now();
        node.containerd().restart();
        node.is_ready(&[]);

        let exit = node.wait_for_exit(&ends);
        assert_eq!(exit.code, 9);
        let told = exit.finished;
        assert!((alive..=gone).contains(&told), "it ended between {alive} and {gone}, and not at {told}");
        for (member, monitor) in stays.iter().zip(&monitors) {
            assert!(monitor.is_alive());
            assert_eq!(node.member(member).pid(), monitor.pid());
            assert_eq!(node.state(member), "CONTAINER_RUNNING");
        }
        for (pod, sandbox) in pods.iter().zip(&sandboxes) {
            assert!(sandbox.is_alive());
            assert_eq!(node.pod_state(pod), "SANDBOX_READY");
        }
        node.wait_for(&stays[0], "before\nafter\n", SOON);
        assert_eq!(node.logs(&stays[0]).text().matches("after").count(), 2, "once, and in the command");
        assert_eq!(node.daemons().len(), daemons);

        // All of it can be used as before.
        node.stop(&stays[1], Duration::from_secs(5));
        assert_eq!(node.wait_for_exit(&stays[1]).code, 143);
        let again = node.run(&pods[1], &guest("b", &["exit=3"]).attempt(1));
        assert_eq!(node.wait_for_exit(&again).code, 3);
        for pod in &pods {
            node.stopp(pod);
            node.rmp(pod);
        }
        eventually("no daemon is left without a pod", || node.daemons().is_empty());
    });
}

/// A sidecar goes on, and so does what is executed in it: its output comes, its exit status is told to the containerd
/// that comes next, and it is reaped. Then all of it can be used as before.
pub fn sidecars_and_what_is_executed_in_them_outlive_containerd(version: Version) {
    const COUNTS: &str = "n=0; while sleep 0.1; do n=$((n+1)); echo $n; done";
    // Its output goes to the client that asked for it, which goes with containerd: it is held by nobody then.
    const EXECUTED: &str = "until [ -e /go ]; do echo more; sleep 0.05; done; echo went on > /result; exit 9";
    Node::with(version, &Setup::of(&[Image::Busybox]), |node| {
        let pod = node.runp(&Pod::new("sidecars"));
        let member = node.run(&pod, &Container::new("counts", Image::Busybox, &["sh", "-c", COUNTS]));
        let executed = Job::start(node.crictl(&["exec", &member.id, "sh", "-c", EXECUTED]));
        executed.wait_for("more\n", SOON);
        node.wait_for(&member, "3\n", SOON);
        let (process, daemon) = (node.member(&member), node.daemon(&pod));

        node.containerd().kill9();
        executed.wait(SOON);
        node.containerd().restart();
        node.is_ready(&[]);
        let events = Events::listen(node.containerd(), Image::Busybox);
        assert!(process.is_alive() && daemon.is_alive());
        assert_eq!(node.state(&member), "CONTAINER_RUNNING");
        // Numbers go on, none is lost.
        let counted = member.text().lines().count();
        eventually("it counts on", || member.text().lines().count() > counted + 5);
        let numbers: Vec<usize> = member.text().lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());

        let inside = |script: &str| node.call(&["exec", "-s", &member.id, "sh", "-c", script]);
        inside("touch /go").expect(0);
        eventually("the exec went on", || inside("cat /result").text().trim() == "went on");
        let told = |event: &Event| {
            let of = |name: &str| event.body[name].clone();
            event.topic == "/tasks/exit" && of("container_id") == *member.id && of("exit_status") == 9
        };
        eventually("its end is told", || {
            events.tasks().iter().any(|event| told(event) && event.body["id"] != *member.id)
        });
        eventually("it is reaped", || inside("ps").text().lines().all(|line| !line.contains("/go")));
        assert_eq!(node.state(&member), "CONTAINER_RUNNING");
        drop(events);
        node.stop(&member, Duration::ZERO);
        assert_eq!(node.wait_for_exit(&member).code, 137);
        node.rm(&member);
        node.stopp(&pod);
        node.rmp(&pod);
    });
}

/// containerd is killed ten times at random moments of a pod's life; whatever that made of the pod, it can be removed,
/// and nothing is left. `make sweep-restart` does it 20 times.
pub fn containerd_is_killed_at_random_moments(version: Version) {
    const KILLS: usize = 10;
    // Longer than what is between two kills.
    const LONGEST: u64 = 700;
    let rounds = std::env::var("URUNC_TEST_SWEEP").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    let Some(node) = Node::begin(version, &Setup::of(&[Image::Tiny])) else { return };
    for round in 0..rounds {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let lives = scope.spawn(|| {
                for n in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return n;
                    }
                    live(&node, &format!("r{round}n{n}"), &over);
                }
                0
            });
            for _ in 0..KILLS {
                let moment = random() % LONGEST;
                thread::sleep(Duration::from_millis(moment));
                node.containerd().kill9();
                node.containerd().restart();
            }
            over.store(true, Ordering::Relaxed);
            assert!(lives.join().unwrap() > 0);
        });
        node.is_ready(&[]);
        tells_the_truth(&node);
        node.rmp_all();
        node.containerd().forget_half_made_netns();
    }
    node.finish_within(IDLE);
}

/// What containerd tells of containers is how they are: who runs has a process, who has ended has none.
fn tells_the_truth(node: &Node) {
    for told in node.ps() {
        let id = told["id"].as_str().unwrap().to_owned();
        let member = Member { id, log: PathBuf::new() };
        // What happened while nobody listened may still be on its way to it.
        eventually("its state is told", || {
            let inspected = node.inspect(&member);
            let alive = living_process(node, &member.id);
            match inspected["status"]["state"].as_str().unwrap() {
                "CONTAINER_RUNNING" => inspected["info"]["pid"].as_i64() == alive,
                "CONTAINER_EXITED" => alive.is_none(),
                // Made, and not yet or never started.
                _ => true,
            }
        });
    }
}

/// The process of a container by its record, if it lives.
fn living_process(node: &Node, id: &str) -> Option<i64> {
    let pid = node.containerd().record(id)?["process"]["pid"].as_i64()?;
    i32::try_from(pid).ok().filter(|pid| *pid > 1).and_then(Proc::find)?;
    Some(pid)
}

/// A pod's life, each part of which may fail: then it goes on with the next one.
fn live(node: &Node, name: &str, over: &AtomicBool) {
    let call = |args: &[&str]| {
        let began = Instant::now();
        let job = Job::start(node.crictl(args));
        while job.is_running() && began.elapsed() < SOON {
            thread::sleep(Duration::from_millis(5));
        }
        let done = if job.is_running() { return None } else { job.wait(SOON) };
        (done.status == Some(0)).then(|| done.text().trim().to_owned())
    };
    let (command, sandbox) = node.runp_command(&Pod::new(name));
    let made = Job::start(command).wait(SOON);
    if made.status != Some(0) {
        return;
    }
    let sandbox = sandbox.with_id(made.text().trim());
    for words in [["say=x", "exit=3"], ["say=y", "hang"]] {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let container = Container::new(
            words[0].split_once('=').unwrap().1,
            Image::Tiny,
            &[&["tiny"], &words[..]].concat(),
        );
        let done = Job::start(node.create_command(&sandbox, &container)).wait(SOON);
        if done.status != Some(0) {
            continue;
        }
        let id = done.text().trim().to_owned();
        call(&["start", &id]);
        call(&["stop", "--timeout", "5", &id]);
        call(&["rm", "--force", &id]);
    }
    call(&["stopp", &sandbox.id]);
    call(&["rmp", &sandbox.id]);
}

fn random() -> u64 {
    let mut bytes = [0u8; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).unwrap();
    u64::from_le_bytes(bytes)
}
