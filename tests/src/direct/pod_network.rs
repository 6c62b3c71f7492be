//! A network namespace as CNI makes one for a pod, without a bridge behind it.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
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

/// What a stranger has in the pod's network: a filter where the pair's other end hears the pod, and a queue where the
/// pod's interface sends. The way into the pod is left free: that is where ours goes.
const FOREIGN: &str = "tc -batch - <<EOF
qdisc add dev outside ingress
filter add dev outside parent ffff: protocol ip prio 7 u32 match ip dst 10.9.9.9/32 \
action mirred egress redirect dev lo
qdisc add dev pod0 root handle 77: pfifo
EOF";
const LOOK_AT_FOREIGN: &str =
    "tc qdisc show dev outside; tc filter show dev outside ingress; tc qdisc show dev pod0 root";

/// A network namespace, held by a process.
#[derive(Debug)]
pub struct PodNetwork {
    holder: Child,
    foreign: Arc<Untouched>,
}

/// The stranger's things in a pod's network.
#[derive(Debug)]
pub(super) struct Untouched {
    pid: u32,
    /// What is to be there; None while there is no interface.
    expected: Mutex<Option<String>>,
}

impl Untouched {
    fn expect(&self, there: bool) {
        let expected = there.then(|| self.look());
        // A test's own panic is no reason for another one.
        *self.expected.lock().unwrap_or_else(PoisonError::into_inner) = expected;
    }

    fn look(&self) -> String {
        by_one_name(&run_in(self.pid, LOOK_AT_FOREIGN))
    }

    pub(super) fn unharmed(&self) -> Result<(), String> {
        let Some(expected) = self.expected.lock().unwrap_or_else(PoisonError::into_inner).clone() else {
            return Ok(());
        };
        match self.look() {
            now if now == expected => Ok(()),
            now => Err(format!("the stranger's qdiscs or filter were touched: {now} instead of {expected}")),
        }
    }
}

impl PodNetwork {
    /// With the pod's interface in it, by the name of `pod0`.
    pub(super) fn new() -> Self {
        let network = Self::empty();
        network.plug();
        network
    }

    /// Without any interface.
    pub(super) fn empty() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "3600"]).stdin(Stdio::null());
        let holder = command.spawn().expect("unshare can be executed");
        let foreign = Arc::new(Untouched { pid: holder.id(), expected: Mutex::default() });
        let network = Self { holder, foreign };
        let holder = Proc::of(network.holder.id().cast_signed());
        eventually("the namespace is there", || holder.comm() == "sleep");
        network
    }

    /// Makes the pod's interface, and what a stranger has there.
    #[track_caller]
    pub fn plug(&self) {
        self.run(&format!("set -e\n{INTERFACE}\n{FOREIGN}"));
        self.foreign.expect(true);
    }

    pub(super) fn foreign(&self) -> &Arc<Untouched> {
        &self.foreign
    }

    /// Makes a pod's interface in the network namespace of a process.
    #[track_caller]
    pub fn plug_into(pid: u32) {
        run_in(pid, &format!("set -e\n{INTERFACE}"));
    }

    /// Removes it again.
    #[track_caller]
    pub fn unplug(&self) {
        self.foreign.expect(false);
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
        let hooks = ["pod0 ingress", "pod0 egress", "outside ingress"];
        let hooks = hooks.map(|hook| format!("tc filter show dev {hook} 2>&1"));
        let state = run_in(
            pid,
            &format!(
                // Whether it is up, and its link-local address, settle by themselves.
                "ip -br link | cut -d' ' -f1; ip -o addr show scope global | cut -d' ' -f2-7; tc qdisc show; {}",
                hooks.join("; ")
            ),
        );
        by_one_name(&state)
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

/// By which of its names the hook was last spoken of is all that the kernel remembers here.
fn by_one_name(filters: &str) -> String {
    filters.replace("filter parent ffff: ", "filter ").replace("filter ingress ", "filter ")
}
