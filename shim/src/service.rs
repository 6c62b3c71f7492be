//! The Task service: containerd's calls become verbs. No logic of its own.
//!
//! ttrpc drops a handler's future when its deadline passes or containerd goes away. So everything that changes
//! something runs in a task of its own, and the handler only waits for it. State, Pids, Connect and Wait are answered
//! from memory.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use containerd_shim_protos::{
    api::{
        CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
        CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest,
        PauseRequest, PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest,
        ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest,
        StatsResponse, Status, UpdateTaskRequest, WaitRequest, WaitResponse,
    },
    shim::oci::ProcessDetails,
    shim_async::{Task, create_task},
};
use host_mount::RootfsMount;
use protobuf::{Message, MessageField, well_known_types::any::Any};
use runtime_core::{
    CreateInput, Error, Runtime,
    container::{Container, Snapshot},
    exec::{Exec, ExecState},
    lifecycle::State,
    record::StdioPaths,
};
use ttrpc::{
    Code, Result,
    r#async::{Service, TtrpcContext},
    error::get_rpc_status,
};

use crate::{
    daemon::Daemon,
    events::timestamp,
    metrics, options, relay,
    rpc_error::{not_found, status, unimplemented},
};

/// The service that every containerd from 1.6 on speaks to a shim that says version 2. Its messages are those of
/// version 3, for which the bindings were generated.
const V2: &str = "containerd.task.v2.Task";
const V3: &str = "containerd.task.v3.Task";

/// The service, for the daemon's server.
pub fn task(daemon: &Arc<Daemon>) -> HashMap<String, Service> {
    let mut services = create_task(Arc::new(TaskService { daemon: daemon.clone() }));
    services.remove(V3).map(|service| HashMap::from([(V2.to_owned(), service)])).unwrap_or_default()
}

struct TaskService {
    daemon: Arc<Daemon>,
}

impl TaskService {
    /// Runs a verb to its end, whoever still waits for it.
    async fn run<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&Runtime) -> std::result::Result<T, Error> + Send + 'static,
    ) -> Result<T> {
        self.daemon.called();
        match self.daemon.blocking(verb).await {
            Ok(result) => result.map_err(|e| status(&e)),
            Err(e) => Err(get_rpc_status(Code::INTERNAL, e)),
        }
    }

    /// What is known of a container whose Create has been committed.
    fn snapshot(&self, id: &str) -> Result<Snapshot> {
        let container = self.daemon.runtime.get(id).map_err(|e| status(&e))?;
        let snapshot = container.snapshot();
        if snapshot.state == State::Creating || snapshot.pid == 0 {
            return Err(not_found("container", id));
        }
        Ok(snapshot)
    }

    /// A process that was executed in a container.
    fn exec_of(&self, id: &str, exec_id: &str) -> Result<Arc<Exec>> {
        self.snapshot(id)?;
        self.daemon.runtime.get(id).and_then(|container| container.exec(exec_id)).map_err(|e| status(&e))
    }

    async fn start_exec(&self, id: String, exec_id: String) -> Result<StartResponse> {
        let container = self.daemon.runtime.get(&id).map_err(|e| status(&e))?;
        let daemon = self.daemon.clone();
        daemon.called();
        // A task of its own, as for the container: whoever started it may be gone.
        let started = tokio::spawn(async move {
            let started = daemon.blocking(move |runtime| runtime.exec_start(&id, &exec_id)).await;
            if let Ok(Ok((exec, _))) = &started {
                daemon.watch_exec(&container, exec);
            }
            started
        });
        match started.await {
            Ok(Ok(started)) => {
                let (_, pid) = started.map_err(|e| status(&e))?;
                Ok(StartResponse { pid, ..StartResponse::default() })
            }
            Ok(Err(e)) | Err(e) => Err(get_rpc_status(Code::INTERNAL, e)),
        }
    }
}

/// Who waits for a Create. If he goes - his deadline passes, or containerd is gone - nobody has an answer, and nobody may
/// ever ask for the container: what is not committed yet is given up.
struct Caller {
    daemon: Arc<Daemon>,
    container: Option<Arc<Container>>,
}

impl Drop for Caller {
    fn drop(&mut self) {
        if let Some(container) = self.container.take() {
            tracing::warn!(id = container.id, "nobody waits for this create any more: it is given up");
            self.daemon.runtime.give_up(&container);
        }
    }
}

#[async_trait]
impl Task for TaskService {
    async fn create(&self, _: &TtrpcContext, req: CreateTaskRequest) -> Result<CreateTaskResponse> {
        if !req.checkpoint.is_empty() {
            return Err(unimplemented(
                "checkpoint: no container is restored from a checkpoint; create it without one",
            ));
        }
        if self.daemon.runtime.is_in_the_way(&req.id) {
            let id = req.id.clone();
            self.run(move |runtime| runtime.make_way(&id)).await?;
        }
        if self.daemon.is_leaving() {
            return Err(get_rpc_status(Code::UNAVAILABLE, "the shim is leaving; try again"));
        }
        let mount = |m: containerd_shim_protos::api::Mount| RootfsMount {
            kind: m.type_,
            source: m.source,
            target: m.target,
            options: m.options,
        };
        let given = options::of(&req.options).map_err(|e| status(&e))?;
        let input = CreateInput {
            id: req.id,
            bundle: req.bundle.into(),
            rootfs: req.rootfs.into_iter().map(mount).collect(),
            stdio: StdioPaths {
                stdin: req.stdin,
                stdout: req.stdout,
                stderr: req.stderr,
                terminal: req.terminal,
            },
            options: given.config,
            oci: given.oci,
        };
        self.daemon.called();
        // Without a wait between the two: a daemon that is not leaving now does not leave any more.
        let container = self.daemon.runtime.register(&input).map_err(|e| status(&e))?;
        self.daemon.promise_kept(&container.id);
        let daemon = self.daemon.clone();
        let mut caller = Caller { daemon: daemon.clone(), container: Some(container.clone()) };
        // A task of its own: what follows a Create that succeeded must not be dropped with the handler either.
        let created = tokio::spawn(async move {
            let creating = container.clone();
            let serving = daemon.clone();
            let created = daemon.blocking(move |runtime| {
                let created = runtime.create(&creating, &input);
                serving.reconsider_standby();
                created
            });
            let created = created.await;
            if let Ok(Ok(())) = &created {
                daemon.watch(&container);
            }
            created.map(|result| result.map(|()| container))
        });
        let created = created.await;
        caller.container = None;
        match created {
            Ok(Ok(Ok(container))) => {
                Ok(CreateTaskResponse { pid: container.snapshot().pid, ..CreateTaskResponse::default() })
            }
            Ok(Ok(Err(e))) => Err(status(&e)),
            Ok(Err(e)) | Err(e) => Err(get_rpc_status(Code::INTERNAL, e)),
        }
    }

    async fn start(&self, _: &TtrpcContext, req: StartRequest) -> Result<StartResponse> {
        self.snapshot(&req.id)?;
        if !req.exec_id.is_empty() {
            return self.start_exec(req.id, req.exec_id).await;
        }
        let container = self.daemon.runtime.get(&req.id).map_err(|e| status(&e))?;
        let daemon = self.daemon.clone();
        daemon.called();
        // A task of its own, as in Create: whoever started it may be gone.
        let started = tokio::spawn(async move {
            let started = daemon.blocking(move |runtime| runtime.start(&req.id)).await;
            if let Ok(Ok(_)) = &started {
                Daemon::listen(&container);
            }
            started
        });
        let pid = match started.await {
            Ok(Ok(started)) => started.map_err(|e| status(&e))?,
            Ok(Err(e)) | Err(e) => return Err(get_rpc_status(Code::INTERNAL, e)),
        };
        Ok(StartResponse { pid, ..StartResponse::default() })
    }

    async fn state(&self, _: &TtrpcContext, req: StateRequest) -> Result<StateResponse> {
        let snapshot = self.snapshot(&req.id)?;
        let container = self.daemon.runtime.get(&req.id).map_err(|e| status(&e))?;
        if !req.exec_id.is_empty() {
            let exec = container.exec(&req.exec_id).map_err(|e| status(&e))?;
            return Ok(exec_state(&container, &exec, snapshot.state));
        }
        let stdio = container.stdio.clone();
        let state = match snapshot.state {
            State::Creating | State::Created | State::Starting => Status::CREATED,
            State::Running => Status::RUNNING,
            State::Paused => Status::PAUSED,
            State::Stopped | State::Unwinding | State::UnwindBlocked => Status::STOPPED,
        };
        Ok(StateResponse {
            id: req.id,
            bundle: container.bundle.to_string_lossy().into_owned(),
            pid: snapshot.pid,
            status: state.into(),
            stdin: stdio.stdin,
            stdout: stdio.stdout,
            stderr: stdio.stderr,
            terminal: stdio.terminal,
            exit_status: snapshot.exit.map_or(0, |e| e.status),
            exited_at: snapshot.exit.map_or_else(Default::default, |e| timestamp(e.at)),
            ..StateResponse::default()
        })
    }

    async fn wait(&self, _: &TtrpcContext, req: WaitRequest) -> Result<WaitResponse> {
        self.snapshot(&req.id)?;
        let mut exit = match req.exec_id.is_empty() {
            true => self.daemon.runtime.get(&req.id).map_err(|e| status(&e))?.exit(),
            false => self.exec_of(&req.id, &req.exec_id)?.exit(),
        };
        let exit = *exit.wait_for(Option::is_some).await.map_err(|e| get_rpc_status(Code::INTERNAL, e))?;
        let Some(exit) = exit else { return Err(not_found("container", &req.id)) };
        Ok(WaitResponse {
            exit_status: exit.status,
            exited_at: timestamp(exit.at),
            ..WaitResponse::default()
        })
    }

    async fn kill(&self, _: &TtrpcContext, req: KillRequest) -> Result<Empty> {
        self.snapshot(&req.id)?;
        if !req.exec_id.is_empty() {
            self.run(move |runtime| runtime.exec_kill(&req.id, &req.exec_id, req.signal)).await?;
            return Ok(Empty::new());
        }
        let container = self.daemon.runtime.get(&req.id).map_err(|e| status(&e))?;
        let daemon = self.daemon.clone();
        daemon.called();
        let killed = tokio::spawn(async move {
            let killed = daemon.blocking(move |runtime| runtime.kill(&req.id, req.signal, req.all)).await;
            if let Ok(Ok(Some(grace))) = &killed {
                daemon.kill_after(*grace, container);
            }
            killed
        });
        match killed.await {
            Ok(Ok(killed)) => killed.map(|_| Empty::new()).map_err(|e| status(&e)),
            Ok(Err(e)) | Err(e) => Err(get_rpc_status(Code::INTERNAL, e)),
        }
    }

    async fn delete(&self, _: &TtrpcContext, req: DeleteRequest) -> Result<DeleteResponse> {
        if !req.exec_id.is_empty() {
            self.snapshot(&req.id)?;
            let deleted = self.run(move |runtime| runtime.exec_delete(&req.id, &req.exec_id)).await;
            let (exec, pid, exit) = deleted?;
            relay::end_exec(&exec).await;
            return Ok(DeleteResponse {
                pid,
                exit_status: exit.status,
                exited_at: timestamp(exit.at),
                ..DeleteResponse::default()
            });
        }
        let container = self.daemon.runtime.get(&req.id).ok();
        let daemon = self.daemon.clone();
        let deleted = self.run(move |_| daemon.ending(&req.id, |runtime| runtime.delete(&req.id)));
        let (pid, exit) = deleted.await?;
        if let Some(container) = container {
            relay::end(&container).await;
        }
        Ok(DeleteResponse {
            pid,
            exit_status: exit.status,
            exited_at: timestamp(exit.at),
            ..DeleteResponse::default()
        })
    }

    async fn pids(&self, _: &TtrpcContext, req: PidsRequest) -> Result<PidsResponse> {
        self.snapshot(&req.id)?;
        let pids = self.run(move |runtime| runtime.pids(&req.id)).await?;
        let process = |(pid, exec_id): (u32, Option<String>)| {
            let info = exec_id.map(|exec_id| details(&exec_id)).transpose()?;
            Ok(ProcessInfo { pid, info: info.into(), ..ProcessInfo::default() })
        };
        let processes: protobuf::Result<_> = pids.into_iter().map(process).collect();
        let processes = processes.map_err(|e| get_rpc_status(Code::INTERNAL, e))?;
        Ok(PidsResponse { processes, ..PidsResponse::default() })
    }

    async fn connect(&self, _: &TtrpcContext, req: ConnectRequest) -> Result<ConnectResponse> {
        // Never an error, not even for an id that nobody knows: containerd's restart asks before anything else.
        let task_pid = self.snapshot(&req.id).map_or(0, |s| s.pid);
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..ConnectResponse::default()
        })
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> Result<Empty> {
        let daemon = self.daemon.clone();
        tokio::spawn(async move { daemon.ask_to_leave().await }).await.ok();
        Ok(Empty::new())
    }

    async fn pause(&self, _: &TtrpcContext, req: PauseRequest) -> Result<Empty> {
        self.snapshot(&req.id)?;
        self.run(move |runtime| runtime.pause(&req.id)).await?;
        Ok(Empty::new())
    }

    async fn resume(&self, _: &TtrpcContext, req: ResumeRequest) -> Result<Empty> {
        self.snapshot(&req.id)?;
        self.run(move |runtime| runtime.resume(&req.id)).await?;
        Ok(Empty::new())
    }

    async fn checkpoint(&self, _: &TtrpcContext, req: CheckpointTaskRequest) -> Result<Empty> {
        self.snapshot(&req.id)?;
        Err(unimplemented(
            "checkpoint: no container is saved and restored: the state of a guest is its monitor's memory, and an ordinary \
             container would be restored without its pod",
        ))
    }

    async fn exec(&self, _: &TtrpcContext, req: ExecProcessRequest) -> Result<Empty> {
        self.snapshot(&req.id)?;
        let stdio =
            StdioPaths { stdin: req.stdin, stdout: req.stdout, stderr: req.stderr, terminal: req.terminal };
        let spec = req.spec.into_option().unwrap_or_default().value;
        self.run(move |runtime| runtime.exec_add(&req.id, &req.exec_id, &spec, &stdio)).await?;
        Ok(Empty::new())
    }

    async fn resize_pty(&self, _: &TtrpcContext, req: ResizePtyRequest) -> Result<Empty> {
        // A guest does not hear of it, for a serial line has no size; but its terminal has one.
        self.snapshot(&req.id)?;
        let side = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        let (width, height) = (side(req.width), side(req.height));
        let resized = match req.exec_id.is_empty() {
            true => self.daemon.runtime.get(&req.id).and_then(|container| container.resize(width, height)),
            false => self.exec_of(&req.id, &req.exec_id)?.resize(width, height),
        };
        resized.map_err(|e| status(&e))?;
        Ok(Empty::new())
    }

    async fn close_io(&self, _: &TtrpcContext, req: CloseIORequest) -> Result<Empty> {
        self.snapshot(&req.id)?;
        match (req.stdin, req.exec_id.is_empty()) {
            (false, _) => {}
            (true, true) => self.daemon.runtime.get(&req.id).map_err(|e| status(&e))?.close_stdin(),
            (true, false) => self.exec_of(&req.id, &req.exec_id)?.close_stdin(),
        }
        Ok(Empty::new())
    }

    async fn update(&self, _: &TtrpcContext, req: UpdateTaskRequest) -> Result<Empty> {
        self.snapshot(&req.id)?;
        let resources = req.resources.into_option().unwrap_or_default();
        // Whatever stands before the name: containerd's clients differ.
        if resources.type_url.rsplit('/').next() != Some("LinuxResources") {
            let sentence = format!("resources: {:?} is no LinuxResources", resources.type_url);
            return Err(get_rpc_status(Code::INVALID_ARGUMENT, sentence));
        }
        self.run(move |runtime| runtime.update(&req.id, &resources.value)).await?;
        Ok(Empty::new())
    }

    async fn stats(&self, _: &TtrpcContext, req: StatsRequest) -> Result<StatsResponse> {
        self.snapshot(&req.id)?;
        let stats = self.run(move |runtime| runtime.stats(&req.id)).await?;
        let any = metrics::any(&stats).map_err(|e| get_rpc_status(Code::INTERNAL, e))?;
        Ok(StatsResponse { stats: MessageField::some(any), ..StatsResponse::default() })
    }
}

/// What is answered to State of a process that was executed in a container, which is paused with it.
fn exec_state(container: &Container, exec: &Exec, state: State) -> StateResponse {
    let (own, pid, exit) = exec.snapshot();
    let status = match own {
        ExecState::Added => Status::CREATED,
        ExecState::Running if state == State::Paused => Status::PAUSED,
        ExecState::Running => Status::RUNNING,
        ExecState::Stopped => Status::STOPPED,
    };
    let stdio = exec.stdio.clone();
    StateResponse {
        // As containerd's own shim has it: the container's name is in `id` of the request alone.
        id: exec.id.clone(),
        exec_id: exec.id.clone(),
        bundle: container.bundle.to_string_lossy().into_owned(),
        pid,
        status: status.into(),
        stdin: stdio.stdin,
        stdout: stdio.stdout,
        stderr: stdio.stderr,
        terminal: stdio.terminal,
        exit_status: exit.map_or(0, |e| e.status),
        exited_at: exit.map_or_else(Default::default, |e| timestamp(e.at)),
        ..StateResponse::default()
    }
}

/// By what containerd's clients tell processes of a container apart.
fn details(exec_id: &str) -> protobuf::Result<Any> {
    let details = ProcessDetails { exec_id: exec_id.to_owned(), ..ProcessDetails::default() };
    Ok(Any {
        type_url: "containerd.runc.v1.ProcessDetails".to_owned(),
        value: details.write_to_bytes()?,
        ..Any::default()
    })
}
