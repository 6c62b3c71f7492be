//! What a person does with `ctr`.

use std::process::Command;

use crate::direct::eventually_some;

use super::{BOOT, Containerd, Done, Handler, Image, Job, SOON, Version, env};

/// A line of `ctr task ls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The container.
    pub id: String,
    /// The pid that containerd was told.
    pub pid: i32,
    /// `CREATED`, `RUNNING`, `STOPPED` and others.
    pub status: String,
}

impl Containerd {
    /// The command `ctr ARGS`, in the test's namespace.
    pub fn ctr(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env::programs(self.version).join("ctr"));
        command.arg("-a").arg(self.address()).args(["-n", &self.namespace()]).args(args);
        command.env("CONTAINERD_SNAPSHOTTER", env::snapshotter(self.scratch.path()));
        command.env("TMPDIR", self.temporary());
        command
    }

    /// Runs `ctr ARGS` to its end.
    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Done {
        Job::start(self.ctr(args)).wait(SOON)
    }

    /// Imports an image into the test's namespace.
    #[track_caller]
    pub(super) fn import(&self, image: Image) {
        let mut command = self.ctr(&["images", "import"]);
        // containerd 2's transfer service unpacks for its own default snapshotter alone.
        if self.version == Version::V2_3 && env::snapshotter(self.scratch.path()) != "overlayfs" {
            command.arg("--local");
        }
        command.arg(self.kit.archive(image));
        Job::start(command).wait(SOON).expect(0);
    }

    /// The command `ctr run FLAGS IMAGE ID COMMAND`.
    pub fn run_command(&self, flags: &[&str], image: &str, id: &str, command: &[&str]) -> Command {
        self.run_command_by(Handler::Urunc, flags, image, id, command)
    }

    /// The same, of a container of this handler.
    pub fn run_command_by(
        &self,
        handler: Handler,
        flags: &[&str],
        image: &str,
        id: &str,
        command: &[&str],
    ) -> Command {
        self.note(id);
        let fifos = self.scratch.path().join("fifo").to_string_lossy().into_owned();
        let runtime = format!("io.containerd.{}.v2", handler.name());
        let fixed = ["run", "--runtime", &runtime, "--fifo-dir", &fifos];
        self.ctr(&[&fixed, flags, &[image, id], command].concat())
    }

    /// Starts `ctr run --rm FLAGS IMAGE ID COMMAND` in the foreground.
    #[track_caller]
    pub fn spawn_with(&self, flags: &[&str], image: Image, id: &str, command: &[&str]) -> Job {
        Job::start(self.run_command(&[&["--rm"], flags].concat(), image.name(), id, command))
    }

    /// Starts `ctr run --rm IMAGE ID COMMAND` in the foreground.
    #[track_caller]
    pub fn spawn(&self, image: Image, id: &str, command: &[&str]) -> Job {
        self.spawn_with(&[], image, id, command)
    }

    /// Runs a container from beginning to end, as [`Containerd::spawn_with`].
    #[track_caller]
    pub fn run_with(&self, flags: &[&str], image: Image, id: &str, command: &[&str]) -> Done {
        self.spawn_with(flags, image, id, command).wait(BOOT)
    }

    /// Runs a container from beginning to end.
    #[track_caller]
    pub fn run(&self, image: Image, id: &str, command: &[&str]) -> Done {
        self.run_with(&[], image, id, command)
    }

    /// `ctr run -d`: the container runs when this returns.
    #[track_caller]
    pub fn run_detached(&self, image: Image, id: &str, command: &[&str]) -> Task {
        Job::start(self.run_command(&["-d"], image.name(), id, command)).wait(SOON).expect(0);
        let task = self.task(id).unwrap_or_else(|| panic!("{id} is not in `ctr task ls`"));
        assert!(task.status == "RUNNING" || task.status == "STOPPED", "{task:?}");
        task
    }

    /// Makes a task and does not start it: `ctr run -d` writes the pid file between Create and Start, and gives up if
    /// it cannot.
    #[track_caller]
    pub fn create(&self, image: Image, id: &str, command: &[&str]) -> Task {
        let flags = ["-d", "--pid-file", "/nonexistent/pid"];
        let failed = Job::start(self.run_command(&flags, image.name(), id, command)).wait(SOON);
        assert!(failed.stderr.contains("/nonexistent/"), "{failed}");
        self.task(id).unwrap_or_else(|| panic!("{id} is not in `ctr task ls`: {failed}"))
    }

    /// `ctr task ls`.
    #[track_caller]
    pub fn tasks(&self) -> Vec<Task> {
        let listed = self.call(&["task", "ls"]).expect(0).text();
        let line = |line: &str| {
            let [id, pid, status] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                panic!("`ctr task ls` says {line:?}")
            };
            Task { id: id.to_owned(), pid: pid.parse().unwrap(), status: status.to_owned() }
        };
        listed.lines().skip(1).map(line).collect()
    }

    /// The task of a container.
    #[track_caller]
    pub fn task(&self, id: &str) -> Option<Task> {
        self.tasks().into_iter().find(|task| task.id == id)
    }

    /// Waits until the task of a container is in this state.
    #[track_caller]
    pub fn wait_for_status(&self, id: &str, status: &str) -> Task {
        eventually_some(&format!("{id} is {status}"), || self.task(id).filter(|task| task.status == status))
    }

    /// The pids of `ctr task ps`.
    #[track_caller]
    pub fn pids(&self, id: &str) -> Vec<i32> {
        let listed = self.call(&["task", "ps", id]).expect(0).text();
        listed.lines().skip(1).map(|line| line.split_whitespace().next().unwrap().parse().unwrap()).collect()
    }

    /// `ctr task kill -s SIGNAL`.
    #[track_caller]
    pub fn kill(&self, id: &str, signal: &str) {
        self.call(&["task", "kill", "-s", signal, id]).expect(0);
    }

    /// `ctr task rm` of a task that has ended, and `ctr containers rm`; its exit status.
    #[track_caller]
    pub fn delete(&self, id: &str) -> i32 {
        let removed = self.call(&["task", "rm", id]).expect(0);
        self.call(&["containers", "rm", id]).expect(0);
        // "task ID exit with non-zero exit code N", or nothing.
        match removed.stderr.split_once("exit with non-zero exit code ") {
            Some((_, rest)) => {
                rest.trim_end_matches(['"', '\n']).parse().unwrap_or_else(|_| panic!("{removed}"))
            }
            None => 0,
        }
    }

    /// The operator's command, on the records of this containerd.
    #[track_caller]
    pub fn urunc(&self, args: &[&str]) -> Done {
        let mut command = Command::new(env::urunc());
        command.args(args).arg("--root").arg(self.scratch.root());
        Job::start(command).wait(SOON)
    }

    /// Removes whatever `ctr` left of a container: task, container, snapshot. What is not there is no failure.
    #[track_caller]
    pub fn forget(&self, id: &str) {
        self.call(&["task", "rm", "-f", id]);
        self.call(&["containers", "rm", id]);
        self.call(&["snapshots", "rm", id]);
    }

    /// Whether containerd and shim have forgotten a container: no task, no bundle, no run directory.
    #[track_caller]
    pub fn has_forgotten(&self, id: &str) -> bool {
        !self.bundle(id).exists() && !self.run_directory(id).exists() && self.task(id).is_none()
    }

    /// Kills the guest and deletes the container, however it is.
    #[track_caller]
    pub fn end(&self, id: &str) {
        self.call(&["task", "kill", "-s", "SIGKILL", id]);
        self.wait_for_status(id, "STOPPED");
        self.delete(id);
    }
}
