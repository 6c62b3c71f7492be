//! The daemon: serves the tasks of one pod until nothing is left to serve.
//!
//! One thread runs the runtime, the server and the spawns; verbs run on the blocking pool. Its death ends its guests
//! on purpose: containerd cannot give a running task to another shim. What it leaves is in the records.

use std::{
    collections::HashMap,
    env,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use runtime_core::{
    Runtime,
    config::Config,
    container::Container,
    exec::Exec,
    layout::Layout,
    owner::Owner,
    pod::Pod,
    stdio,
    sweep::{sweep, tidy},
};
use rustix::process::{chdir, setsid, umask};
use tokio::{
    io::{AsyncReadExt, unix::AsyncFd},
    net::unix::pipe,
    signal::unix::{SignalKind, signal},
    sync::{Notify, mpsc, oneshot},
    task::{JoinHandle, spawn_blocking, yield_now},
    time::{sleep, sleep_until, timeout},
};
use ttrpc::asynchronous::{Server, transport::Listener};

use crate::{
    chores::Chores,
    error::Error,
    events::Publisher,
    flags::Flags,
    handover,
    leave::Leaving,
    logging, memory, oom,
    peer::SameUser,
    private, relay, service,
    spawner::MainThread,
    standby::{OfDaemon, Standby, Work},
};

/// How long a ping keeps a daemon from leaving: `start` has promised its address to a Create that follows.
const PROMISE_HOLDS: Duration = Duration::from_secs(10);
/// How long the end of a container may take on behalf of its `delete`, or of a SIGTERM.
const END_WAIT: Duration = Duration::from_secs(8);
/// How long after its first Create a daemon looks for what others left: not while a guest boots.
const SWEEP_AFTER: Duration = Duration::from_secs(2);
/// How long that may take.
const SWEEP_WAIT: Duration = Duration::from_secs(5);
/// How many tasks an answer goes through from the verb's end to the socket, and some more.
const HOPS: usize = 8;
/// How long the last events may take.
const FLUSH: Duration = Duration::from_secs(2);

/// What the services share.
pub struct Daemon {
    /// The containers.
    pub runtime: Arc<Runtime>,
    asks: mpsc::UnboundedSender<oneshot::Sender<()>>,
    promised: Mutex<HashMap<String, Instant>>,
    leaving: AtomicBool,
    created: AtomicBool,
    swept: AtomicBool,
    /// How many verbs were run.
    pub verbs: AtomicUsize,
    /// Who stands by while nothing is served.
    standby: Mutex<Option<OfDaemon>>,
    flags: Flags,
    /// How much of what blocks is at work.
    at_work: AtomicUsize,
    nudged: Notify,
}

/// Something that blocks, at work until this goes, also by a panic.
struct AtWork<'a>(&'a Daemon);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::SeqCst);
        self.0.nudge();
    }
}

/// Runs the action.
pub fn run(flags: &Flags) -> Result<(), Error> {
    runtime_core::launcher::close_inherited(&[]);
    stdio::reserve_numbers()?;
    memory::frugal();
    setsid().map_err(Error::system("make a session"))?;
    umask(rustix::fs::Mode::from_raw_mode(0o077));
    let config = Config::load()?;
    logging::init(flags, &config.log_level());
    // The bundle is containerd's to remove.
    chdir("/").map_err(Error::system("leave the bundle"))?;
    raise_oom_score();
    fd_limit::raise().map_err(Error::system("raise RLIMIT_NOFILE"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(64)
        .thread_keep_alive(Duration::from_secs(1))
        .build()
        .map_err(Error::system("start its runtime"))?;
    let layout = Layout::new(&config.root, &flags.address);
    let Some([listener, owner, release, line]) = handover::receive()? else {
        // `start` died, or found that the pod is served: what it had made meanwhile nobody else knows of.
        tidy(&layout);
        return Ok(());
    };
    let result = runtime.block_on(serve(flags, config, layout.clone(), listener, owner, release, line));
    if let Err(e) = &result {
        tracing::error!(error = e.chain(), "the daemon failed");
        // Its owner lock went with it: what `start` made for it is a dead daemon's now.
        tidy(&layout);
    }
    // Threads of the pool that still wait for something do not keep a daemon that has left.
    runtime.shutdown_background();
    result
}

async fn serve(
    flags: &Flags,
    config: Config,
    layout: Layout,
    listener: OwnedFd,
    owner: OwnedFd,
    release: OwnedFd,
    line: OwnedFd,
) -> Result<(), Error> {
    let owner = Owner::inherit(&layout, &flags.instance, owner)?;
    let pod = Pod::open(&layout, &flags.namespace, &flags.group)?;
    let address = env::var("TTRPC_ADDRESS").unwrap_or_else(|_| format!("{}.ttrpc", flags.address));
    let events = Publisher::new(&flags.namespace, address);
    let runtime = Runtime::new(
        layout,
        &flags.namespace,
        owner.instance(),
        config,
        vmm_backends::monitors(),
        Box::new(MainThread::new()),
        Box::new(events.clone()),
    )?;
    let (asks, asked) = mpsc::unbounded_channel();
    let daemon = Arc::new(Daemon {
        runtime: Arc::new(runtime),
        asks,
        promised: Mutex::default(),
        leaving: AtomicBool::new(false),
        created: AtomicBool::new(false),
        swept: AtomicBool::new(false),
        verbs: AtomicUsize::new(0),
        standby: Mutex::new(Some(OfDaemon::Start(line))),
        flags: flags.clone(),
        at_work: AtomicUsize::new(0),
        nudged: Notify::new(),
    });
    let kept = listener.try_clone().map_err(Error::system("keep its listener"))?;
    let listener = std::os::unix::net::UnixListener::from(listener);
    listener.set_nonblocking(true).map_err(Error::system("set up its listener"))?;
    let listener =
        tokio::net::UnixListener::from_std(listener).map_err(Error::system("set up its listener"))?;
    let mut server = Server::new()
        .add_listener(Listener::from(listener))
        .set_accept_hook(SameUser)
        .register_service(service::task(&daemon))
        .register_service(private::service(&daemon));
    server.start().await.map_err(|source| Error::Rpc { action: "serve", source })?;
    tracing::info!(namespace = flags.namespace, group = flags.group, "serving");

    let leaving = Leaving { pod, owner: Mutex::new(Some(owner)), listener: kept };
    if until_left(&daemon, &mut server, &leaving, asked, release).await? {
        // It has taken all that is its own with it.
        daemon.dismiss_standby();
    }
    if !events.flush(FLUSH).await {
        tracing::warn!("containerd did not take the last events in time");
    }
    // A daemon that leaves soon has not come to it yet. It holds nobody up any more.
    if daemon.created.load(Ordering::SeqCst) && !daemon.swept.swap(true, Ordering::SeqCst) {
        report(&sweep(daemon.runtime.layout(), Instant::now() + SWEEP_WAIT));
    }
    tracing::info!("left");
    Ok(())
}

/// Serves until the daemon has left: after the last Shutdown, on a signal, when it is idle for long, or when `start`
/// did not let it go. `false`: it has to go, and leaves its socket and pod file to others.
async fn until_left(
    daemon: &Arc<Daemon>,
    server: &mut Server,
    leaving: &Leaving,
    mut asked: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    release: OwnedFd,
) -> Result<bool, Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::system("listen for signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::system("listen for signals"))?;
    let mut child = signal(SignalKind::child()).map_err(Error::system("listen for signals"))?;
    let mut release = pipe::Receiver::from_owned_fd(release).map_err(Error::system("wait for its start"))?;
    let mut released = false;
    let mut chores = Chores::new();
    loop {
        if chores.work(daemon) {
            if leaving.if_still(server, daemon).await? {
                tracing::info!("nothing to serve for {} s", chores.stays().as_secs());
                return Ok(true);
            }
            chores.stay();
        }
        let due = chores.due(daemon);
        let mut byte = [0u8; 1];
        tokio::select! {
            read = release.read(&mut byte), if !released => {
                released = true;
                if !matches!(read, Ok(1)) {
                    tracing::warn!("`start` did not end well; leaving");
                    return leaving.now(server).await;
                }
            }
            Some(answer) = asked.recv() => {
                let left = daemon.may_leave() && leaving.if_still(server, daemon).await?;
                // Some containerds ask once only, while the last containers of the pod still go.
                chores.unwanted = true;
                answer.send(()).ok();
                if left {
                    // Let the answer out before the runtime ends.
                    sleep(Duration::from_millis(5)).await;
                    return Ok(true);
                }
            }
            _ = terminate.recv() => return daemon.terminate(server, leaving).await,
            _ = child.recv() => {}
            _ = interrupt.recv() => return daemon.terminate(server, leaving).await,
            () = daemon.nudged.notified() => {
                // Whoever is to be answered comes first.
                for _ in 0..HOPS {
                    yield_now().await;
                }
            }
            () = chores.bundles.changed() => {}
            () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {}
        }
    }
}

impl Daemon {
    /// `start` has just promised our address to the Create of `id`.
    pub fn promise(&self, id: String) {
        self.promises().insert(id, Instant::now());
        self.nudge();
    }

    /// When the next promise need not be kept any more.
    pub fn promise_ends(&self) -> Option<Instant> {
        self.promises().values().min().map(|at| *at + PROMISE_HOLDS)
    }

    /// A verb begins.
    pub fn called(&self) {
        self.verbs.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends a container. containerd forgets it as soon as that is answered, and asks for no `delete` any more: so who
    /// stands by behind the last one is there before. Blocks.
    pub fn ending<T>(&self, id: &str, end: impl FnOnce(&Runtime) -> T) -> T {
        if self.runtime.has_no_other(id) {
            self.have_standby(&mut self.standby());
        }
        let ended = end(&self.runtime);
        self.reconsider_standby();
        ended
    }

    /// Something was created, or has ended: somebody stands by while there is nothing, and nobody beside what is served.
    /// Of a Create at work neither is known yet.
    pub fn reconsider_standby(&self) {
        let mut standby = self.standby();
        if self.runtime.is_empty() {
            self.have_standby(&mut standby);
        } else if self.runtime.serves()
            && let Some(standby) = standby.take()
        {
            standby.dismiss();
        }
    }

    fn have_standby(&self, standby: &mut Option<OfDaemon>) {
        if standby.is_none() {
            let spawned = Standby::spawn(&self.flags, &self.flags.group, Work::Daemon(&self.flags.instance));
            *standby = spawned
                .inspect_err(|e| tracing::warn!(error = e.chain(), "nobody stands by"))
                .ok()
                .map(OfDaemon::Own);
        }
    }

    fn dismiss_standby(&self) {
        if let Some(standby) = self.standby().take() {
            standby.dismiss();
        }
    }

    fn standby(&self) -> MutexGuard<'_, Option<OfDaemon>> {
        self.standby.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something has happened to the containers: the chores are looked at.
    pub fn nudge(&self) {
        self.nudged.notify_one();
    }

    /// Runs what blocks to its end, whoever waits for it.
    pub fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Runtime) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let daemon = self.clone();
        self.at_work.fetch_add(1, Ordering::SeqCst);
        spawn_blocking(move || {
            let work_ends = AtWork(&daemon);
            let result = work(&daemon.runtime);
            drop(work_ends);
            result
        })
    }

    /// Whether nothing that blocks is at work. On the runtime's thread, where all of it begins, that stays so.
    pub fn is_quiet(&self) -> bool {
        self.at_work.load(Ordering::SeqCst) == 0
    }

    /// The Create of `id` has come.
    pub fn promise_kept(&self, id: &str) {
        self.promises().remove(id);
    }

    fn promises(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is nothing to stay for.
    pub fn may_leave(&self) -> bool {
        let mut promises = self.promises();
        promises.retain(|_, at| at.elapsed() < PROMISE_HOLDS);
        promises.is_empty() && self.runtime.is_empty()
    }

    /// Whether it has begun to leave, so that nothing new is taken on.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    /// Begins to leave, or thinks better of it.
    pub fn set_leaving(&self, leaving: bool) {
        self.leaving.store(leaving, Ordering::SeqCst);
    }

    /// Asks to leave; answered when the daemon has left or when it stays.
    pub async fn ask_to_leave(&self) {
        let (answer, answered) = oneshot::channel();
        if self.asks.send(answer).is_ok() {
            answered.await.ok();
        }
    }

    /// A container was created: its end is watched from now on.
    pub fn watch(self: &Arc<Self>, container: &Arc<Container>) {
        let (daemon, watched) = (self.clone(), container.clone());
        tokio::spawn(async move {
            if let Err(e) = daemon.see_end(&watched).await {
                tracing::error!(id = watched.id, error = e.chain(), "the container's end cannot be seen");
            }
        });
        if let Some(words) = container.words() {
            tokio::spawn(async move {
                let Ok(fd) = watch(&*words) else { return };
                while let Ok(mut ready) = fd.readable().await {
                    if !words.drain() {
                        return;
                    }
                    ready.clear_ready();
                }
            });
        }
        relay::serve(container);
        oom::serve(self, container);
        if let Some(logger) = container.logger() {
            let container = container.clone();
            tokio::spawn(async move {
                let Ok(pidfd) = watch(&*logger) else { return };
                if pidfd.readable().await.is_err() {
                    return;
                }
                let ended = runtime_core::launcher::reap(&logger);
                if container.process().is_some_and(|monitor| !monitor.is_dead().unwrap_or(true)) {
                    tracing::warn!(id = container.id, ?ended, "the logger ended before its container");
                }
            });
        }
        if !self.created.swap(true, Ordering::SeqCst) {
            let daemon = self.clone();
            tokio::spawn(async move {
                sleep(SWEEP_AFTER).await;
                let swept = daemon.blocking(|runtime| {
                    report(&sweep(runtime.layout(), Instant::now() + SWEEP_WAIT));
                });
                if swept.await.is_ok() {
                    daemon.swept.store(true, Ordering::SeqCst);
                }
            });
        }
    }

    /// A process is executed in a container: its end is watched from now on.
    pub fn watch_exec(self: &Arc<Self>, container: &Arc<Container>, exec: &Arc<Exec>) {
        relay::serve_exec(exec);
        let (daemon, container, exec) = (self.clone(), container.clone(), exec.clone());
        tokio::spawn(async move {
            let Some(process) = exec.process() else { return };
            let ended = async { watch(&*process)?.readable().await.map(drop) };
            if let Err(e) = ended.await {
                tracing::error!(id = container.id, exec = exec.id, error = %e, "an exec's end cannot be seen");
                return;
            }
            daemon.blocking(move |runtime| runtime.exec_exited(&container, &exec)).await.ok();
        });
    }

    /// A guest runs: what its monitor says by itself is taken in from now on, else it would pile up there.
    pub fn listen(container: &Container) {
        let Some(control) = container.control() else { return };
        let fd = {
            let Ok(control) = control.lock() else { return };
            watch(&control.fd())
        };
        tokio::spawn(async move {
            let Ok(fd) = fd else { return };
            while let Ok(mut ready) = fd.readable().await {
                // With the monitor's end everything that it said is there for whoever sees its death.
                if ready.ready().is_read_closed() {
                    return;
                }
                ready.clear_ready();
                // A verb that has the channel reads what comes.
                if let Ok(mut control) = control.try_lock() {
                    control.hear();
                }
            }
        });
    }

    /// Kills a guest that has not ended by then.
    pub fn kill_after(self: &Arc<Self>, grace: Duration, container: Arc<Container>) {
        let (daemon, mut exit) = (self.clone(), container.exit());
        tokio::spawn(async move {
            if timeout(grace, exit.wait_for(Option::is_some)).await.is_ok() {
                return;
            }
            let patience = daemon.blocking(move |runtime| runtime.lose_patience(&container));
            if let Ok(Err(e)) = patience.await {
                tracing::warn!(error = e.chain(), "a guest was not killed after its grace time");
            }
        });
    }

    async fn see_end(self: &Arc<Self>, container: &Arc<Container>) -> Result<(), Error> {
        let Some(process) = container.process() else { return Ok(()) };
        let pidfd = watch(&*process).map_err(Error::system("watch a pidfd"))?;
        pidfd.readable().await.map_err(Error::system("watch a pidfd"))?.retain_ready();
        let container = container.clone();
        self.blocking(move |runtime| runtime.exited(&container)).await.ok();
        Ok(())
    }

    /// Ends a container for its `delete`.
    pub fn end_container(self: &Arc<Self>, id: String, txid: Option<&str>) {
        let container = self.runtime.get(&id).ok();
        // One of the same id that was created anew meanwhile is not meant.
        if txid.is_some() && container.and_then(|c| c.txid()).as_deref() != txid {
            return;
        }
        let daemon = self.clone();
        self.blocking(move |_| {
            let until = Instant::now() + fault::deadline("deadline.end", END_WAIT);
            if let Err(e) = daemon.ending(&id, |runtime| runtime.end(&id, until)) {
                tracing::warn!(id, error = e.chain(), "the container was not ended yet");
            }
        });
    }

    /// SIGTERM: everything ends, in order; tombstones stay for the `delete`s that will come.
    async fn terminate(self: &Arc<Self>, server: &mut Server, leaving: &Leaving) -> Result<bool, Error> {
        tracing::info!("asked to end: ending all containers");
        self.set_leaving(true);
        let deadline = Instant::now() + fault::deadline("deadline.end", END_WAIT);
        let ends: Vec<_> = self
            .runtime
            .all()
            .into_iter()
            .map(|container| self.blocking(move |runtime| runtime.end(&container.id, deadline).map(drop)))
            .collect();
        for end in ends {
            if let Ok(Err(e)) = end.await {
                tracing::warn!(error = e.chain(), "a container was not ended");
            }
        }
        leaving.now(server).await
    }
}

/// A copy of `what`, for waiting until it is readable.
fn watch(what: &impl AsFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    registered(what.as_fd().try_clone_to_owned()?)
}

/// For waiting until it is readable or writable.
pub fn registered(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is one descriptor for all of its life, and gives the same number each time it is asked.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

fn report(swept: &runtime_core::sweep::Swept) {
    for (namespace, id) in &swept.unwound {
        tracing::info!(namespace, id, "swept what a dead daemon left");
    }
    for (namespace, id, e) in &swept.failed {
        tracing::warn!(namespace, id, error = e.chain(), "what a dead daemon left could not be swept");
    }
}

/// As every shim: a little more willing to be killed for memory than containerd is. Lowering needs a capability that
/// we may not have, so it is only ever raised.
fn raise_oom_score() {
    let file = PathBuf::from("/proc/self/oom_score_adj");
    let score = std::fs::read_to_string(&file).ok().and_then(|s| s.trim().parse::<i32>().ok());
    if let Some(score) = score
        && let Err(e) = std::fs::write(&file, (score + 1).min(1000).to_string())
    {
        tracing::debug!(error = %e, "the daemon's oom_score_adj was not set");
    }
}
