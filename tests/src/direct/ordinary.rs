//! Ordinary containers: busybox, given to the host's OCI runtime; and the calls that only they answer.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use containerd_shim_protos::api::{
    CloseIORequest, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest, PidsRequest,
    PidsResponse, ResizePtyRequest, StartRequest, StartResponse, StateRequest, StateResponse, WaitRequest,
    WaitResponse,
};
use protobuf::{MessageField, well_known_types::any::Any};
use serde_json::{Value, json};

use super::{
    Bench, Bundle, Client, Failure, Pending, Proc, Shim, Spec, TASK, env, fifo, fifo::Reader, hierarchies,
};

/// The applets that the tests execute.
const APPLETS: [&str; 12] =
    ["sh", "sleep", "cat", "true", "echo", "id", "stty", "ps", "kill", "pwd", "seq", "tty"];

/// The OCI runtime of the tests: `$URUNC_TEST_RUNC`, else that of the cache.
pub fn runc() -> PathBuf {
    std::env::var_os("URUNC_TEST_RUNC")
        .filter(|path| !path.is_empty())
        .map_or_else(|| env::cache().join("containerd-2.3/bin/runc"), PathBuf::from)
}

/// A root file system with busybox in it.
pub fn busybox_image(folder: &Path) -> PathBuf {
    let image = folder.join("busybox");
    for name in ["bin", "dev", "proc", "sys", "tmp", "etc"] {
        fs::create_dir_all(image.join(name)).unwrap();
    }
    let program = image.join("bin/busybox");
    if !program.exists() {
        fs::copy(env::cache().join("guest/busybox"), &program).unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        for applet in APPLETS {
            symlink("busybox", image.join("bin").join(applet)).unwrap();
        }
        fs::write(image.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
    }
    image
}

impl Spec {
    /// What a shell of busybox does with this script, in namespaces of its own.
    pub fn busybox(script: &str) -> Self {
        Self::ordinary(&["/bin/sh", "-c", script])
    }

    /// These arguments, in namespaces of their own.
    pub fn ordinary(args: &[&str]) -> Self {
        let json = json!({
            "ociVersion": "1.0.2",
            "process": process(args),
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            ],
            "annotations": {},
            "linux": {
                "resources": {"devices": [{"allow": false, "access": "rwm"}]},
                "namespaces": [
                    {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"},
                ],
            },
        });
        Self { json }
    }

    /// With a terminal.
    #[must_use]
    pub fn on_a_terminal(self) -> Self {
        self.edit(|spec| spec["process"]["terminal"] = true.into())
    }
}

/// The OCI specification's `process` of these arguments.
pub fn process(args: &[&str]) -> Value {
    json!({
        "terminal": false,
        "user": {"uid": 0, "gid": 0},
        "args": args,
        "env": ["PATH=/bin", "TERM=dumb"],
        "cwd": "/",
        "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
        "noNewPrivileges": true,
    })
}

/// As containerd sends it.
fn any_process(process: &Value) -> Any {
    Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(),
        value: serde_json::to_vec(process).unwrap(),
        ..Any::default()
    }
}

impl Bench {
    /// Makes the bundle of an ordinary container; its root file system is busybox's.
    pub fn ordinary(&self, id: &str, spec: &Spec) -> Bundle {
        let mut bundle = self.bundle(id, spec);
        bundle.rootfs[0].source = busybox_image(self.scratch()).to_string_lossy().into_owned();
        bundle.rootfs[0].options = vec!["rbind".to_owned(), "rw".to_owned()];
        bundle
    }

    /// Starts a shim for a bundle, creates its container and starts it: the shim, and its pid.
    #[track_caller]
    pub fn running(&self, bundle: &Bundle) -> (Shim, u32) {
        let shim = self.start(bundle);
        let pid = shim.client.create(bundle).unwrap();
        assert_eq!(shim.client.start(&bundle.id), Ok(pid));
        (shim, pid)
    }

    /// The processes in the cgroups of an ordinary container.
    pub fn members(&self, id: &str) -> Vec<Proc> {
        let lists = hierarchies()
            .into_iter()
            .filter_map(|h| fs::read_to_string(h.join(&self.namespace).join(id).join("cgroup.procs")).ok());
        let mut pids: Vec<i32> = lists
            .flat_map(|list| list.lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids.into_iter().filter_map(Proc::find).collect()
    }

    /// Whether the bundle's root file system is mounted on the host.
    pub fn is_mounted(&self, bundle: &Bundle) -> bool {
        let place = bundle.path.join("rootfs").to_string_lossy().into_owned();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.lines().any(|line| line.split(' ').nth(4) == Some(place.as_str()))
    }
}

/// A process that is to be executed in a container, and its stdio.
pub struct Executed {
    /// The container.
    pub id: String,
    /// Its own id.
    pub exec_id: String,
    /// The process.
    pub process: Value,
    /// Whether a terminal is asked for.
    pub terminal: bool,
    /// Where it reads from; empty: nothing.
    pub stdin: PathBuf,
    /// What it has said.
    pub output: Reader,
    /// What it has said on stderr.
    pub errors: Option<Reader>,
    folder: PathBuf,
}

impl Executed {
    /// In a container of this bundle.
    pub fn new(bundle: &Bundle, exec_id: &str, args: &[&str]) -> Self {
        Self::of(bundle, exec_id, process(args))
    }

    /// The same on a terminal.
    pub fn on_a_terminal(bundle: &Bundle, exec_id: &str, args: &[&str]) -> Self {
        let mut process = process(args);
        process["terminal"] = true.into();
        Self::of(bundle, exec_id, process)
    }

    /// Any process.
    pub fn of(bundle: &Bundle, exec_id: &str, process: Value) -> Self {
        let folder = bundle.path.join(format!("io-{exec_id}"));
        fs::create_dir(&folder).unwrap();
        for name in ["stdin", "stdout", "stderr"] {
            fifo::make(&folder.join(name));
        }
        let terminal = process["terminal"] == true;
        Self {
            id: bundle.id.clone(),
            exec_id: exec_id.to_owned(),
            process,
            terminal,
            stdin: PathBuf::new(),
            output: Reader::open(&folder.join("stdout")),
            errors: (!terminal).then(|| Reader::open(&folder.join("stderr"))),
            folder,
        }
    }

    /// With input.
    #[must_use]
    pub fn with_stdin(mut self) -> Self {
        self.stdin = self.folder.join("stdin");
        self
    }

    fn request(&self) -> ExecProcessRequest {
        let of = |name: &str| self.folder.join(name).to_string_lossy().into_owned();
        ExecProcessRequest {
            id: self.id.clone(),
            exec_id: self.exec_id.clone(),
            terminal: self.terminal,
            stdin: self.stdin.to_string_lossy().into_owned(),
            stdout: of("stdout"),
            stderr: if self.terminal { String::new() } else { of("stderr") },
            spec: MessageField::some(any_process(&self.process)),
            ..ExecProcessRequest::default()
        }
    }
}

impl Client {
    /// Calls Exec.
    #[track_caller]
    pub fn exec(&self, what: &Executed) -> Result<(), Failure> {
        self.send::<Empty>("Exec", &what.request()).wait().map(drop)
    }

    /// Calls Start of an exec: its pid.
    #[track_caller]
    pub fn start_exec(&self, what: &Executed) -> Result<u32, Failure> {
        self.send_start_exec(what).wait().map(|r| r.pid)
    }

    /// Sends a Start of an exec.
    pub fn send_start_exec(&self, what: &Executed) -> Pending<StartResponse> {
        self.send_start_of(&what.id, &what.exec_id)
    }

    /// The same by its id.
    pub fn send_start_of(&self, id: &str, exec_id: &str) -> Pending<StartResponse> {
        let request =
            StartRequest { id: id.to_owned(), exec_id: exec_id.to_owned(), ..StartRequest::default() };
        self.send("Start", &request)
    }

    /// Calls Exec for a process without stdio.
    #[track_caller]
    pub fn exec_without_stdio(&self, id: &str, exec_id: &str, args: &[&str]) -> Result<(), Failure> {
        let request = ExecProcessRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            spec: MessageField::some(any_process(&process(args))),
            ..ExecProcessRequest::default()
        };
        self.send::<Empty>("Exec", &request).wait().map(drop)
    }

    /// Executes it: Exec and Start; its pid.
    #[track_caller]
    pub fn execute(&self, what: &Executed) -> u32 {
        self.exec(what).unwrap();
        self.start_exec(what).unwrap()
    }

    /// Sends a Wait for an exec, without a deadline.
    pub fn send_wait_exec(&self, id: &str, exec_id: &str) -> Pending<WaitResponse> {
        let request =
            WaitRequest { id: id.to_owned(), exec_id: exec_id.to_owned(), ..WaitRequest::default() };
        self.send_to(TASK, "Wait", &request, None)
    }

    /// Calls Wait for an exec: its exit status.
    #[track_caller]
    pub fn wait_exec(&self, what: &Executed) -> Result<u32, Failure> {
        self.send_wait_exec(&what.id, &what.exec_id).wait().map(|r| r.exit_status)
    }

    /// Calls State of an exec.
    #[track_caller]
    pub fn state_exec(&self, what: &Executed) -> Result<StateResponse, Failure> {
        let request =
            StateRequest { id: what.id.clone(), exec_id: what.exec_id.clone(), ..StateRequest::default() };
        self.send("State", &request).wait()
    }

    /// Calls Kill of an exec.
    #[track_caller]
    pub fn kill_exec(&self, what: &Executed, signal: u32) -> Result<(), Failure> {
        let request = KillRequest {
            id: what.id.clone(),
            exec_id: what.exec_id.clone(),
            signal,
            ..KillRequest::default()
        };
        self.send::<Empty>("Kill", &request).wait().map(drop)
    }

    /// Calls Kill of all processes of a container.
    #[track_caller]
    pub fn kill_all(&self, id: &str, signal: u32) -> Result<(), Failure> {
        let request = KillRequest { id: id.to_owned(), signal, all: true, ..KillRequest::default() };
        self.send::<Empty>("Kill", &request).wait().map(drop)
    }

    /// Calls Delete of an exec.
    #[track_caller]
    pub fn delete_exec(&self, what: &Executed) -> Result<DeleteResponse, Failure> {
        let request =
            DeleteRequest { id: what.id.clone(), exec_id: what.exec_id.clone(), ..DeleteRequest::default() };
        self.send("Delete", &request).wait()
    }

    /// Calls CloseIO, of a container or of an exec.
    #[track_caller]
    pub fn close_stdin(&self, id: &str, exec_id: &str) {
        let request = CloseIORequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            stdin: true,
            ..CloseIORequest::default()
        };
        self.send::<Empty>("CloseIO", &request).wait().unwrap();
    }

    /// Calls ResizePty, of a container or of an exec.
    #[track_caller]
    pub fn resize(&self, id: &str, exec_id: &str, (width, height): (u32, u32)) {
        let request = ResizePtyRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            width,
            height,
            ..ResizePtyRequest::default()
        };
        self.send::<Empty>("ResizePty", &request).wait().unwrap();
    }

    /// Calls Pids: each pid, and the exec id in its details.
    #[track_caller]
    pub fn processes(&self, id: &str) -> Vec<(u32, Option<String>)> {
        use containerd_shim_protos::shim::oci::ProcessDetails;
        use protobuf::Message;
        let request = PidsRequest { id: id.to_owned(), ..PidsRequest::default() };
        let answer = self.send::<PidsResponse>("Pids", &request).wait().unwrap();
        let exec_id = |any: &Any| ProcessDetails::parse_from_bytes(&any.value).unwrap().exec_id;
        answer.processes.iter().map(|p| (p.pid, p.info.as_ref().map(exec_id))).collect()
    }
}

/// How long nothing must happen that could at any moment.
pub const A_WHILE: Duration = Duration::from_millis(300);
