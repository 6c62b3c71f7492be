//! Memory, CPUs and the kernel's OOM killer.

use std::fs;

use urunc_tests::{
    direct::{Proc, eventually},
    harness::{BOOT, Container, Image, Node, Pod, SOON, Setup, Version},
};

const MIB: u64 = 1 << 20;

/// Two guests use up their RAM in a pod whose cgroup has what a kubelet gives it: the sum of the limits and the
/// RuntimeClass's overhead. Nobody is killed. A quota of one and a half CPUs is two CPUs.
pub fn guests_fill_their_memory_under_the_pods_limit(version: Version) {
    // The overhead of the pod pays for the first guest; the second one takes it out of its own limit.
    const LIMITS: [u64; 2] = [128, 320];
    let overhead = vmm_backends::find_monitor("qemu").unwrap().overhead_mib();
    Node::with(version, &Setup::of(&[Image::Debian]), |node| {
        let pod = node.runp(&Pod::new("full"));
        pod.parent.limit((LIMITS.iter().sum::<u64>() + overhead) * MIB);
        let members = [("a", LIMITS[0], 1.5), ("b", LIMITS[1], 1.0)].map(|(name, limit, cpus)| {
            let command = ["/init", "fill", "sleep", "1000"];
            let container = Container::new(name, Image::Debian, &command).memory_mib(limit).cpus(cpus);
            node.run(&pod, &container)
        });
        for (member, (cpus, ram)) in members.iter().zip([(2, LIMITS[0]), (1, LIMITS[1] - overhead)]) {
            node.wait_for(member, "guest: filled", BOOT);
            assert!(member.text().contains(&format!(" on {cpus} cpu(s), ")), "{}", member.text());
            assert_eq!(node.containerd().plan(&member.id)["memory"]["guest_mib"], ram);
        }
        for member in &members {
            assert_eq!(node.state(member), "CONTAINER_RUNNING");
        }
        assert_eq!(pod.parent.oom_kills(), 0);
        // Whoever is started anew first does not take what was the other one's.
        members.iter().for_each(|member| node.rm_force(member));
        for (name, limit, ram) in [("b", LIMITS[1], LIMITS[1] - overhead), ("a", LIMITS[0], LIMITS[0])] {
            let container = Container::new(name, Image::Debian, &["/init"]).memory_mib(limit).attempt(1);
            let member = node.run(&pod, &container);
            assert_eq!(node.containerd().plan(&member.id)["memory"]["guest_mib"], ram, "{name}");
        }
        node.rmp_force(&pod);
    });
}

/// By a file; and, with a containerd that hands on its whole table, by the keys themselves.
pub fn the_handlers_options_are_those_of_its_guests(version: Version) {
    Node::with(version, &Setup::of(&[Image::Tiny]), |node| {
        let scratch = node.containerd().scratch();
        let configuration = scratch.join("c0/config.toml");
        let before = fs::read_to_string(&configuration).unwrap().replace("imports", "# imports");
        let file = scratch.join("options.toml");
        fs::write(&file, "[monitors.qemu]\ndefault_memory_mb = 99\n").unwrap();
        let path = format!("ConfigPath = {file:?}");
        let own = "monitors.qemu.default_memory_mb = 99".to_owned();
        let (plugin, forms) = match version {
            Version::V1_6 => ("io.containerd.grpc.v1.cri", vec![path]),
            Version::V2_3 => ("io.containerd.cri.v1.runtime", vec![path, own]),
        };
        for form in forms {
            // The drop-in has a table of its own.
            let handler = match version {
                Version::V1_6 => String::new(),
                Version::V2_3 => format!(
                    "[plugins.\"{plugin}\".containerd.runtimes.urunc]\nruntime_type = \"io.containerd.urunc.v2\"\n\
                     pod_annotations = [\"com.urunc.*\"]\ncontainer_annotations = [\"com.urunc.*\"]\n"
                ),
            };
            let options = format!(
                "{handler}[plugins.\"{plugin}\".containerd.runtimes.urunc.options]\n\
                 TypeUrl = \"runtimeoptions.v1.Options\"\n{form}\n"
            );
            fs::write(&configuration, format!("{before}\n{options}")).unwrap();
            node.restart();
            let pod = node.runp(&Pod::new("options"));
            let member = node.run(&pod, &Container::new("a", Image::Tiny, &["tiny", "hang"]));
            assert_eq!(node.containerd().plan(&member.id)["memory"]["guest_mib"], 99, "{form}");
            node.rmp_force(&pod);
        }
    });
}

/// containerd merges what is new into all that a container was made with.
pub fn limits_are_updated_while_a_guest_runs(version: Version) {
    Node::with(version, &Setup::of(&[Image::Tiny]), |node| {
        let pod = node.runp(&Pod::new("update"));
        let container = Container::new("a", Image::Tiny, &["tiny", "hang"]).memory_mib(64);
        let member = node.run(&pod, &container);
        node.wait_for(&member, "hang\n", SOON);
        let update = |words: &[&str]| node.call(&[&["update"], words, &[&member.id]].concat());
        let limit = || {
            let process = node.member(&member);
            let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", process.pid())).unwrap();
            let memory = cgroup.lines().find_map(|line| line.split_once(":memory:")).map(|(_, path)| path);
            let v1 = memory.map(|path| format!("/sys/fs/cgroup/memory{path}/../memory.limit_in_bytes"));
            let unified = || cgroup.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned();
            let file = v1.unwrap_or_else(|| format!("/sys/fs/cgroup{}/../memory.max", unified()));
            fs::read_to_string(file).unwrap().trim().parse::<u64>().unwrap()
        };
        let before = limit();
        update(&["--cpu-share", "512"]).expect(0);
        update(&["--memory", &(96 * MIB).to_string()]).expect(0);
        assert_eq!(limit(), before + 32 * MIB);
        update(&["--cpu-quota", "50000", "--cpu-period", "100000"]).expect(0);
        // The guest has its RAM and its one vCPU.
        for words in [&["--memory", "33554432"][..], &["--cpu-quota", "250000", "--cpu-period", "100000"]] {
            assert_ne!(update(words).status, Some(0), "{words:?}");
        }
        assert_eq!(limit(), before + 32 * MIB);
        node.rmp_force(&pod);
    });
}

/// The sandbox is the last of its pod to be killed: its score is the lowest of the pod's containers, and follows when
/// one comes or goes. (Not every machine lets a process lower it: only what is raised is looked at.)
pub fn the_sandboxs_oom_score_follows_its_containers(version: Version) {
    let score = |process: &Proc| -> i32 {
        let path = format!("/proc/{}/oom_score_adj", process.pid());
        fs::read_to_string(path).unwrap().trim().parse().unwrap()
    };
    Node::with(version, &Setup::of(&[Image::Tiny]), |node| {
        let pod = node.runp(&Pod::new("score"));
        let sandbox = node.sandbox(&pod);
        let hang = |name: &str| Container::new(name, Image::Tiny, &["tiny", "hang"]);
        let low = node.run(&pod, &hang("low").oom_score_adj(500));
        let high = node.run(&pod, &hang("high").oom_score_adj(900));
        for (member, own) in [(&low, 500), (&high, 900)] {
            node.wait_for(member, "hang\n", SOON);
            assert_eq!(score(&node.member(member)), own);
        }
        eventually("it is the lowest", || score(&sandbox) == 500);
        node.rm_force(&low);
        eventually("it is what is left", || score(&sandbox) == 900);
        node.rmp_force(&pod);
    });
}
