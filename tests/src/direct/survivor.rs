//! A process of the test's own in the cgroup leaf of a container: one that outlived everybody.

use std::{
    fs,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, Stdio},
};

use super::{Bench, Proc, SOON, leaves};

/// One that outlived everybody.
#[derive(Debug)]
pub struct Survivor(Child);

impl Survivor {
    /// In every leaf of the container.
    #[track_caller]
    pub fn new(bench: &Bench, id: &str) -> Self {
        let survivor = Self::outside();
        let leaves = leaves(&bench.namespace, id);
        assert!(!leaves.is_empty());
        for leaf in leaves {
            let joined = fs::write(leaf.join("cgroup.procs"), survivor.0.id().to_string());
            joined.unwrap_or_else(|e| panic!("{}: {e}", leaf.display()));
        }
        survivor
    }

    /// In no leaf.
    pub fn outside() -> Self {
        let mut command = Command::new("sleep");
        Self(command.arg("3600").stdin(Stdio::null()).process_group(0).spawn().unwrap())
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    /// Whether it is, or soon will be, killed.
    pub fn was_killed(mut self) -> bool {
        let killed = Proc::of(self.pid()).ends_within(SOON);
        killed && self.0.wait().unwrap().signal() == Some(9)
    }
}

impl Drop for Survivor {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
