//! Processes that nobody may touch.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use super::{Proc, record::hierarchies};

/// An unrelated process, and one in the cgroup above the containers' own; both must live to the end.
#[derive(Debug)]
pub struct Canaries {
    unrelated: Child,
    above: Child,
    folders: Vec<PathBuf>,
}

impl Canaries {
    /// Puts them up; the second one in the cgroup `/NAMESPACE` of every hierarchy.
    pub fn new(namespace: &str) -> Self {
        let sleep = || {
            let mut command = Command::new("sleep");
            command.arg("3600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            // Nothing of the test's own is in them but their parent.
            command.process_group(0).current_dir("/").spawn().expect("sleep can be executed")
        };
        let (unrelated, above) = (sleep(), sleep());
        let mut folders = Vec::new();
        for hierarchy in hierarchies() {
            let folder = hierarchy.join(namespace);
            // A hierarchy may not let us in (a cpuset without cpus): it is enough to be in the others.
            if fs::create_dir(&folder).is_ok() {
                let procs = folder.join("cgroup.procs");
                let joined =
                    File::options().write(true).open(procs).and_then(|mut f| write!(f, "{}", above.id()));
                if joined.is_ok() {
                    folders.push(folder);
                } else {
                    fs::remove_dir(&folder).ok();
                }
            }
        }
        assert!(!folders.is_empty(), "the canary found no cgroup to sit in");
        Self { unrelated, above, folders }
    }

    /// A process of the canary's kind, as an unrelated one whose number a record may name.
    pub fn pid(&self) -> i32 {
        self.unrelated.id().cast_signed()
    }

    /// Both live, and nobody has stopped them.
    #[track_caller]
    pub fn check(&mut self) {
        if let Err(why) = self.unharmed() {
            panic!("{why}");
        }
    }

    /// The same; an error says what happened to whom.
    pub fn unharmed(&mut self) -> Result<(), String> {
        for (name, child) in [("unrelated", &mut self.unrelated), ("above", &mut self.above)] {
            if child.try_wait().unwrap().is_some() {
                return Err(format!("the {name} canary was killed"));
            }
            let state = Proc::of(child.id().cast_signed()).state();
            if state != Some('S') {
                return Err(format!("the {name} canary was touched: its state is {state:?}"));
            }
        }
        for folder in &self.folders {
            let procs = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            if !procs.lines().any(|pid| pid == self.above.id().to_string()) {
                return Err(format!("the canary was moved out of {}", folder.display()));
            }
        }
        Ok(())
    }
}

impl Drop for Canaries {
    fn drop(&mut self) {
        for child in [&mut self.unrelated, &mut self.above] {
            child.kill().ok();
            child.wait().ok();
        }
        for folder in &self.folders {
            fs::remove_dir(folder).ok();
        }
    }
}
