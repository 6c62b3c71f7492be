//! What shims say to each other at the pod's socket, beside the Task service: *ping*, by which `start` knows that a
//! daemon really serves (a stopped process still accepts connections), *alive*, which is the same question from one who
//! does not count on the daemon's staying, and *end*, by which `delete` hands a container over to a daemon that lives.
//!
//! The messages are those of the Task service; the service is our own, so that no client of containerd's meets it.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use containerd_shim_protos::{
    api::{ConnectResponse, DeleteRequest},
    ttrpc::{
        Code, Request, Response,
        r#async::{Client, MethodHandler, Service, TtrpcContext},
    },
};
use protobuf::Message;
use runtime_core::layout::is_identifier;
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
                return refuse(Code::UNAVAILABLE, "leaving");
            }
            match meant(&request) {
                Ok((id, _)) => daemon.promise(id),
                Err(problem) => return refuse(Code::INVALID_ARGUMENT, problem),
            }
        }
        let answer = ConnectResponse { shim_pid: std::process::id(), ..ConnectResponse::default() };
        reply(&answer)
    }
}

#[async_trait]
impl MethodHandler for End {
    /// Acknowledges at once; the caller sees the end in the record.
    async fn handler(&self, _: TtrpcContext, request: Request) -> ttrpc::Result<Response> {
        match meant(&request) {
            // One who does not name the transaction is older than we are.
            Ok((id, txid)) => self.0.end_container(id, Some(txid.as_str()).filter(|txid| !txid.is_empty())),
            Err(problem) => return refuse(Code::INVALID_ARGUMENT, problem),
        }
        reply(&ConnectResponse::new())
    }
}

/// Which container is meant: its id, and its transaction where that is named.
fn meant(request: &Request) -> Result<(String, String), String> {
    let request = DeleteRequest::parse_from_bytes(&request.payload).map_err(|e| e.to_string())?;
    let (id, txid) = (request.id, request.exec_id);
    match is_identifier(&id) {
        true => Ok((id, txid)),
        false => Err(format!("id {id:?} is not valid")),
    }
}

/// An error of this function would reach the caller without its code.
fn refuse(code: Code, problem: impl ToString) -> ttrpc::Result<Response> {
    Ok(Response::init_status(get_status(code, problem)))
}

fn reply(message: &impl Message) -> ttrpc::Result<Response> {
    let mut response = Response::init_status(get_status(Code::OK, ""));
    response.payload = message.write_to_bytes().map_err(|e| get_rpc_status(Code::INTERNAL, e))?;
    Ok(response)
}

/// Whether the daemon at `socket` answers within `timeout`; if so it stays for the Create of `id`.
pub fn ping(socket: &Path, id: &str, timeout: Duration) -> bool {
    call(socket, "Ping", id, "", timeout)
}

/// Whether the daemon at `socket` answers within `timeout`; it may leave all the same.
pub fn is_alive(socket: &Path, timeout: Duration) -> bool {
    call(socket, "Alive", "", "", timeout)
}

/// Hands the container `id`, if it still is that of this transaction, over to the daemon at `socket`; whether it
/// acknowledged within `timeout`.
pub fn end(socket: &Path, id: &str, txid: &str, timeout: Duration) -> bool {
    call(socket, "End", id, txid, timeout)
}

fn call(socket: &Path, method: &str, id: &str, txid: &str, timeout: Duration) -> bool {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return false;
    };
    let once = async {
        let client = Client::connect(&format!("unix://{}", socket.display())).await.ok()?;
        let request =
            DeleteRequest { id: id.to_owned(), exec_id: txid.to_owned(), ..DeleteRequest::default() };
        let mut call = Request::new();
        call.service = SERVICE.to_owned();
        call.method = method.to_owned();
        call.timeout_nano = i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX);
        call.payload = request.write_to_bytes().ok()?;
        client.request(call).await.ok()
    };
    runtime.block_on(async { tokio::time::timeout(timeout, once).await }).is_ok_and(|answer| answer.is_some())
}
