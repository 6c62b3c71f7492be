//! Events for containerd: in order, a deadline for each, flushed within a bound at the end.
//!
//! One task owns the queue and the connection. A call that fails is tried again, the same event first, until
//! containerd is back: events of a restart are late, never lost and never reordered. Publishing never blocks.

use std::{collections::VecDeque, time::Duration};

use containerd_shim_protos::{
    api::{ForwardRequest, Mount},
    events::task::{
        TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskIO, TaskOOM, TaskPaused,
        TaskResumed, TaskStart,
    },
    shim::event::Envelope,
    shim_async::{Client, EventsClient},
    topics::{
        TASK_CREATE_EVENT_TOPIC, TASK_DELETE_EVENT_TOPIC, TASK_EXEC_ADDED_EVENT_TOPIC,
        TASK_EXEC_STARTED_EVENT_TOPIC, TASK_EXIT_EVENT_TOPIC, TASK_OOM_EVENT_TOPIC, TASK_PAUSED_EVENT_TOPIC,
        TASK_RESUMED_EVENT_TOPIC, TASK_START_EVENT_TOPIC,
    },
};
use protobuf::{
    Message, MessageField,
    well_known_types::{any::Any, timestamp::Timestamp},
};
use runtime_core::events::{EventSink, TaskEvent};
use time::OffsetDateTime;
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

/// How long one call may take: as containerd's own shim.
const CALL: Duration = Duration::from_secs(5);
/// The pause before a call is tried again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How many events wait at most; the oldest is given up beyond that.
const MOST: usize = 4096;

/// Where events are handed in.
#[derive(Clone)]
pub struct Publisher {
    queue: mpsc::UnboundedSender<Envelope>,
    namespace: String,
    handed_in: watch::Sender<u64>,
    done: watch::Receiver<u64>,
}

impl Publisher {
    /// Starts the task; `address` is containerd's ttrpc socket.
    pub fn new(namespace: &str, address: String) -> Self {
        let (queue, receiver) = mpsc::unbounded_channel();
        let (count, done) = watch::channel(0);
        tokio::spawn(deliver(receiver, count, address));
        Self { queue, namespace: namespace.to_owned(), handed_in: watch::Sender::new(0), done }
    }

    /// Waits until everything that was handed in is delivered, at most for `bound`. `false`: something is not.
    pub async fn flush(&self, bound: Duration) -> bool {
        let all = *self.handed_in.borrow();
        let mut done = self.done.clone();
        timeout(bound, done.wait_for(|n| *n >= all)).await.is_ok_and(|r| r.is_ok())
    }
}

impl EventSink for Publisher {
    fn publish(&self, event: TaskEvent) {
        match envelope(&self.namespace, event) {
            Ok(envelope) => {
                self.handed_in.send_modify(|n| *n += 1);
                self.queue.send(envelope).ok();
            }
            Err(e) => tracing::error!(error = %e, "an event could not be encoded"),
        }
    }
}

async fn deliver(mut receiver: mpsc::UnboundedReceiver<Envelope>, done: watch::Sender<u64>, address: String) {
    let mut waiting: VecDeque<Envelope> = VecDeque::new();
    let mut client: Option<EventsClient> = None;
    let mut pause = PAUSE.0;
    loop {
        if waiting.is_empty() {
            match receiver.recv().await {
                Some(envelope) => waiting.push_back(envelope),
                None => return,
            }
        }
        while let Ok(envelope) = receiver.try_recv() {
            waiting.push_back(envelope);
        }
        while waiting.len() > MOST {
            waiting.pop_front();
            done.send_modify(|n| *n += 1);
            tracing::error!("containerd is away for too long: an event is given up");
        }
        let Some(envelope) = waiting.front() else { continue };
        match timeout(CALL, forward(&mut client, &address, envelope)).await {
            Ok(Ok(())) => {
                waiting.pop_front();
                done.send_modify(|n| *n += 1);
                pause = PAUSE.0;
            }
            failed => {
                tracing::debug!(topic = envelope.topic, ?failed, "an event was not taken; it is tried again");
                client = None;
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

async fn forward(client: &mut Option<EventsClient>, address: &str, envelope: &Envelope) -> ttrpc::Result<()> {
    let connected = match client {
        Some(connected) => connected,
        None => client.insert(EventsClient::new(Client::connect(&format!("unix://{address}")).await?)),
    };
    let request =
        ForwardRequest { envelope: MessageField::some(envelope.clone()), ..ForwardRequest::default() };
    let nanos = i64::try_from(CALL.as_nanos()).unwrap_or(i64::MAX);
    connected.forward(ttrpc::context::with_timeout(nanos), &request).await.map(drop)
}

fn envelope(namespace: &str, event: TaskEvent) -> protobuf::Result<Envelope> {
    let (topic, event) = match event {
        TaskEvent::Create { id, bundle, pid, rootfs, stdio } => {
            let rootfs = rootfs
                .into_iter()
                .map(|m| Mount {
                    type_: m.kind,
                    source: m.source,
                    target: m.target,
                    options: m.options,
                    ..Mount::default()
                })
                .collect();
            let io = TaskIO {
                stdin: stdio.stdin,
                stdout: stdio.stdout,
                stderr: stdio.stderr,
                terminal: stdio.terminal,
                ..TaskIO::default()
            };
            let event = TaskCreate {
                container_id: id,
                bundle,
                rootfs,
                io: MessageField::some(io),
                pid,
                ..TaskCreate::default()
            };
            (TASK_CREATE_EVENT_TOPIC, any("TaskCreate", &event)?)
        }
        TaskEvent::Start { id, pid } => (
            TASK_START_EVENT_TOPIC,
            any("TaskStart", &TaskStart { container_id: id, pid, ..TaskStart::default() })?,
        ),
        TaskEvent::ExecAdded { id, exec } => {
            let event = TaskExecAdded { container_id: id, exec_id: exec, ..TaskExecAdded::default() };
            (TASK_EXEC_ADDED_EVENT_TOPIC, any("TaskExecAdded", &event)?)
        }
        TaskEvent::ExecStarted { id, exec, pid } => {
            let event =
                TaskExecStarted { container_id: id, exec_id: exec, pid, ..TaskExecStarted::default() };
            (TASK_EXEC_STARTED_EVENT_TOPIC, any("TaskExecStarted", &event)?)
        }
        TaskEvent::ExecExit { id, exec, pid, exit } => {
            let event = TaskExit {
                container_id: id,
                id: exec,
                pid,
                exit_status: exit.status,
                exited_at: timestamp(exit.at),
                ..TaskExit::default()
            };
            (TASK_EXIT_EVENT_TOPIC, any("TaskExit", &event)?)
        }
        TaskEvent::Paused { id } => (
            TASK_PAUSED_EVENT_TOPIC,
            any("TaskPaused", &TaskPaused { container_id: id, ..TaskPaused::default() })?,
        ),
        TaskEvent::Resumed { id } => (
            TASK_RESUMED_EVENT_TOPIC,
            any("TaskResumed", &TaskResumed { container_id: id, ..TaskResumed::default() })?,
        ),
        TaskEvent::Oom { id } => {
            (TASK_OOM_EVENT_TOPIC, any("TaskOOM", &TaskOOM { container_id: id, ..TaskOOM::default() })?)
        }
        TaskEvent::Exit { id, pid, exit } => {
            let event = TaskExit {
                container_id: id.clone(),
                id,
                pid,
                exit_status: exit.status,
                exited_at: timestamp(exit.at),
                ..TaskExit::default()
            };
            (TASK_EXIT_EVENT_TOPIC, any("TaskExit", &event)?)
        }
        TaskEvent::Delete { id, pid, exit } => {
            let event = TaskDelete {
                container_id: id,
                pid,
                exit_status: exit.status,
                exited_at: timestamp(exit.at),
                ..TaskDelete::default()
            };
            (TASK_DELETE_EVENT_TOPIC, any("TaskDelete", &event)?)
        }
    };
    Ok(Envelope {
        timestamp: timestamp(OffsetDateTime::now_utc()),
        namespace: namespace.to_owned(),
        topic: topic.to_owned(),
        event: MessageField::some(event),
        ..Envelope::default()
    })
}

/// containerd compares bare type names, without `type.googleapis.com/`. The name is given, not asked of the message's
/// descriptor: that would build the reflection of all messages, some hundred KiB for good.
fn any(name: &str, message: &impl Message) -> protobuf::Result<Any> {
    Ok(Any {
        type_url: format!("containerd.events.{name}"),
        value: message.write_to_bytes()?,
        ..Any::default()
    })
}

/// A time as protobuf has it.
pub fn timestamp(at: OffsetDateTime) -> MessageField<Timestamp> {
    MessageField::some(Timestamp {
        seconds: at.unix_timestamp(),
        nanos: i32::try_from(at.nanosecond()).unwrap_or(0),
        ..Timestamp::default()
    })
}

#[cfg(test)]
mod tests {
    use protobuf::MessageFull;

    use super::*;

    #[test]
    fn type_names_are_those_of_the_messages() {
        for (name, descriptor) in [
            ("TaskCreate", TaskCreate::descriptor()),
            ("TaskStart", TaskStart::descriptor()),
            ("TaskExecAdded", TaskExecAdded::descriptor()),
            ("TaskExecStarted", TaskExecStarted::descriptor()),
            ("TaskPaused", TaskPaused::descriptor()),
            ("TaskResumed", TaskResumed::descriptor()),
            ("TaskOOM", TaskOOM::descriptor()),
            ("TaskExit", TaskExit::descriptor()),
            ("TaskDelete", TaskDelete::descriptor()),
        ] {
            assert_eq!(any(name, &TaskStart::new()).unwrap().type_url, descriptor.full_name());
        }
    }
}
