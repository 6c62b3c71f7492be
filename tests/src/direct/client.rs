//! containerd's side of the Task service, version 2.

use std::{
    fmt,
    path::Path,
    sync::mpsc,
    time::{Duration, Instant},
};

use containerd_shim_protos::{
    api::{
        ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, DeleteRequest,
        DeleteResponse, Empty, KillRequest, PidsRequest, PidsResponse, ShutdownRequest, StartRequest,
        StartResponse, StateRequest, StateResponse, Status, WaitRequest, WaitResponse,
    },
    ttrpc::{Code, Error, Request, r#async},
};
use protobuf::Message;

use super::{PATIENCE, SOON, bundle::Bundle, runtime};

/// The service that a shim of version 2 serves.
pub const TASK: &str = "containerd.task.v2.Task";
/// What containerd's client gives most calls.
const DEADLINE: Duration = Duration::from_secs(30 * PATIENCE);

/// A call that did not succeed.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    /// The status code; `None`: the connection failed or ended, or our own deadline passed.
    pub code: Option<Code>,
    /// The message.
    pub message: String,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{code:?}: {}", self.message),
            None => write!(f, "no status: {}", self.message),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::RpcStatus(status) => Self { code: Some(status.code()), message: status.message },
            other => Self { code: None, message: other.to_string() },
        }
    }
}

/// A connection to a shim.
#[derive(Clone)]
pub struct Client(r#async::Client);

/// A call that was sent and not answered yet.
pub struct Pending<T>(mpsc::Receiver<Result<T, Failure>>);

impl<T> Pending<T> {
    /// Waits for the answer.
    #[track_caller]
    pub fn wait(self) -> Result<T, Failure> {
        self.0.recv_timeout(2 * DEADLINE).expect("an answer in time")
    }

    /// The answer, if it comes within this time.
    pub fn within(&self, time: Duration) -> Option<Result<T, Failure>> {
        self.0.recv_timeout(time).ok()
    }
}

impl Client {
    /// Connects to an address as `start` printed it.
    pub fn connect(address: &str) -> Result<Self, Failure> {
        let address = address.to_owned();
        runtime::run(async move { r#async::Client::connect(&address).await }).map(Self).map_err(Failure::from)
    }

    /// Speaks over a connection that was made elsewhere.
    pub fn over(stream: std::os::unix::net::UnixStream) -> Self {
        stream.set_nonblocking(true).unwrap();
        Self(runtime::run(async move {
            let stream = tokio::net::UnixStream::from_std(stream).unwrap();
            r#async::Client::new(r#async::transport::Socket::from(stream))
        }))
    }

    /// Sends a call of any service.
    pub fn send_to<T: Message>(
        &self,
        service: &str,
        method: &str,
        request: &impl Message,
        deadline: Option<Duration>,
    ) -> Pending<T> {
        let mut call = Request::new();
        service.clone_into(&mut call.service);
        method.clone_into(&mut call.method);
        call.timeout_nano = deadline.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap());
        call.payload = request.write_to_bytes().unwrap();
        let client = self.0.clone();
        Pending(runtime::spawn(async move {
            let response = client.request(call).await?;
            T::parse_from_bytes(&response.payload).map_err(|e| Failure { code: None, message: e.to_string() })
        }))
    }

    /// Sends a call of the Task service.
    pub fn send<T: Message>(&self, method: &str, request: &impl Message) -> Pending<T> {
        self.send_to(TASK, method, request, Some(DEADLINE))
    }

    /// Calls Create for a bundle: the pid.
    #[track_caller]
    pub fn create(&self, bundle: &Bundle) -> Result<u32, Failure> {
        self.send::<CreateTaskResponse>("Create", &create_request(bundle)).wait().map(|r| r.pid)
    }

    /// Sends a Create.
    pub fn send_create(&self, bundle: &Bundle, deadline: Duration) -> Pending<CreateTaskResponse> {
        self.send_to(TASK, "Create", &create_request(bundle), Some(deadline))
    }

    /// Calls Start: the pid.
    #[track_caller]
    pub fn start(&self, id: &str) -> Result<u32, Failure> {
        self.send_start(id).wait().map(|r| r.pid)
    }

    /// Sends a Start.
    pub fn send_start(&self, id: &str) -> Pending<StartResponse> {
        self.send("Start", &StartRequest { id: id.to_owned(), ..StartRequest::default() })
    }

    /// Calls State, which is answered whatever else is at work: behind a verb that a test holds it never would be.
    #[track_caller]
    pub fn state(&self, id: &str) -> Result<StateResponse, Failure> {
        let began = Instant::now();
        let state = self.send("State", &StateRequest { id: id.to_owned(), ..StateRequest::default() }).wait();
        assert!(began.elapsed() < SOON, "State took {:?}", began.elapsed());
        state
    }

    /// The status that State tells.
    #[track_caller]
    pub fn status(&self, id: &str) -> Result<Status, Failure> {
        self.state(id).map(|s| s.status.enum_value().expect("a known status"))
    }

    /// Sends a Wait, without a deadline.
    pub fn send_wait(&self, id: &str) -> Pending<WaitResponse> {
        self.send_to(TASK, "Wait", &WaitRequest { id: id.to_owned(), ..WaitRequest::default() }, None)
    }

    /// Calls Wait: the exit status.
    #[track_caller]
    pub fn wait(&self, id: &str) -> Result<u32, Failure> {
        self.send_wait(id).wait().map(|r| r.exit_status)
    }

    /// Calls Kill.
    #[track_caller]
    pub fn kill(&self, id: &str, signal: i32) -> Result<(), Failure> {
        let request =
            KillRequest { id: id.to_owned(), signal: signal.unsigned_abs(), ..KillRequest::default() };
        self.send::<Empty>("Kill", &request).wait().map(drop)
    }

    /// Calls Delete.
    #[track_caller]
    pub fn delete(&self, id: &str) -> Result<DeleteResponse, Failure> {
        self.send_delete(id).wait()
    }

    /// Sends a Delete.
    pub fn send_delete(&self, id: &str) -> Pending<DeleteResponse> {
        self.send("Delete", &DeleteRequest { id: id.to_owned(), ..DeleteRequest::default() })
    }

    /// Calls Pids: the pids.
    #[track_caller]
    pub fn pids(&self, id: &str) -> Result<Vec<u32>, Failure> {
        let answer =
            self.send::<PidsResponse>("Pids", &PidsRequest { id: id.to_owned(), ..PidsRequest::default() });
        answer.wait().map(|r| r.processes.iter().map(|p| p.pid).collect())
    }

    /// Calls Connect, which never fails: the shim's pid and the task's.
    #[track_caller]
    pub fn connect_task(&self, id: &str) -> (u32, u32) {
        let request = ConnectRequest { id: id.to_owned(), ..ConnectRequest::default() };
        let answer = self.send::<ConnectResponse>("Connect", &request).wait().expect("Connect never fails");
        assert!(!answer.version.is_empty(), "a version");
        (answer.shim_pid, answer.task_pid)
    }

    /// Calls Shutdown. The connection may end instead of an answer.
    #[track_caller]
    pub fn shutdown(&self, id: &str) {
        let request = ShutdownRequest { id: id.to_owned(), ..ShutdownRequest::default() };
        match self.send::<Empty>("Shutdown", &request).wait() {
            Ok(_) | Err(Failure { code: None, .. }) => {}
            Err(e) => panic!("Shutdown: {e:?}"),
        }
    }
}

fn create_request(bundle: &Bundle) -> CreateTaskRequest {
    let path = |path: &Path| path.to_string_lossy().into_owned();
    CreateTaskRequest {
        id: bundle.id.clone(),
        bundle: path(&bundle.path),
        rootfs: bundle.rootfs.clone(),
        stdin: bundle.stdin.clone(),
        stdout: bundle.stdout.clone(),
        stderr: bundle.stderr.clone(),
        terminal: bundle.terminal,
        options: bundle.options.clone().into(),
        ..CreateTaskRequest::default()
    }
}
