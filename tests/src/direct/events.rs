//! containerd's events service, which takes what shims forward and keeps it in order; or refuses, hangs, or is away.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use containerd_shim_protos::{
    api::{Empty, ForwardRequest},
    events::task::{
        TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskOOM, TaskPaused, TaskResumed,
        TaskStart,
    },
    shim_async::{Events as EventsService, create_events},
};
use protobuf::Message;
use ttrpc::{
    Code,
    asynchronous::{Server, TtrpcContext},
    error::get_rpc_status,
};

use super::runtime;

/// An event that came.
#[derive(Clone, Debug)]
pub enum Event {
    /// `/tasks/create`
    Create(TaskCreate),
    /// `/tasks/start`
    Start(TaskStart),
    /// `/tasks/exit`
    Exit(TaskExit),
    /// `/tasks/delete`
    Delete(TaskDelete),
    /// `/tasks/paused`: the container.
    Paused(String),
    /// `/tasks/resumed`: the container.
    Resumed(String),
    /// `/tasks/exec-added`
    ExecAdded(TaskExecAdded),
    /// `/tasks/exec-started`
    ExecStarted(TaskExecStarted),
    /// `/tasks/exit` of a process that was executed in a container.
    ExecExit(TaskExit),
    /// `/tasks/oom`: the container.
    Oom(String),
    /// Anything else: its topic.
    Other(String),
}

impl Event {
    /// The last word of its topic and the container's id.
    pub fn brief(&self) -> String {
        let (topic, id) = match self {
            Self::Create(e) => ("create", &e.container_id),
            Self::Start(e) => ("start", &e.container_id),
            Self::Exit(e) => ("exit", &e.container_id),
            Self::Delete(e) => ("delete", &e.container_id),
            Self::Paused(id) => ("paused", id),
            Self::Resumed(id) => ("resumed", id),
            Self::Oom(id) => ("oom", id),
            Self::ExecAdded(e) => return format!("exec-added {} {}", e.exec_id, e.container_id),
            Self::ExecStarted(e) => return format!("exec-started {} {}", e.exec_id, e.container_id),
            Self::ExecExit(e) => return format!("exec-exit {} {}", e.id, e.container_id),
            Self::Other(topic) => ("other", topic),
        };
        format!("{topic} {id}")
    }
}

/// What the service does with an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It takes it.
    #[default]
    Take,
    /// It answers with an error.
    Refuse,
    /// It never answers.
    Hang,
}

#[derive(Debug, Default)]
struct Taken {
    mode: Mode,
    events: Vec<Event>,
    namespaces: Vec<String>,
}

/// The server.
pub struct Events {
    address: PathBuf,
    taken: Arc<Mutex<Taken>>,
    server: Mutex<Option<Server>>,
}

struct Service(Arc<Mutex<Taken>>);

#[async_trait]
impl EventsService for Service {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let mode = self.0.lock().unwrap_or_else(PoisonError::into_inner).mode;
        match mode {
            Mode::Take => {}
            Mode::Refuse => return Err(get_rpc_status(Code::UNAVAILABLE, "told to refuse")),
            Mode::Hang => std::future::pending::<()>().await,
        }
        let envelope = request.envelope.clone().unwrap_or_default();
        let any = envelope.event.clone().unwrap_or_default();
        let value = any.value.as_slice();
        let event = match (envelope.topic.as_str(), any.type_url.as_str()) {
            ("/tasks/create", "containerd.events.TaskCreate") => {
                Event::Create(TaskCreate::parse_from_bytes(value).unwrap())
            }
            ("/tasks/start", "containerd.events.TaskStart") => {
                Event::Start(TaskStart::parse_from_bytes(value).unwrap())
            }
            ("/tasks/exit", "containerd.events.TaskExit") => {
                let exit = TaskExit::parse_from_bytes(value).unwrap();
                if exit.id == exit.container_id { Event::Exit(exit) } else { Event::ExecExit(exit) }
            }
            ("/tasks/delete", "containerd.events.TaskDelete") => {
                Event::Delete(TaskDelete::parse_from_bytes(value).unwrap())
            }
            ("/tasks/paused", "containerd.events.TaskPaused") => {
                Event::Paused(TaskPaused::parse_from_bytes(value).unwrap().container_id)
            }
            ("/tasks/resumed", "containerd.events.TaskResumed") => {
                Event::Resumed(TaskResumed::parse_from_bytes(value).unwrap().container_id)
            }
            ("/tasks/exec-added", "containerd.events.TaskExecAdded") => {
                Event::ExecAdded(TaskExecAdded::parse_from_bytes(value).unwrap())
            }
            ("/tasks/exec-started", "containerd.events.TaskExecStarted") => {
                Event::ExecStarted(TaskExecStarted::parse_from_bytes(value).unwrap())
            }
            ("/tasks/oom", "containerd.events.TaskOOM") => {
                Event::Oom(TaskOOM::parse_from_bytes(value).unwrap().container_id)
            }
            (topic, kind) => Event::Other(format!("{topic} {kind}")),
        };
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.events.push(event);
        taken.namespaces.push(envelope.namespace);
        Ok(Empty::new())
    }
}

impl Events {
    pub(crate) fn new(address: PathBuf) -> Self {
        let events = Self { address, taken: Arc::default(), server: Mutex::default() };
        events.come();
        events
    }

    /// Takes, refuses or hangs from now on.
    pub fn set(&self, mode: Mode) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).mode = mode;
    }

    /// Listens, as after a start of containerd.
    pub fn come(&self) {
        fs::remove_file(&self.address).ok();
        let (address, service) = (format!("unix://{}", self.address.display()), Service(self.taken.clone()));
        let server = runtime::run(async move {
            let mut server =
                Server::new().bind(&address).unwrap().register_service(create_events(Arc::new(service)));
            server.start().await.unwrap();
            server
        });
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
    }

    /// Goes away, connections and socket file too.
    pub fn go(&self) {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut server) = server {
            runtime::run(async move {
                server.stop_listen().await;
                server.disconnect().await;
            });
        }
        fs::remove_file(&self.address).ok();
    }

    /// What came so far.
    pub fn all(&self) -> Vec<Event> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).events.clone()
    }

    /// The namespaces of the envelopes.
    pub fn namespaces(&self) -> Vec<String> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).namespaces.clone()
    }

    /// What came so far for one container, in short.
    pub fn of(&self, id: &str) -> Vec<String> {
        let id = format!(" {id}");
        let of = self.all().iter().map(Event::brief).filter(|e| e.ends_with(&id)).collect::<Vec<_>>();
        of.iter().filter_map(|e| e.strip_suffix(&id)).map(str::to_owned).collect()
    }

    /// Waits until exactly these events of a container have come, in this order.
    #[track_caller]
    pub fn expect(&self, id: &str, topics: &[&str]) {
        let deadline = std::time::Instant::now() + super::SOON;
        while self.of(id).len() < topics.len() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(self.of(id), topics, "events of {id}");
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.go();
    }
}
