//! The copying between a container's terminal and its client: the only bytes that pass through the daemon.
//!
//! A client that does not read makes the guest wait, and nobody else. At the end what was written is still copied, for
//! as long as somebody takes it.

use std::{io, os::fd::OwnedFd, sync::Arc, time::Duration};

use runtime_core::{container::Container, exec::Exec, record::Exit, stdio::Terminal};
use rustix::{
    fs::{FileType, fstat},
    io::{Errno, read, write},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch,
    task::spawn_blocking,
    time::sleep,
};

use crate::daemon::registered;

/// How much is copied at once.
const BUFFER: usize = 32 * 1024;
/// How long after the end a client may take nothing until the rest is given up.
const STALL: Duration = Duration::from_secs(1);

type End = watch::Receiver<Option<Exit>>;

/// Copies until the container has ended.
pub fn serve(container: &Arc<Container>) {
    let Some(terminal) = container.terminal() else { return };
    let container = container.clone();
    tokio::spawn(async move {
        if let Err(e) = copy(terminal, container.exit()).await {
            tracing::warn!(id = container.id, error = %e, "the terminal is not copied any more");
        }
        container.terminal_ended();
    });
}

/// Copies until a process that was executed in a container has ended.
pub fn serve_exec(exec: &Arc<Exec>) {
    let Some(terminal) = exec.terminal() else { return };
    let exec = exec.clone();
    tokio::spawn(async move {
        if let Err(e) = copy(terminal, exec.exit()).await {
            tracing::warn!(exec = exec.id, error = %e, "the terminal is not copied any more");
        }
        exec.terminal_ended();
    });
}

async fn copy(terminal: Terminal, end: End) -> io::Result<()> {
    let Terminal { master, input, output } = terminal;
    let (to, from) = (registered(master.try_clone()?)?, registered(master)?);
    let output = output.map(Output::of).transpose()?;
    if let Some(input) = input.map(registered).transpose()? {
        let mut end = end.clone();
        tokio::spawn(async move {
            tokio::select! {
                // However it ends: output goes on.
                _ = copy_input(&input, &to) => {}
                _ = end.wait_for(Option::is_some) => {}
            }
        });
    }
    copy_output(&from, output, &end).await
}

async fn copy_input(input: &AsyncFd<OwnedFd>, master: &AsyncFd<OwnedFd>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = take(input, &mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..n];
        while !rest.is_empty() {
            rest = &rest[put(master, rest).await?..];
        }
    }
}

async fn copy_output(master: &AsyncFd<OwnedFd>, mut output: Option<Output>, end: &End) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = match before_stall(end, take(master, &mut buffer)).await {
            // EIO: the slave is closed for good.
            None | Some(Ok(0)) => return Ok(()),
            Some(Err(e)) if e.raw_os_error() == Some(Errno::IO.raw_os_error()) => return Ok(()),
            Some(n) => n?,
        };
        let mut rest = &buffer[..n];
        while let (Some(to), false) = (&output, rest.is_empty()) {
            match before_stall(end, to.put(rest)).await {
                None => return Ok(()),
                Some(Ok(n)) => rest = &rest[n..],
                // A disk that is full loses output.
                Some(Err(_)) if matches!(to, Output::File(_)) => rest = &[],
                // A logger that is dead: the guest goes on.
                Some(Err(_)) => output = None,
            }
        }
    }
}

/// Where output goes.
enum Output {
    /// A FIFO or a pipe.
    Stream(AsyncFd<OwnedFd>),
    /// A file, whose writes may wait for its disk.
    File(Arc<OwnedFd>),
}

impl Output {
    fn of(fd: OwnedFd) -> io::Result<Self> {
        match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
            FileType::RegularFile => Ok(Self::File(Arc::new(fd))),
            _ => registered(fd).map(Self::Stream),
        }
    }

    async fn put(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stream(to) => put(to, bytes).await,
            Self::File(file) => {
                let (file, bytes) = (file.clone(), bytes.to_vec());
                Ok(spawn_blocking(move || write(&file, &bytes)).await??)
            }
        }
    }
}

/// `None`: the container has ended, and since then it took too long.
async fn before_stall<T>(end: &End, step: impl Future<Output = T>) -> Option<T> {
    let mut end = end.clone();
    let stalled = async move {
        end.wait_for(Option::is_some).await.ok();
        sleep(fault::deadline("deadline.terminal", STALL)).await;
    };
    tokio::select! {
        biased;
        done = step => Some(done),
        () = stalled => None,
    }
}

async fn take(from: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> io::Result<usize> {
    from.async_io(Interest::READABLE, |fd| Ok(read(fd, &mut *buffer)?)).await
}

async fn put(to: &AsyncFd<OwnedFd>, bytes: &[u8]) -> io::Result<usize> {
    to.async_io(Interest::WRITABLE, |fd| Ok(write(fd, bytes)?)).await
}
