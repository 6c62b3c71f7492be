//! A network namespace as CNI makes one for a pod, without a bridge behind it.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use super::{Proc, eventually};

/// The commands that make the pod's interface: one end of a pair, whose other end has no address.
const INTERFACE: &str = "ip link add pod0 mtu 1450 type veth peer name outside
ip link set lo up
ip link set outside up
ip link set pod0 up
ip addr add 10.244.7.9/24 dev pod0
ip addr add fd00:7::9/64 dev pod0 nodad
ip route add default via 10.244.7.1
ip -6 route add default via fd00:7::1";

/// A network namespace, held by a process.
#[derive(Debug)]
pub struct PodNetwork {
    holder: Child,
}

impl PodNetwork {
    /// With the pod's interface in it, by the name of `pod0`.
    pub fn new() -> Self {
        let network = Self::empty();
        network.plug();
        network
    }

    /// Without any interface.
    pub fn empty() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "3600"]).stdin(Stdio::null());
        let network = Self { holder: command.spawn().expect("unshare can be executed") };
        let holder = Proc::of(network.holder.id().cast_signed());
        eventually("the namespace is there", || holder.comm() == "sleep");
        network
    }

    /// Makes the pod's interface.
    #[track_caller]
    pub fn plug(&self) {
        Self::plug_into(self.holder.id());
    }

    /// Makes a pod's interface in the network namespace of a process.
    #[track_caller]
    pub fn plug_into(pid: u32) {
        run_in(pid, &format!("set -e\n{INTERFACE}"));
    }

    /// Removes it again.
    #[track_caller]
    pub fn unplug(&self) {
        self.run("ip link del pod0");
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder.id()).into()
    }

    /// Runs a script in it: what it prints.
    #[track_caller]
    pub fn run(&self, script: &str) -> String {
        run_in(self.holder.id(), script)
    }

    /// The pod's filters.
    #[track_caller]
    pub fn filters(&self) -> String {
        self.run("tc filter show dev pod0 ingress")
    }

    /// All that anybody could have left in it: links, addresses, qdiscs, filters.
    #[track_caller]
    pub fn state(&self) -> String {
        Self::state_of(self.holder.id())
    }

    /// The same for the network namespace of a process.
    #[track_caller]
    pub fn state_of(pid: u32) -> String {
        let hooks = ["ingress", "egress"].map(|hook| format!("tc filter show dev pod0 {hook} 2>&1"));
        let script = format!(
            // Whether it is up, and its link-local address, settle by themselves.
            "ip -br link | cut -d' ' -f1; ip -o addr show scope global | cut -d' ' -f2-7; tc qdisc show; {}",
            hooks.join("; ")
        );
        let state = run_in(pid, &script);
        // By which of its names the hook was last spoken of is all that the kernel remembers here.
        state.replace("filter parent ffff: ", "filter ").replace("filter ingress ", "filter ")
    }
}

impl Default for PodNetwork {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for PodNetwork {
    fn drop(&mut self) {
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}

#[track_caller]
fn run_in(pid: u32, script: &str) -> String {
    let output =
        Command::new("nsenter").args(["-t", &pid.to_string(), "-n", "sh", "-c", script]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{script}: {}", text(&output.stderr));
    text(&output.stdout)
}
