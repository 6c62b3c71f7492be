//! Ordinary containers in our pods: sidecars, init containers, and whole pods without a guest.

use std::{fs, time::Duration};

use serde_json::{Value, json};

use super::volumes::Projected;
use urunc_tests::{
    direct::{Proc, eventually, eventually_some},
    harness::{
        BOOT, Container, Handler, Image, Job, Member, Node, Pod, SOON, Scene, Setup, Version, on_terminal,
    },
};

const WAITS: &str = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
const GRACE: Duration = Duration::from_secs(15);

fn busybox(name: &str, script: &str) -> Container {
    Container::new(name, Image::Busybox, &["sh", "-c", script])
}

/// A pod without a guest: `exec`, `exec -it`, `exec -s` with a timeout, `attach`, `logs`, `stats`, `update`, `inspect`;
/// one of two is stopped and made anew.
pub fn a_pod_of_busybox_answers_every_verb(version: Version) {
    Node::with(version, &Setup::of(&[Image::Busybox]), |node| {
        let pod = node.runp(&Pod::new("plain"));
        let member = node.run(&pod, &busybox("waits", WAITS).memory_mib(64));
        let reads = "while read line; do echo got $line; done; echo end";
        let reads = node.run(&pod, &busybox("reads", reads).with("stdin", true.into()));
        node.wait_for(&member, "ready\n", SOON);
        executes(node, &member);

        let mut attached = Job::to_type_in(node.crictl(&["attach", "-i", &reads.id]));
        attached.type_in("hello\n");
        attached.wait_for("got hello", SOON);
        attached.kill();
        node.wait_for(&reads, "got hello\n", SOON);
        assert_eq!(node.logs(&member).text(), "ready\n");

        let stats: Value =
            serde_json::from_slice(&node.call(&["stats", "-o", "json", &member.id]).stdout).unwrap();
        let used = stats["stats"][0]["memory"]["workingSetBytes"]["value"].as_str().map(str::parse::<u64>);
        assert!(matches!(used, Some(Ok(1..))), "{stats}");
        let memory = of_cgroup(&node.member(&member), "memory.limit_in_bytes", "memory.max");
        assert_eq!(memory, (64 << 20).to_string());
        node.call(&["update", "--memory", &(96 << 20).to_string(), &member.id]).expect(0);
        let memory = of_cgroup(&node.member(&member), "memory.limit_in_bytes", "memory.max");
        assert_eq!(memory, (96 << 20).to_string());

        let told = node.inspect(&member);
        assert_eq!(told["status"]["state"], "CONTAINER_RUNNING");
        assert_eq!(told["info"]["runtimeType"], "io.containerd.urunc.v2");
        node.stop(&member, GRACE);
        assert_eq!(node.wait_for_exit(&member).code, 3);
        // containerd writes the log at its leisure.
        eventually("its last word", || node.logs(&member).text().ends_with("bye\n"));
        node.rm(&member);
        let again = node.run(&pod, &busybox("waits", WAITS).attempt(1));
        node.wait_for(&again, "ready\n", SOON);
        assert_eq!(node.state(&reads), "CONTAINER_RUNNING");
        node.stopp(&pod);
        node.rmp(&pod);
    });
}

fn executes(node: &Node, member: &Member) {
    let script = "echo out; echo err >&2; exit 9";
    let done = node.call(&["exec", &member.id, "sh", "-c", script]);
    // crictl's own status is 1, and it says the command's.
    assert!(done.status == Some(1) && done.stderr.contains("exit code 9"), "{done}");
    assert!(done.text() == "out\n" && done.stderr.contains("err\n"), "{done}");
    let mut typed = on_terminal(&node.crictl(&["exec", "-it", &member.id, "sh"]));
    typed.type_in("tty; echo $((6*7)); exit\r");
    let done = typed.wait(SOON).expect(0);
    assert!(done.text().contains("/dev/pts/") && done.text().contains("42"), "{done}");
    // Who is left behind on the terminal keeps nobody.
    let mut typed = on_terminal(&node.crictl(&["exec", "-it", &member.id, "sh"]));
    typed.type_in("sleep 1001 &\rexit\r");
    typed.wait(SOON).expect(0);
    let mut cat = Job::to_type_in(node.crictl(&["exec", "-i", &member.id, "cat"]));
    cat.type_in("meow\n");
    cat.wait_for("meow\n", SOON);
    cat.close_input();
    cat.wait(SOON).expect(0);

    let done = node.call(&["exec", "-s", &member.id, "sh", "-c", "echo out; echo err >&2"]).expect(0);
    // crictl prints both, with lines of its own.
    assert_eq!(done.text().split_whitespace().collect::<Vec<_>>(), ["out", "err"], "{done}");
    let late = node.call(&["exec", "-s", "--timeout", "1", &member.id, "sleep", "1000"]);
    assert!(late.status != Some(0) && late.took < SOON, "{late}");
    eventually("what took too long is dead", || !processes(node, member).iter().any(|pid| is_sleep(pid)));
    assert_eq!(node.state(member), "CONTAINER_RUNNING");
}

fn is_sleep(pid: &str) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x001000\x00")
}

/// The pids of a container.
fn processes(node: &Node, member: &Member) -> Vec<String> {
    of_cgroup(&node.member(member), "cgroup.procs", "cgroup.procs").lines().map(str::to_owned).collect()
}

/// A file of the memory cgroup that a process is in.
fn of_cgroup(process: &Proc, v1: &str, v2: &str) -> String {
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", process.pid())).unwrap();
    let v1_path = cgroup.lines().find_map(|line| line.split_once(":memory:")).map(|(_, path)| path);
    let unified = || cgroup.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    let file = match v1_path {
        Some(path) => format!("/sys/fs/cgroup/memory{path}/{v1}"),
        None => format!("/sys/fs/cgroup{}/{v2}", unified()),
    };
    fs::read_to_string(file).unwrap().trim().to_owned()
}

/// An init container ends before the guest begins; then guest and sidecar run side by side and go one after the other,
/// each first once; a port of the sidecar is forwarded.
pub fn an_init_container_then_a_guest_with_its_sidecar(version: Version) {
    Node::with(version, &Setup::of(&[Image::Busybox, Image::Tiny]), |node| {
        let volume = node.containerd().scratch().join("volume");
        fs::create_dir(&volume).unwrap();
        let mount = json!([{"container_path": "/volume", "host_path": volume, "readonly": false}]);
        for guest_goes_first in [true, false] {
            let pod = node.runp(&Pod::new("mixed"));
            let script = "echo prepared > /volume/file";
            let init = node.run(&pod, &busybox("init", script).with("mounts", mount.clone()));
            assert_eq!(node.wait_for_exit(&init).code, 0);
            let guest = node.run(&pod, &Container::new("guest", Image::Tiny, &["tiny", "hang"]));
            let script = "cat /volume/file; exec nc -ll -p 8080 -e cat /volume/file";
            let sidecar = node.run(&pod, &busybox("sidecar", script).with("mounts", mount.clone()));
            node.wait_for(&guest, "hang\n", SOON);
            node.wait_for(&sidecar, "prepared\n", SOON);
            let sandbox = node.sandbox(&pod);
            for kind in ["net", "ipc", "uts"] {
                let of =
                    |process: &Proc| fs::read_link(format!("/proc/{}/ns/{kind}", process.pid())).unwrap();
                assert_eq!(of(&node.member(&sidecar)), of(&sandbox), "{kind}");
            }
            let refused = node.call(&["exec", "-s", &guest.id, "true"]);
            assert!(refused.stderr.contains("is a guest: what runs there"), "{refused}");
            assert_eq!(
                node.call(&["exec", "-s", &sidecar.id, "echo", "hello"]).expect(0).text().trim(),
                "hello"
            );
            forwards(node, &pod.id);

            let (first, last) = if guest_goes_first { (&guest, &sidecar) } else { (&sidecar, &guest) };
            node.stop(first, Duration::ZERO);
            assert_eq!(node.wait_for_exit(first).code, 137);
            assert_eq!(node.state(last), "CONTAINER_RUNNING");
            node.rm(first);
            node.rmp_force(&pod);
            node.check();
        }
    });
}

fn forwards(node: &Node, pod: &str) {
    let job = Job::start(node.crictl(&["port-forward", pod, ":8080"]));
    let port = eventually_some("a port is forwarded", || {
        let printed = job.printed();
        let (_, rest) = printed.split_once("Forwarding from 127.0.0.1:")?;
        rest.split_once(" -> ")?.0.parse::<u16>().ok()
    });
    let text = eventually_some("the sidecar answers", || {
        use std::io::Read;
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text).filter(|text| !text.is_empty())
    });
    assert_eq!(text, "prepared\n");
    job.kill();
}

/// Guest and sidecar have the pod's addresses both, so each has a further one for the other: both ways, and again when
/// either is made anew. Guest and host reach each other as ever.
pub fn a_guest_and_its_sidecar_reach_each_other(version: Version) {
    const GUEST: &str = "until nc -w 5 169.254.117.1 8080 </dev/null | grep sidecar; do sleep 1; done; \
        exec nc -ll -p 80 -e echo hello from the guest";
    const SIDECAR: &str = "nc -ll -p 8080 -e echo hello from the sidecar & \
        until nc -w 5 169.254.117.2 80 </dev/null | grep guest; do sleep 0.5; done; echo met; sleep 1000";
    Node::with(version, &Setup::of(&[Image::Busybox, Image::Debian]), |node| {
        let pod = node.runp(&Pod::new("meet"));
        let sandbox = node.sandbox(&pod);
        let before = Scene::of(&sandbox);
        let guest = Container::new("guest", Image::Debian, &["/init", "sh", "-c", GUEST]);
        let sidecar = node.run(&pod, &busybox("sidecar", SIDECAR));
        let first = node.run(&pod, &guest);
        node.wait_for(&first, "hello from the sidecar\n", BOOT);
        node.wait_for(&sidecar, "hello from the guest\nmet\n", BOOT);
        let address = node.addresses(&pod)[0].clone();
        let reached = || std::net::TcpStream::connect((address.as_str(), 80)).is_ok();
        assert!(reached(), "the host reaches the guest");
        node.rm_force(&sidecar);
        node.rm_force(&first);
        assert_eq!(Scene::of(&sandbox), before);

        node.run(&pod, &guest.attempt(1));
        let sidecar = node.run(&pod, &busybox("sidecar", SIDECAR).attempt(1));
        node.wait_for(&sidecar, "hello from the guest\nmet\n", BOOT);
        node.rmp_force(&pod);
    });
}

/// What a container's first process finds, and what is executed in it later, is the same under runc's handler and under
/// ours: user, groups, capabilities, seccomp, limits, mounts, devices, names; and pods that share more, or less, than
/// usual.
pub fn a_sidecar_finds_what_it_finds_under_runc(version: Version) {
    // What others make and remove meanwhile is left out: links of the host, mounts in its /dev/shm, and how many
    // processes it has. A pod's or a container's are counted by the shell alone: each of a pipe may be there or not yet.
    const LOOKS: &str = "exec 2>&1; id; cat /proc/self/limits; grep -E '^(Cap|NoNewPrivs|Seccomp|Groups)' /proc/self/status; \
        hostname; env | sort; ls -l /dev | awk '{print $1, $3, $4, $NF}'; \
        [ $$ = 1 ] && echo it is the first; set -- /proc/[0-9]*; [ $# -lt 8 ] && echo it sees $#; \
        awk '$5 !~ \"/dev/shm/\" {print $5, $6}' /proc/self/mountinfo; touch /file; touch /volume/ro/file; cat /volume/file/sub; \
        cat /sys/class/net/eth0/mtu; ls /proc/keys /proc/timer_list -l | awk '{print $1}'; cat /proc/self/oom_score_adj; \
        for name in kernel/shm_rmid_forced kernel/msgmax net/ipv4/ip_unprivileged_port_start; do \
        echo $name=$(cat /proc/sys/$name); [ -w /proc/sys/$name ] && echo it may be written; done; \
        ls -l /secret | awk '{print $1, $3, $4, $9, $10, $11}'; cat /secret/key /etc/one.conf; echo x >> /etc/one.conf; \
        cat /proc/self/attr/current; umask; echo end; [ $0 = later ] || exec sleep 1000";
    Node::with(version, &Setup::of(&[Image::Busybox]), |node| {
        let volume = node.containerd().scratch().join("volume");
        fs::create_dir_all(volume.join("path")).unwrap();
        fs::write(volume.join("path/sub"), "a file of the volume\n").unwrap();
        fs::write(volume.join("one.conf"), "a mount of its own\n").unwrap();
        let secret = Projected::make(&node.containerd().scratch().join("secret"), "a secret\n");
        let mounts = json!([
            {"container_path": "/volume/ro", "host_path": volume, "readonly": true},
            {"container_path": "/volume/file", "host_path": volume.join("path"), "readonly": false},
            {"container_path": "/secret", "host_path": secret.folder, "readonly": true},
            {"container_path": "/etc/one.conf", "host_path": volume.join("one.conf"), "readonly": true},
        ]);
        let plain = busybox("plain", LOOKS).with("mounts", mounts.clone()).oom_score_adj(700);
        let masked = json!(["/proc/keys", "/proc/timer_list"]);
        let careful = plain
            .clone()
            .security("run_as_user", json!({"value": 1000}))
            .security("run_as_group", json!({"value": 1001}))
            .security("supplemental_groups", json!([1002, 1003]))
            .security("readonly_rootfs", true.into())
            .security("no_new_privs", true.into())
            .security("masked_paths", masked)
            .security("seccomp", json!({"profile_type": 0}))
            .security(
                "capabilities",
                json!({"drop_capabilities": ["ALL"], "add_capabilities": ["NET_BIND_SERVICE"]}),
            )
            .with("envs", json!([{"key": "WORD", "value": "two words"}]))
            .with("working_dir", "/tmp".into());
        let skilled = plain
            .clone()
            .security("masked_paths", json!(["/proc/keys"]))
            .security("readonly_paths", json!(["/proc/sys"]))
            .security(
                "capabilities",
                json!({"drop_capabilities": ["KILL", "MKNOD"], "add_capabilities": ["NET_ADMIN", "SYS_TIME"]}),
            );
        let privileged = plain.clone().security("privileged", true.into());
        for (name, container, edit) in [
            ("plain", &plain, with_sysctls as fn(Pod) -> Pod),
            ("careful", &careful, |pod| with_sysctls(pod).pid(urunc_tests::harness::Share::Pod)),
            ("skilled", &skilled, with_sysctls),
            ("privileged", &privileged, |pod| pod.privileged()),
            ("host", &plain, |pod| {
                use urunc_tests::harness::Share::Node;
                pod.network(Node).pid(Node).ipc(Node)
            }),
        ] {
            let said = [(0, Handler::Runc), (1, Handler::Urunc)].map(|(attempt, handler)| {
                let pod = node.runp(&edit(Pod::new(name)).handler(handler));
                let member = node.run(&pod, &container.clone().attempt(attempt));
                node.wait_for(&member, "end\n", BOOT);
                let executed = node.call(&["exec", &member.id, "sh", "-c", LOOKS, "later"]).expect(0).text();
                let text = format!("{}executed:\n{executed}", member.text());
                let text = text.replace(&member.id, "ID").replace(&pod.id, "POD");
                node.stopp(&pod);
                node.rmp(&pod);
                text
            });
            for part in ["a file of the volume\n", "a secret\n", "a mount of its own\n"] {
                assert!(said[0].contains(part), "{}", said[0]);
            }
            let sees = match name {
                "host" => "\n",
                "careful" => "\nit sees 2\n",
                _ => "\nit is the first\nit sees 1\n",
            };
            assert!(said[0].contains(sees), "{}", said[0]);
            if name != "privileged" && name != "host" {
                assert!(said[0].contains("kernel/msgmax=4321\n"), "{}", said[0]);
            }
            urunc_tests::direct::assert_same(&said[1], &said[0]);
        }
    });
}

fn with_sysctls(pod: Pod) -> Pod {
    let of_net = ("net.ipv4.ip_unprivileged_port_start", "99");
    [("kernel.shm_rmid_forced", "1"), ("kernel.msgmax", "4321"), of_net]
        .into_iter()
        .fold(pod, |pod, (name, value)| pod.sysctl(name, value))
}
