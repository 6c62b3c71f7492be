//! The network of a test's pods: a bridge and two ranges that nobody else has, given to CNI's `bridge` and `host-local`.
//!
//! The test makes the bridge and its addresses itself and not the plug-in (`isGateway`), which would turn on forwarding
//! for the whole host and leave it on. Nothing is masqueraded: pods reach this host only.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    process::Command,
};

use serde_json::{Value, json};

use super::super::{Done, Job, SOON, scratch::Scratch};

/// Where CNI keeps the results of ADD for DEL; containerd has no setting for it.
pub const RESULTS: &str = "/var/lib/cni/results";

/// The bridge.
#[derive(Clone, Debug)]
pub struct Network {
    name: String,
    /// The host on it.
    pub v4: Ipv4Addr,
    /// The host on it.
    pub v6: Ipv6Addr,
}

impl Network {
    /// Makes the bridge and the file for CNI.
    #[track_caller]
    pub fn make(scratch: &Scratch, mtu: u32) -> Self {
        let name = bridge(scratch);
        ip(&["link", "add", &name, "type", "bridge"]).expect(0);
        ip(&["link", "set", &name, "mtu", &mtu.to_string(), "up"]).expect(0);
        let network = loop {
            let network = Self::somewhere(name.clone());
            if network.is_free() {
                network.claim();
                // Another test may have looked at the same moment: whoever sees a second one leaves it.
                if network.is_alone() {
                    break network;
                }
                ip(&["address", "flush", "dev", &name]).expect(0);
            }
        };
        let folder = scratch.path().join("net.d");
        fs::create_dir(&folder).unwrap();
        let list = network.list(mtu, &scratch.path().join("addresses"));
        fs::write(folder.join("10-test.conflist"), list.to_string()).unwrap();
        network
    }

    /// The name of the bridge.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Two ranges by chance: of what is set aside for benchmarks (RFC 2544), and of what is local (RFC 4193).
    fn somewhere(name: String) -> Self {
        let mut r = [0u8; 8];
        rustix::rand::getrandom(&mut r, rustix::rand::GetRandomFlags::empty()).unwrap();
        let pair = |at: usize| u16::from_be_bytes([r[at], r[at + 1]]);
        Self {
            name,
            v4: Ipv4Addr::new(198, 18 + (r[0] & 1), r[1], 1),
            v6: Ipv6Addr::new(0xfd00 | u16::from(r[2]), pair(3), pair(5), 0, 0, 0, 0, 1),
        }
    }

    /// Whether no route leads there but the default one.
    fn is_free(&self) -> bool {
        let routes = |family: &str| ip_json(&[family, "route", "show", "table", "all"]);
        let is_default = |route: &Value| route["dst"] == "default";
        let routes = [routes("-4"), routes("-6")].concat();
        !routes.iter().filter(|r| !is_default(r)).any(|r| self.meets(r["dst"].as_str().unwrap_or_default()))
    }

    /// Gives the bridge its addresses.
    #[track_caller]
    fn claim(&self) {
        let (v4, v6) = (format!("{}/24", self.v4), format!("{}/64", self.v6));
        ip(&["address", "add", &v4, "dev", &self.name]).expect(0);
        // A bridge without ports never ends the detection of duplicates.
        ip(&["address", "add", &v6, "dev", &self.name, "nodad"]).expect(0);
    }

    /// Whether no other link has an address in the ranges.
    fn is_alone(&self) -> bool {
        let others = ip_json(&["address", "show"]);
        let others = others.iter().filter(|link| link["ifname"] != self.name.as_str());
        let mut addresses = others.flat_map(|link| link["addr_info"].as_array().cloned().unwrap_or_default());
        !addresses.any(|a| {
            let prefix = a["prefixlen"].as_u64().unwrap_or(32);
            self.meets(&format!("{}/{prefix}", a["local"].as_str().unwrap_or_default()))
        })
    }

    /// Whether `ADDRESS[/PREFIX]` and one of the ranges have an address in common.
    fn meets(&self, range: &str) -> bool {
        let (address, prefix) = range.split_once('/').unwrap_or((range, "128"));
        let Ok(prefix) = prefix.parse::<u32>() else { return false };
        match address.parse() {
            Ok(IpAddr::V4(other)) => {
                let shift = 32 - prefix.min(24);
                u64::from(other.to_bits() ^ self.v4.to_bits()) >> shift == 0
            }
            Ok(IpAddr::V6(other)) => {
                let shift = 128 - prefix.min(64);
                shift == 128 || (other.to_bits() ^ self.v6.to_bits()) >> shift == 0
            }
            Err(_) => false,
        }
    }

    fn list(&self, mtu: u32, addresses: &Path) -> Value {
        let route = |dst: &str, gateway: IpAddr| json!({"dst": dst, "gw": gateway});
        let [a, b, c, _] = self.v4.octets();
        let [p, q, r, ..] = self.v6.segments();
        json!({
            "cniVersion": "0.4.0",
            "name": self.name,
            "plugins": [{
                "type": "bridge",
                "bridge": self.name,
                "mtu": mtu,
                // It also spares each pod the second that the detection of duplicate addresses takes.
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": addresses,
                    "ranges": [
                        [{"subnet": format!("{a}.{b}.{c}.0/24")}],
                        [{"subnet": format!("{p:x}:{q:x}:{r:x}::/64")}],
                    ],
                    "routes": [route("0.0.0.0/0", self.v4.into()), route("::/0", self.v6.into())],
                },
            }],
        })
    }
}

/// Removes the bridge of a test, and what CNI kept of its pods.
pub fn remove(scratch: &Scratch) {
    let name = bridge(scratch);
    if Path::new("/sys/class/net").join(&name).exists() {
        ip(&["link", "delete", &name]);
    }
    // A pod's loopback has a result too, under the pod's id; a containerd that was killed knows of neither any more.
    let namespace = scratch.namespace();
    for entry in fs::read_dir(RESULTS).into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if text.contains(&format!("[\"K8S_POD_NAMESPACE\",\"{namespace}\"]")) {
            fs::remove_file(entry.path()).ok();
        }
    }
}

/// At most 15 characters.
fn bridge(scratch: &Scratch) -> String {
    format!("u{}", scratch.namespace())
}

fn ip(args: &[&str]) -> Done {
    let mut command = Command::new("ip");
    command.args(args);
    Job::start(command).wait(SOON)
}

fn ip_json(args: &[&str]) -> Vec<Value> {
    let done = ip(&[&["-json"], args].concat()).expect(0);
    serde_json::from_slice(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done}"))
}
