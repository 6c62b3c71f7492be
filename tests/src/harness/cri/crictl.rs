//! What a kubelet does, by `crictl`.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use super::{
    super::{BOOT, Done, Job, SOON, env},
    container::Container,
    node::Node,
    parent::Parent,
    pod::Pod,
};

/// A pod that was made.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// containerd's id.
    pub id: String,
    /// Its cgroup.
    pub parent: Parent,
    pub(super) pod: Pod,
    pub(super) file: PathBuf,
    pub(super) logs: PathBuf,
}

/// A container that was made in a pod.
#[derive(Clone, Debug)]
pub struct Member {
    /// containerd's id.
    pub id: String,
    /// The file that its log is written to.
    pub log: PathBuf,
}

impl Sandbox {
    /// The same with the id that `runp` printed.
    #[must_use]
    pub fn with_id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.id);
        self
    }
}

impl Node {
    /// The command `crictl ARGS`.
    pub fn crictl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env::crictl());
        let config = self.containerd().scratch().join("crictl.yaml");
        command.arg("--config").arg(config).args(args);
        command
    }

    /// Runs `crictl ARGS` to its end.
    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Done {
        Job::start(self.crictl(args)).wait(BOOT)
    }

    /// `runp`: makes a pod.
    #[track_caller]
    pub fn runp(&self, pod: &Pod) -> Sandbox {
        let (command, sandbox) = self.runp_command(pod);
        sandbox.with_id(&id(&Job::start(command).wait(SOON).expect(0)))
    }

    /// The command of `runp`, and what it will make: it has no id yet.
    #[track_caller]
    pub fn runp_command(&self, pod: &Pod) -> (Command, Sandbox) {
        let containerd = self.containerd();
        let parent = Parent::make(&self.namespace(), &pod.name);
        let logs = containerd.scratch().join("logs").join(&pod.name);
        fs::create_dir_all(&logs).unwrap();
        let file = containerd.scratch().join(format!("pod-{}.json", pod.name));
        fs::write(&file, pod.file(&self.namespace(), parent.path(), &logs).to_string()).unwrap();
        let command = self.crictl(&["runp", "--runtime", pod.handler.name(), &file.to_string_lossy()]);
        (command, Sandbox { id: String::new(), parent, pod: pod.clone(), file, logs })
    }

    /// `create`: makes a container. The shim hears nothing of it yet.
    #[track_caller]
    pub fn create(&self, sandbox: &Sandbox, container: &Container) -> Member {
        let done = Job::start(self.create_command(sandbox, container)).wait(SOON).expect(0);
        Member { id: id(&done), log: sandbox.logs.join(container.log()) }
    }

    /// The command of `create`.
    #[track_caller]
    pub fn create_command(&self, sandbox: &Sandbox, container: &Container) -> Command {
        let name = format!("container-{}-{}.json", sandbox.pod.name, container.name);
        let file = self.containerd().scratch().join(name);
        fs::write(&file, container.file(&sandbox.pod).to_string()).unwrap();
        let files = [file.to_string_lossy(), sandbox.file.to_string_lossy()];
        self.crictl(&["create", &sandbox.id, &files[0], &files[1]])
    }

    /// `start`: the shim's Create and Start.
    #[track_caller]
    pub fn start(&self, member: &Member) {
        self.call(&["start", &member.id]).expect(0);
    }

    /// `create` and `start`.
    #[track_caller]
    pub fn run(&self, sandbox: &Sandbox, container: &Container) -> Member {
        let member = self.create(sandbox, container);
        self.start(&member);
        member
    }

    /// `stop`: the container's stop signal, and SIGKILL after the grace time.
    #[track_caller]
    pub fn stop(&self, member: &Member, grace: Duration) {
        self.call(&["stop", "--timeout", &grace.as_secs().to_string(), &member.id]).expect(0);
    }

    /// `rm`.
    #[track_caller]
    pub fn rm(&self, member: &Member) {
        self.call(&["rm", &member.id]).expect(0);
    }

    /// `rm -f`.
    #[track_caller]
    pub fn rm_force(&self, member: &Member) {
        self.call(&["rm", "--force", &member.id]).expect(0);
    }

    /// `stopp`: stops a pod and all that is in it.
    #[track_caller]
    pub fn stopp(&self, sandbox: &Sandbox) {
        self.call(&["stopp", &sandbox.id]).expect(0);
    }

    /// `rmp`: removes a pod that was stopped, and its cgroup.
    #[track_caller]
    pub fn rmp(&self, sandbox: &Sandbox) {
        self.call(&["rmp", &sandbox.id]).expect(0);
        sandbox.parent.remove();
    }

    /// `rmp -f`: removes a pod however it is, and its cgroup.
    #[track_caller]
    pub fn rmp_force(&self, sandbox: &Sandbox) {
        self.call(&["rmp", "--force", &sandbox.id]).expect(0);
        sandbox.parent.remove();
    }

    /// Removes whatever pods there are, and the cgroups of all that ever were.
    #[track_caller]
    pub fn rmp_all(&self) {
        for pod in self.pods() {
            self.call(&["rmp", "--force", pod["id"].as_str().unwrap()]).expect(0);
        }
        Parent::remove_all(&self.namespace());
    }
}

/// The id that a command printed.
#[track_caller]
fn id(done: &Done) -> String {
    let id = done.text().trim().to_owned();
    assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{done}");
    id
}
