//! The one runtime behind clients and events servers. It runs on a thread of its own, so tests are plain functions.

use std::{
    future::Future,
    sync::{LazyLock, mpsc},
    thread,
    time::Duration,
};

use tokio::runtime::{Builder, Handle};

static RUNTIME: LazyLock<Handle> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("runtime".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))
        .unwrap();
    handle
});

/// The runtime, to spawn on.
pub fn handle() -> &'static Handle {
    &RUNTIME
}

/// Runs a future there; what it gives arrives at the receiver.
pub fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> mpsc::Receiver<T> {
    let (sender, receiver) = mpsc::channel();
    handle().spawn(async move {
        sender.send(future.await).ok();
    });
    receiver
}

/// Runs a future there and waits for it.
#[track_caller]
pub fn run<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    spawn(future).recv_timeout(Duration::from_secs(120)).expect("the future ends")
}
