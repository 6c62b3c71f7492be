//! What a stranger has in the networks of the pods that chaos makes: a queue where the pod's interface sends, and a filter
//! beside it. The way into the pod is left free, for that is where ours goes. It goes with its pod.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf, process::Command};

use crate::harness::{Containerd, Job, SOON};

const PLANT: &str = "tc -batch - <<EOF
qdisc add dev eth0 root handle 77: pfifo
qdisc add dev lo ingress
filter add dev lo parent ffff: protocol ip prio 7 u32 match ip dst 10.9.9.9/32 flowid 1:1
EOF";
/// The pod's interface goes before its network does, and with it what is there.
const LOOK: &str = "tc qdisc show dev lo; tc filter show dev lo ingress; echo
ip link show dev eth0 >/dev/null 2>&1 || exit 0; tc qdisc show dev eth0 root || true";

/// The stranger's things in one pod's network.
#[derive(Debug)]
pub struct Foreign {
    netns: PathBuf,
    /// A path may be used again, this is not meanwhile.
    inode: u64,
    expected: String,
}

impl Foreign {
    /// Puts them into every pod's network of this containerd. One that is just going gets none.
    pub fn plant(containerd: &Containerd) -> Vec<Self> {
        let plant = |netns: PathBuf| {
            let inode = fs::metadata(&netns).ok()?.ino();
            run(&netns, PLANT)?;
            let expected = run(&netns, LOOK).filter(|seen| seen.contains("pfifo 77:"))?;
            Some(Self { netns, inode, expected })
        };
        containerd.netns().into_iter().filter_map(plant).collect()
    }

    /// They are as they were, or have gone with their pod.
    pub fn unharmed(&self) -> Result<(), String> {
        let is_there = || fs::metadata(&self.netns).is_ok_and(|stat| stat.ino() == self.inode);
        match run(&self.netns, LOOK) {
            // The empty line is the end of what is beside the interface.
            Some(now) if now == self.expected || now.ends_with("\n\n") && self.expected.starts_with(&now) => {
                Ok(())
            }
            now if is_there() => {
                Err(format!("the stranger's qdiscs or filter were touched: {now:?}, not {}", self.expected))
            }
            _ => Ok(()),
        }
    }
}

/// What a script prints in a network namespace; `None`: it failed.
fn run(netns: &std::path::Path, script: &str) -> Option<String> {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", netns.display())).args(["sh", "-c", script]);
    let done = Job::start(command).wait(SOON);
    // By which of its names the hook was last spoken of is all that the kernel remembers here.
    (done.status == Some(0)).then(|| done.text().replace("filter parent ffff: ", "filter "))
}
