//! A containerd of the test's own: its folders, its namespace, its address, its events server, and the shims that it
//! starts.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs::{self, DirBuilder},
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use leakcheck::{Scope, Snapshot, settle};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    Bundle, Canaries, Client, Events, Exited, Faults, PATIENCE, PodNetwork, Proc, Ran, Spec, env, eventually,
    fifo::Log, process::adopt_orphans, record, record::digest, shim, shim_with_faults,
};

/// Where sockets are unless containerd says otherwise.
const SOCKETS: &str = "/run/containerd/s";
/// How long what is ending may take to be gone.
const SETTLE: Duration = Duration::from_secs(5 * PATIENCE);

/// What all benches together have found left behind.
static LEAKS: AtomicUsize = AtomicUsize::new(0);

/// How many things the checks of this process have found left behind so far.
pub fn leaks_found() -> usize {
    LEAKS.load(Ordering::SeqCst)
}

/// A containerd of the test's own.
pub struct Bench {
    /// containerd's namespace; nobody else has it.
    pub namespace: String,
    /// What is to go wrong.
    pub faults: Faults,
    /// The events server.
    pub events: Events,
    /// `URUNC_ROOT`.
    pub root: PathBuf,
    program: PathBuf,
    variables: BTreeMap<String, String>,
    address: String,
    image: PathBuf,
    before: Snapshot,
    canaries: RefCell<Canaries>,
    logs: RefCell<Vec<(String, Log)>>,
    ended: std::cell::Cell<bool>,
    // Last: everything else lies in it.
    scratch: TempDir,
}

/// A shim that was started.
pub struct Shim {
    /// The connection to it.
    pub client: Client,
    /// The daemon.
    pub daemon: Proc,
    /// Its address, as `start` printed it.
    pub address: String,
}

impl Bench {
    /// With the shim as it is released. `None`: this kind of test cannot run here, which was said.
    pub fn released() -> Option<Self> {
        Self::new(shim())
    }

    /// With the shim that has fault points. `None`: this kind of test cannot run here, which was said.
    pub fn with_faults() -> Option<Self> {
        Self::new(shim_with_faults())
    }

    fn new(program: PathBuf) -> Option<Self> {
        if let Some(why) = env::obstacle() {
            env::skip(why);
            return None;
        }
        adopt_orphans();
        // On a tmpfs, as the real thing.
        let scratch = tempfile::Builder::new().prefix("urunc-direct-").tempdir_in("/run").unwrap();
        let name = scratch.path().file_name().unwrap().to_string_lossy().into_owned();
        // Its own, and a legal namespace: the random part of the folder's name.
        let namespace = format!("t{}", name.trim_start_matches("urunc-direct-").to_lowercase());
        let namespace = format!("{namespace}{}", std::process::id());
        let address = scratch.path().join("containerd.sock").to_string_lossy().into_owned();
        let root = scratch.path().join("urunc");
        let image = scratch.path().join("image");
        fs::create_dir(&image).unwrap();
        let guest = env::cache().join("guest");
        fs::copy(guest.join("tiny.elf"), image.join("kernel")).unwrap();
        fs::write(image.join("initrd"), "not much of an initrd").unwrap();
        // What daemons keep for good: their empty folders.
        let ours = root.join(&digest(&address)[..12]);
        for folder in [ours.join(".pods"), ours.join(".owners"), root.join(".cgroups")] {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).unwrap();
        }
        let variables = [
            ("URUNC_ROOT", root.to_string_lossy().into_owned()),
            ("URUNC_FAULTS", scratch.path().join("faults").to_string_lossy().into_owned()),
            ("URUNC_LOG", "debug".to_owned()),
            ("URUNC_OCI_RUNTIME", super::runc().to_string_lossy().into_owned()),
            ("TTRPC_ADDRESS", format!("{address}.ttrpc")),
            ("GRPC_ADDRESS", address.clone()),
            ("NAMESPACE", namespace.clone()),
        ];
        let canaries = Canaries::new(&namespace);
        let scope = Scope::new()
            .only_marked()
            .marker(&namespace)
            .marker(scratch.path().to_string_lossy())
            .root(&root)
            // Which OCI runtime can serve: a note on a program.
            .except(root.join(".oci").to_string_lossy());
        Some(Self {
            faults: Faults::new(scratch.path().join("faults")),
            events: Events::new(format!("{address}.ttrpc").into()),
            before: Snapshot::take(&scope),
            variables: variables.map(|(k, v)| (k.to_owned(), v)).into(),
            canaries: RefCell::new(canaries),
            logs: RefCell::default(),
            ended: false.into(),
            namespace,
            root,
            program,
            address,
            image,
            scratch,
        })
    }

    /// Sets a variable of the environment of all shims from now on.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// The test's own folder.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// The image that bundles are made of.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// containerd's address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The folder of this containerd in `URUNC_ROOT`.
    pub fn folder(&self) -> PathBuf {
        self.root.join(&digest(&self.address)[..12])
    }

    /// The run directory of a container.
    pub fn run_directory(&self, id: &str) -> PathBuf {
        self.folder().join(&self.namespace).join(id)
    }

    /// The record of a container, which must be whole; `None`: there is none.
    #[track_caller]
    pub fn record(&self, id: &str) -> Option<Value> {
        let text = fs::read(self.run_directory(id).join("record.json")).ok()?;
        Some(record::check_record(&text).unwrap_or_else(|e| panic!("the record of {id}: {e}")))
    }

    /// Changes a record behind everybody's back.
    #[track_caller]
    pub fn edit_record(&self, id: &str, change: impl FnOnce(&mut Value)) {
        let path = self.run_directory(id).join("record.json");
        edit(&path, change);
    }

    /// Changes a pod file behind everybody's back.
    #[track_caller]
    pub fn edit_pod_file(&self, group: &str, change: impl FnOnce(&mut Value)) {
        edit(&self.pod_file(group), change);
    }

    /// Puts a record of another time into a run directory, making that where it is missing.
    #[track_caller]
    pub fn put_record(&self, id: &str, record: &Value) {
        fs::create_dir_all(self.run_directory(id)).unwrap();
        fs::write(self.run_directory(id).join("record.json"), record::seal(record)).unwrap();
    }

    /// The processes in the cgroup leaves of a container.
    pub fn processes(&self, id: &str) -> Vec<Proc> {
        record::processes(&self.namespace, id).into_iter().filter_map(Proc::find).collect()
    }

    /// The daemons of this bench.
    pub fn daemons(&self) -> Vec<Proc> {
        self.actions("daemon")
    }

    /// The processes of this bench's shims that execute this action.
    pub fn actions(&self, action: &str) -> Vec<Proc> {
        let is_ours = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<_> = line.split(|b| *b == 0).collect();
            words.contains(&self.namespace.as_bytes()) && words.contains(&action.as_bytes())
        };
        let pids =
            fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
        pids.filter(|pid| *pid > 1).filter(is_ours).filter_map(Proc::find).collect()
    }

    /// Ends the `gc` that stands by or goes on with something, so that it does not act beside the test.
    #[track_caller]
    pub fn end_gc(&self) {
        // Nobody can tell whose it is until it has its command line, at the end of its execve(2).
        eventually("there is a gc", || !self.actions("gc").is_empty());
        self.actions("gc").iter().for_each(Proc::kill);
    }

    /// The socket of a group.
    pub fn socket(&self, group: &str) -> PathBuf {
        Path::new(SOCKETS).join(digest(&[&self.address, self.namespace.as_str(), group].join("/")))
    }

    /// The pod file of a group.
    pub fn pod_file(&self, group: &str) -> PathBuf {
        let name = digest(&[self.namespace.as_str(), group].join("/"))[..16].to_owned();
        self.folder().join(".pods").join(name + ".json")
    }

    /// A pid of an unrelated process.
    pub fn canary_pid(&self) -> i32 {
        self.canaries.borrow().pid()
    }

    /// A pod's network with its interface `pod0`, and with a stranger's things that must be unharmed.
    pub fn pod_network(&self) -> PodNetwork {
        self.watched(PodNetwork::new())
    }

    /// A pod's network without any interface yet.
    pub fn empty_network(&self) -> PodNetwork {
        self.watched(PodNetwork::empty())
    }

    fn watched(&self, network: PodNetwork) -> PodNetwork {
        self.canaries.borrow_mut().watch(network.foreign());
        network
    }

    /// Makes a bundle.
    pub fn bundle(&self, id: &str, spec: &Spec) -> Bundle {
        let mut spec = spec.clone();
        if spec.json["linux"]["cgroupsPath"].is_null() {
            spec.json["linux"]["cgroupsPath"] = format!("/{}/{id}", self.namespace).into();
        }
        let bundle = Bundle::make(self.scratch.path().join("bundles").join(id), id, &spec, &self.image);
        self.logs.borrow_mut().push((id.to_owned(), bundle.log.clone()));
        bundle
    }

    /// The command line of an action, as containerd gives it.
    pub fn command(&self, action: &str, id: &str, folder: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["-namespace", &self.namespace, "-address", &self.address]).args([
            "-publish-binary",
            "/usr/bin/containerd",
            "-id",
            id,
        ]);
        if action == "delete" {
            command.arg("-bundle").arg(folder);
        }
        command.arg(action).current_dir(folder).envs(&self.variables).env_remove("URUNC_TEST_SHIM");
        command
    }

    /// Executes `start`.
    pub fn run_start(&self, bundle: &Bundle, stdin: &[u8]) -> Ran {
        Ran::spawn(self.command("start", &bundle.id, &bundle.path), stdin)
    }

    /// Executes `start`, which must succeed, and connects.
    #[track_caller]
    pub fn start(&self, bundle: &Bundle) -> Shim {
        let started = self.run_start(bundle, b"").wait();
        assert_eq!(started.code, Some(0), "start failed: {}", started.stderr);
        assert_eq!(started.stderr, "", "start said something on stderr");
        self.connect(&started.text())
    }

    /// Connects to a shim.
    #[track_caller]
    pub fn connect(&self, address: &str) -> Shim {
        let client = Client::connect(address).unwrap_or_else(|e| panic!("{address}: {e:?}"));
        let (shim, _) = client.connect_task("nobody");
        Shim { client, daemon: Proc::of(shim.cast_signed()), address: address.to_owned() }
    }

    /// A container that is Created, its shim and its pid.
    #[track_caller]
    pub fn created(&self, id: &str, spec: &Spec) -> (Shim, Bundle, u32) {
        let bundle = self.bundle(id, spec).without_stdio();
        let shim = self.start(&bundle);
        let pid = shim.client.create(&bundle).unwrap();
        (shim, bundle, pid)
    }

    /// One whose daemon was killed.
    #[track_caller]
    pub fn orphaned(&self, id: &str) -> (Bundle, u32) {
        let (shim, bundle, pid) = self.created(id, &Spec::tiny("hang"));
        shim.daemon.kill();
        (bundle, pid)
    }

    /// Executes `delete`.
    pub fn run_delete(&self, bundle: &Bundle) -> Ran {
        Ran::spawn(self.command("delete", &bundle.id, &bundle.path), b"")
    }

    /// Executes `delete` and waits for it.
    #[track_caller]
    pub fn delete(&self, bundle: &Bundle) -> Exited {
        self.run_delete(bundle).wait()
    }

    /// Ends a container as containerd does: kill, wait, Delete, Shutdown, `delete`, remove the bundle.
    #[track_caller]
    pub fn end(&self, shim: &Shim, bundle: Bundle) {
        let client = &shim.client;
        // It may have ended by itself.
        client.kill(&bundle.id, Signal::KILL.as_raw()).ok();
        client.wait(&bundle.id).unwrap();
        client.delete(&bundle.id).unwrap();
        client.shutdown(&bundle.id);
        self.delete(&bundle).deleted();
        bundle.remove();
    }

    /// Runs a container of its own from `start` to `delete`: it must work, and give this exit status.
    #[track_caller]
    pub fn run(&self, id: &str, status: u32) {
        let bundle = self.bundle(id, &Spec::tiny(&format!("exit={status}"))).without_stdio();
        let shim = self.start(&bundle);
        shim.client.create(&bundle).unwrap();
        shim.client.start(id).unwrap();
        assert_eq!(shim.client.wait(id).unwrap(), status);
        self.end(&shim, bundle);
    }

    /// What is there now and was not before, nothing at best; waits for what is just ending.
    fn leaks(&self) -> leakcheck::Leaks {
        let mut scope = Scope::new()
            .only_marked()
            .marker(&self.namespace)
            .marker(self.scratch.path().to_string_lossy())
            .root(&self.root)
            .except(self.root.join(".oci").to_string_lossy());
        // The sockets' names are hashes: every group that a test names is an id of one of its bundles.
        for (id, _) in &*self.logs.borrow() {
            scope = scope.marker(self.socket(id).to_string_lossy());
        }
        settle(&self.before, &scope, SETTLE)
    }

    /// Nothing was left behind and nobody was touched, so far.
    #[track_caller]
    pub fn check(&self) {
        let leaks = self.leaks();
        Self::count(leaks.leaked.len());
        assert!(leaks.is_clean(), "something was left behind:\n{}", leaks.table());
        // A holder that let go was not touched: it was another test's process on its way to its program.
        let gone = leaks.gone.iter().filter(|entry| entry.kind != leakcheck::Kind::Holder);
        let gone: Vec<_> = gone.map(|e| format!("{e:?}")).collect();
        assert!(gone.is_empty(), "somebody was touched:\n{}", gone.join("\n"));
        self.canaries.borrow_mut().check();
    }

    /// Nothing was left in a pod's network, beside what was there without us.
    #[track_caller]
    pub fn check_network(&self, network: &PodNetwork, before: &str) {
        let now = network.state();
        Self::count(now.lines().filter(|line| !before.lines().any(|known| known == *line)).count());
        assert_eq!(now, before, "something was left in the pod's network, or somebody was touched there");
    }

    fn count(leaks: usize) {
        LEAKS.fetch_add(leaks, Ordering::SeqCst);
    }

    /// The end of a test: nothing was left behind and nobody was touched.
    #[track_caller]
    pub fn finish(self) {
        self.check();
        self.ended.set(true);
    }

    /// Every log line of every bundle.
    pub fn logs(&self) -> String {
        let logs = self.logs.borrow();
        let lines = logs.iter().flat_map(|(id, log)| {
            log.text().lines().map(|line| format!("[{id}] {line}")).collect::<Vec<_>>()
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if self.ended.get() {
            return;
        }
        let mut err = std::io::stderr().lock();
        // The rest of the log is on its way.
        std::thread::sleep(Duration::from_millis(50));
        let events: Vec<_> = self.events.all().iter().map(super::Event::brief).collect();
        writeln!(err, "--- log of {}\n{}\n--- events: {}", self.namespace, self.logs(), events.join(", "))
            .ok();
        let fired: Vec<_> = self.faults.fired().iter().rev().take(10).map(|f| format!("{f:?}")).collect();
        writeln!(err, "--- faults that fired, the last first: {}", fired.join(", ")).ok();
        drop(err);
        // A test that failed leaves what it will: what bears the bench's mark is ended, so that others are not
        // disturbed.
        self.faults.set(&[]);
        for entry in self.leaks().of(leakcheck::Kind::Process) {
            let pid = entry.name.split('@').next().and_then(|pid| pid.parse().ok()).unwrap_or(0);
            if let Some(process) = (pid > 1).then(|| Proc::find(pid)).flatten() {
                process.signal(Signal::KILL);
            }
        }
        for (id, _) in &*self.logs.borrow() {
            fs::remove_file(self.socket(id)).ok();
            for hierarchy in record::hierarchies() {
                let folder = hierarchy.join(&self.namespace).join(id);
                for entry in
                    fs::read_dir(&folder).into_iter().flatten().flatten().filter(|e| e.path().is_dir())
                {
                    let (deadline, leaf) = (Instant::now() + SETTLE, entry.path());
                    // Whoever was killed above takes a moment to die.
                    while fs::remove_dir(&leaf).is_err() && leaf.exists() && Instant::now() < deadline {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
                fs::remove_dir(&folder).ok();
            }
        }
        assert!(std::thread::panicking(), "the test did not call finish()");
    }
}

#[track_caller]
fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = record::unseal(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, record::seal(&value)).unwrap();
}
