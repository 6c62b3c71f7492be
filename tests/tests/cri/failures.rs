//! What goes wrong in the middle: whatever it is, nothing is left, and the node goes on.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use urunc_tests::{
    direct::eventually,
    harness::{Container, Image, Job, Node, Pod, SOON, Setup, Version},
};

/// A `start` that was killed has left a daemon which nobody asked anything: it leaves by itself within 60 s.
const IDLE: Duration = Duration::from_secs(90);
/// containerd gives `delete` 5 s; somebody else may go on with what it began.
const LATE: Duration = Duration::from_secs(15);

fn hang(name: &str) -> Container {
    Container::new(name, Image::Tiny, &["tiny", "hang"])
}

/// A pod with a guest can be made and removed.
fn works(node: &Node) {
    node.faults().set(&[]);
    let pod = node.runp(&Pod::new("works"));
    let member = node.run(&pod, &hang("guest"));
    node.wait_for(&member, "hang\n", SOON);
    node.rmp_force(&pod);
}

/// (a) A Create that fails is the container's own failure, told in the shim's words; the pod and its other guests go on.
pub fn a_create_that_fails_harms_nobody_else(version: Version) {
    Node::with(version, &Setup::of(&[Image::Tiny]), |node| {
        let pod = node.runp(&Pod::new("create"));
        let other = node.run(&pod, &hang("other"));
        let daemon = node.daemon(&pod).pid();
        let container = hang("refused").annotation("com.urunc.unikernel.binary", "/nowhere");
        let member = node.create(&pod, &container);
        let done = node.call(&["start", &member.id]);
        assert!(done.status != Some(0), "{done}");
        let exit = node.wait_for_exit(&member);
        assert_eq!((exit.code, exit.reason.as_str()), (128, "StartError"));
        assert!(exit.message.contains("\"/nowhere\" is not in the image"), "{exit:?}");
        eventually("nothing is left of it", || node.containerd().has_no_files(&member.id));
        assert_eq!(node.state(&other), "CONTAINER_RUNNING");
        node.rm(&member);
        let next = node.run(&pod, &Container::new("refused", Image::Tiny, &["tiny", "exit=4"]).attempt(1));
        assert_eq!(node.wait_for_exit(&next).code, 4);
        assert_eq!(node.daemon(&pod).pid(), daemon);
        node.rmp_force(&pod);
    });
}

/// (b) The daemon is killed: the pod's guests and its sandbox end with it, containerd hears of it, and the name can be
/// used again.
pub fn a_daemon_that_is_killed_takes_its_pod_with_it(version: Version) {
    Node::with(version, &Setup::of(&[Image::Tiny]), |node| {
        let beside = node.runp(&Pod::new("beside"));
        let untouched = node.run(&beside, &hang("guest"));
        for members in 0..3 {
            let pod = node.runp(&Pod::new("daemon"));
            let names = ["a", "b"];
            let members: Vec<_> = names[..members].iter().map(|name| node.run(&pod, &hang(name))).collect();
            let mut processes: Vec<_> = members.iter().map(|member| node.member(member)).collect();
            processes.push(node.sandbox(&pod));
            node.daemon(&pod).kill();
            for process in &processes {
                assert!(process.ends_within(SOON), "{} outlives its daemon", process.comm());
            }
            eventually("the pod is not ready", || node.pod_state(&pod) == "SANDBOX_NOTREADY");
            for member in &members {
                assert_ne!(node.wait_for_exit(member).code, 0);
            }
            eventually("the shim's files are gone", || {
                let ids = members.iter().map(|member| &member.id).chain([&pod.id]);
                ids.into_iter().all(|id| node.containerd().has_no_files(id))
            });
            node.stopp(&pod);
            node.rmp(&pod);
        }
        assert_eq!(node.state(&untouched), "CONTAINER_RUNNING");
        node.rmp_force(&beside);
    });
}

/// (c) containerd is killed with half a container made: afterwards the container is not there or can be removed.
pub fn containerd_is_killed_during_create(version: Version) {
    Node::with(version, &Setup::of(&[Image::Tiny]).with_faults(), |node| {
        for point in ["launcher.spawned", "plan.made", "commit.after"] {
            let pod = node.runp(&Pod::new("half"));
            let other = node.run(&pod, &hang("other"));
            let member = node.create(&pod, &hang("half"));
            node.faults().set(&[&format!("{point}=delay:1500")]);
            let job = Job::start(node.crictl(&["start", &member.id]));
            eventually(point, || node.faults().has_fired(point));
            node.containerd().kill9();
            job.kill();
            node.faults().set(&[]);
            node.containerd().restart();
            node.is_ready(&[]);
            assert_eq!(node.state(&other), "CONTAINER_RUNNING", "{point}");
            node.rm_force(&member);
            node.rmp_force(&pod);
            node.check_after(point);
        }
        works(node);
    });
}

/// (d) A pod's `start` that fails, hangs until its client gives up, or is killed.
pub fn a_start_that_fails_or_hangs_leaves_nothing(version: Version) {
    let Some(node) = Node::begin(version, &Setup::of(&[Image::Tiny]).with_faults()) else { return };
    for (n, point) in ["start.pod", "start.answer"].into_iter().enumerate() {
        for action in ["error", "kill"] {
            let (command, sandbox) = node.runp_command(&Pod::new("fails"));
            node.faults().set(&[&format!("{point}={action}")]);
            let done = Job::start(command).wait(SOON);
            assert!(done.status != Some(0), "{point}={action}: {done}");
            assert!(action == "kill" || done.stderr.contains("injected fault"), "{done}");
            sandbox.parent.remove();
        }
        // containerd keeps a name until it has given up itself.
        let (command, sandbox) = node.runp_command(&Pod::new(&format!("hangs{n}")));
        node.faults().set(&[&format!("{point}=delay:600000")]);
        let job = Job::start(command);
        eventually(point, || node.faults().has_fired(point));
        job.kill();
        node.faults().set(&[]);
        sandbox.parent.remove();
    }
    works(&node);
    node.finish_within(IDLE);
}

/// (d) A container's `start` asks the pod's daemon, which is stopped: it fails after a while, or its client gives up.
/// The pod goes on when the daemon does.
pub fn a_start_that_gets_no_answer_harms_nobody(version: Version) {
    let Some(node) = Node::begin(version, &Setup::of(&[Image::Tiny])) else { return };
    let pod = node.runp(&Pod::new("stopped"));
    let other = node.run(&pod, &hang("other"));
    let [fails, given_up] = ["fails", "given-up"].map(|name| node.create(&pod, &hang(name)));
    let daemon = node.daemon(&pod);
    daemon.stop();
    let job = Job::start(node.crictl(&["start", &given_up.id]));
    let done = node.call(&["start", &fails.id]);
    job.kill();
    daemon.signal(Signal::CONT);
    assert!(done.status != Some(0), "{done}");
    assert_eq!(node.wait_for_exit(&fails).code, 128);
    node.wait_for_exit(&given_up);
    assert_eq!(node.state(&other), "CONTAINER_RUNNING");
    assert_eq!(node.daemons().len(), 1, "no second daemon beside a living one");
    let next = node.run(&pod, &Container::new("next", Image::Tiny, &["tiny", "exit=4"]));
    assert_eq!(node.wait_for_exit(&next).code, 4);
    node.rmp_force(&pod);
    // Who was asked whether it is there does not leave at once.
    node.finish_within(IDLE);
}

/// (e) The daemon is killed at many moments of Create, of the sandbox and of a guest.
pub fn a_daemon_that_dies_during_create_leaves_nothing(version: Version) {
    Node::with(version, &Setup::of(&[Image::Tiny]).with_faults(), |node| {
        // Points that only the daemon passes, which dies of them, or its launcher.
        let moments = ["launcher.spawned=kill", "commit.before=kill", "commit.after=kill"];
        for moment in moments {
            node.faults().set(&[moment]);
            let (command, sandbox) = node.runp_command(&Pod::new("dies"));
            let done = Job::start(command).wait(SOON);
            assert!(done.status != Some(0), "{moment}: {done}");
            assert!(!node.faults().fired().is_empty(), "{moment}");
            node.faults().set(&[]);
            node.rmp_all();
            sandbox.parent.remove();
            node.check_after(moment);
        }
        for moment in [&moments[..], &["plan.before=kill", "plan.made=kill"]].concat() {
            let pod = node.runp(&Pod::new("dies"));
            let member = node.create(&pod, &hang("c"));
            node.faults().set(&[moment]);
            let done = node.call(&["start", &member.id]);
            assert!(done.status != Some(0), "{moment}: {done}");
            assert!(!node.faults().fired().is_empty(), "{moment}");
            node.faults().set(&[]);
            node.wait_for_exit(&member);
            node.rmp_force(&pod);
            node.check_after(moment);
        }
        works(node);
    });
}

/// (f) `delete` takes longer than containerd waits, which kills it and leaves it at that: what was left is undone when
/// containerd starts the next time or by the next daemon, if not before.
pub fn a_delete_that_hangs_is_made_good_later(version: Version) {
    Node::with(version, &Setup::of(&[Image::Tiny]).with_faults(), |node| {
        let pod = node.runp(&Pod::new("hangs"));
        let member = node.run(&pod, &hang("c"));
        let monitor = node.member(&member);
        node.faults().set(&["cgroup.undo=delay:6000"]);
        node.daemon(&pod).kill();
        assert!(monitor.ends_within(SOON), "the guest outlives its daemon");
        eventually("`delete` hangs", || node.faults().has_fired("cgroup.undo"));
        node.faults().set(&[]);
        // containerd has killed it by then, and that was all that it tries.
        let ended = |id: &str| node.containerd().record(id).is_none_or(|record| record["tombstone"] == true);
        let deadline = Instant::now() + LATE;
        while Instant::now() < deadline && !(ended(&pod.id) && ended(&member.id)) {
            thread::sleep(Duration::from_millis(50));
        }
        node.restart();
        node.rmp_force(&pod);
        // A containerd that threw the bundle away asks nobody again: the next daemon sweeps.
        let next = node.runp(&Pod::new("next"));
        eventually("what `delete` left is swept", || {
            [&pod.id, &member.id].into_iter().all(|id| node.containerd().has_no_files(id))
        });
        node.rmp_force(&next);
        works(node);
    });
}

/// The records of a test's shim are where the harness believes them to be: else the tests above would see nothing.
pub fn a_pod_has_files_while_it_runs(version: Version) {
    Node::with(version, &Setup::of(&[Image::Tiny]), |node| {
        let pod = node.runp(&Pod::new("files"));
        let member = node.run(&pod, &hang("c"));
        for id in [&pod.id, &member.id] {
            assert!(!node.containerd().has_no_files(id));
            assert!(fs::exists(node.containerd().run_directory(id).join("record.json")).unwrap());
        }
        node.rmp_force(&pod);
        assert!(node.containerd().has_no_files(&member.id));
    });
}
