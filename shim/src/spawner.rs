//! Spawns launchers on the main thread. The daemon's runtime has one thread, the main one, so a task of it will do;
//! verbs, on the blocking pool, ask it and wait.

use std::{io, process::Stdio, sync::mpsc as sync_mpsc};

use runtime_core::launcher::{Spawn, Spawned, command};
use tokio::sync::mpsc;

type Asked = (Spawned, sync_mpsc::Sender<io::Result<u32>>);

/// Hands spawns to the main thread.
pub struct MainThread(mpsc::UnboundedSender<Asked>);

impl MainThread {
    /// Starts the task that spawns; must be called on the main thread's runtime.
    pub fn new() -> Self {
        let (sender, mut receiver) = mpsc::unbounded_channel::<Asked>();
        tokio::spawn(async move {
            while let Some((what, answer)) = receiver.recv().await {
                answer.send(spawn(what)).ok();
            }
        });
        Self(sender)
    }
}

impl Spawn for MainThread {
    fn spawn(&self, what: Spawned) -> io::Result<u32> {
        let (answer, answered) = sync_mpsc::channel();
        self.0.send((what, answer)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        answered.recv().map_err(|_| io::ErrorKind::BrokenPipe)?
    }
}

fn spawn(what: Spawned) -> io::Result<u32> {
    let mut command = command(&what.txid, what.socket);
    // Dropping the Child neither kills nor reaps it: that is done through its pidfd.
    Ok(command.stderr(Stdio::from(what.stderr)).spawn()?.id())
}
