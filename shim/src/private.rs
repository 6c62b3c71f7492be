//! What shims say to each other at the pod's socket, beside the Task service: *ping*, by which `start` knows that a
//! daemon really serves (a stopped process still accepts connections), *alive*, which is the same question from one who
//! does not count on the daemon's staying, and *end*, by which `delete` hands a container over to a daemon that lives.
//!
//! The messages are those of the Task service; the service is our own, so that no client of containerd's meets it.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use containerd_shim_protos::{
    api::{ConnectRequest, ConnectResponse},
    ttrpc::{
        Code, Request, Response,
        r#async::{Client, MethodHandler, Service, TtrpcContext},
    },
};
use protobuf::Message;
use ttrpc::{
    error::{get_rpc_status, get_status},
    proto::ResponseInit,
};

use crate::daemon::Daemon;

const SERVICE: &str = "urunc.shim.v1.Daemon";

/// The service, for the daemon's server.
pub fn service(daemon: &Arc<Daemon>) -> HashMap<String, Service> {
    let mut methods: HashMap<String, Box<dyn MethodHandler + Send + Sync>> = HashMap::new();
    methods.insert("Ping".to_owned(), Box::new(Ping(Some(daemon.clone()))));
    methods.insert("Alive".to_owned(), Box::new(Ping(None)));
    methods.insert("End".to_owned(), Box::new(End(daemon.clone())));
    HashMap::from([(SERVICE.to_owned(), Service { methods, streams: HashMap::new() })])
}

/// With a daemon to tell of it: it stays for the Create that follows.
struct Ping(Option<Arc<Daemon>>);
struct End(Arc<Daemon>);

#[async_trait]
impl MethodHandler for Ping {
    async fn handler(&self, _: TtrpcContext, request: Request) -> ttrpc::Result<Response> {
        if let Some(daemon) = &self.0 {
            // One that is ending promises nothing: whoever asks waits for its end.
            if daemon.is_leaving() {
                return Err(get_rpc_status(Code::UNAVAILABLE, "leaving"));
            }
            daemon.promise(id_of(&request)?);
        }
        let answer = ConnectResponse { shim_pid: std::process::id(), ..ConnectResponse::default() };
        reply(&answer)
    }
}

#[async_trait]
impl MethodHandler for End {
    /// Acknowledges at once; the caller sees the end in the record.
    async fn handler(&self, _: TtrpcContext, request: Request) -> ttrpc::Result<Response> {
        self.0.end_container(id_of(&request)?);
        reply(&ConnectResponse::new())
    }
}

fn id_of(request: &Request) -> ttrpc::Result<String> {
    ConnectRequest::parse_from_bytes(&request.payload)
        .map(|request| request.id)
        .map_err(|e| get_rpc_status(Code::INVALID_ARGUMENT, e))
}

fn reply(message: &impl Message) -> ttrpc::Result<Response> {
    let mut response = Response::init_status(get_status(Code::OK, ""));
    response.payload = message.write_to_bytes().map_err(|e| get_rpc_status(Code::INTERNAL, e))?;
    Ok(response)
}

/// Whether the daemon at `socket` answers within `timeout`; if so it stays for the Create of `id`.
pub fn ping(socket: &Path, id: &str, timeout: Duration) -> bool {
    call(socket, "Ping", id, timeout)
}

/// Whether the daemon at `socket` answers within `timeout`; it may leave all the same.
pub fn is_alive(socket: &Path, timeout: Duration) -> bool {
    call(socket, "Alive", "", timeout)
}

/// Hands the container `id` over to the daemon at `socket`; whether it acknowledged within `timeout`.
pub fn end(socket: &Path, id: &str, timeout: Duration) -> bool {
    call(socket, "End", id, timeout)
}

fn call(socket: &Path, method: &str, id: &str, timeout: Duration) -> bool {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return false;
    };
    let once = async {
        let client = Client::connect(&format!("unix://{}", socket.display())).await.ok()?;
        let request = ConnectRequest { id: id.to_owned(), ..ConnectRequest::default() };
        let mut call = Request::new();
        call.service = SERVICE.to_owned();
        call.method = method.to_owned();
        call.timeout_nano = i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX);
        call.payload = request.write_to_bytes().ok()?;
        client.request(call).await.ok()
    };
    runtime.block_on(async { tokio::time::timeout(timeout, once).await }).is_ok_and(|answer| answer.is_some())
}
