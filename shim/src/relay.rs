//! The copying between a process and its client: the only bytes that pass through the daemon.
//!
//! A client that does not read makes the process wait, and nobody else. At the end what was written is still copied, for
//! as long as somebody takes it.

use std::{io, ops::Range, os::fd::OwnedFd, sync::Arc, time::Duration};

use runtime_core::{container::Container, exec::Exec, record::Exit, stdio::Relay};
use rustix::{
    fs::{FileType, fstat},
    io::{Errno, read, write},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch,
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};

use crate::daemon::registered;

/// How much is copied at once.
const BUFFER: usize = 32 * 1024;
/// How much a pipe holds (pipe(7)).
const PIPE: usize = 64 * 1024;
/// How long after the end a client may take nothing until the rest is given up.
const STALL: Duration = Duration::from_secs(1);
/// How long the Delete of an exec waits for what it has left behind to end its output. As runc's shim.
const LEFT_BEHIND: Duration = Duration::from_secs(2);

/// How long a container's Delete waits at most. CRI waits for 10 s.
const LATEST: Duration = Duration::from_secs(8);

type End = watch::Receiver<Option<Exit>>;

/// When the output is given up that does not end by itself.
#[derive(Clone)]
enum Until {
    /// The container has ended, and since then it took too long.
    Stalled(End),
    /// Somebody says so.
    CutOff(watch::Receiver<bool>),
}

/// Copies until the container has ended.
pub fn serve(container: &Arc<Container>) {
    let Some(relay) = container.relay() else { return };
    let container = container.clone();
    tokio::spawn(async move {
        if let Err(e) = copy(relay, container.exit(), Until::Stalled(container.exit())).await {
            tracing::warn!(id = container.id, error = %e, "its stdio is not copied any more");
        }
        container.relay_ended();
    });
}

/// Copies until a process that was executed in a container has ended, and what it has left behind, or it is deleted.
pub fn serve_exec(exec: &Arc<Exec>) {
    let Some(relay) = exec.relay() else { return };
    let exec = exec.clone();
    tokio::spawn(async move {
        if let Err(e) = copy(relay, exec.exit(), Until::CutOff(exec.is_cut_off())).await {
            tracing::warn!(exec = exec.id, error = %e, "its stdio is not copied any more");
        }
        exec.relay_ended();
    });
}

/// A container is deleted: what it has said is copied, for as long as somebody takes it. Where somebody is left who still
/// writes, that is not waited for without end.
pub async fn end(container: &Container) {
    if timeout(LATEST, container.relay_end().wait_for(|ended| *ended)).await.is_err() {
        tracing::warn!(id = container.id, "its output does not end; it is copied on");
    }
}

/// An exec is deleted: what it has said is copied, and then nothing more.
pub async fn end_exec(exec: &Exec) {
    let mut end = exec.relay_end();
    if timeout(fault::deadline("deadline.left-behind", LEFT_BEHIND), end.wait_for(|ended| *ended))
        .await
        .is_err()
    {
        tracing::info!(
            exec = exec.id,
            "it has left somebody behind who keeps its output open: it is cut off"
        );
        exec.cut_off();
        end.wait_for(|ended| *ended).await.ok();
    }
}

async fn copy(relay: Relay, end: End, until: Until) -> io::Result<()> {
    if let Some((from, to)) = relay.input {
        let (from, to) = (registered(from)?, registered(to)?);
        let mut end = end.clone();
        tokio::spawn(async move {
            tokio::select! {
                // However it ends: output goes on.
                _ = copy_input(&from, &to) => {}
                _ = end.wait_for(Option::is_some) => {}
            }
        });
    }
    let mut outputs = JoinSet::new();
    for (from, to) in relay.outputs {
        let (from, to) = (registered(from)?, to.map(Output::of).transpose()?);
        let until = until.clone();
        outputs.spawn(async move { copy_output(&from, to, &until).await });
    }
    let mut result = Ok(());
    while let Some(output) = outputs.join_next().await {
        result = result.and(output.map_err(io::Error::other).flatten());
    }
    result
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

async fn copy_output(master: &AsyncFd<OwnedFd>, mut output: Option<Output>, until: &Until) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        if matches!(until, Until::CutOff(cut) if *cut.borrow()) {
            return rest(master.get_ref(), output.as_ref(), &mut buffer, 0..0);
        }
        let n = match before(until, take(master, &mut buffer)).await {
            // EIO: the slave is closed for good.
            Some(Ok(0)) => return Ok(()),
            Some(Err(e)) if e.raw_os_error() == Some(Errno::IO.raw_os_error()) => return Ok(()),
            Some(n) => n?,
            None => return rest(master.get_ref(), output.as_ref(), &mut buffer, 0..0),
        };
        let mut left = 0..n;
        while let (Some(to), false) = (&output, left.is_empty()) {
            match before(until, to.put(&buffer[left.clone()])).await {
                None => return rest(master.get_ref(), output.as_ref(), &mut buffer, left),
                Some(Ok(n)) => left.start += n,
                // A disk that is full loses output.
                Some(Err(_)) if matches!(to, Output::File(_)) => left = 0..0,
                // A logger that is dead: the guest goes on.
                Some(Err(_)) => output = None,
            }
        }
    }
}

/// It is given up: what was read already, and what is there, as far as it is taken at once, and as much as a pipe holds.
/// What a file's disk was just given up with is not written twice.
fn rest(from: &OwnedFd, to: Option<&Output>, buffer: &mut [u8], mut left: Range<usize>) -> io::Result<()> {
    let to: &OwnedFd = match to {
        Some(Output::Stream(to)) => to.get_ref(),
        Some(Output::File(file)) => {
            left = 0..0;
            file
        }
        None => return Ok(()),
    };
    for _ in 0..=PIPE / BUFFER {
        if !left.is_empty() && write(to, &buffer[left.clone()]).map_or(true, |written| written < left.len()) {
            return Ok(());
        }
        match read(from, &mut *buffer) {
            Ok(0) | Err(_) => return Ok(()),
            Ok(n) => left = 0..n,
        }
    }
    Ok(())
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

/// `None`: it is given up.
async fn before<T>(until: &Until, step: impl Future<Output = T>) -> Option<T> {
    let given_up = async {
        match until.clone() {
            Until::Stalled(mut end) => {
                end.wait_for(Option::is_some).await.ok();
                sleep(fault::deadline("deadline.terminal", STALL)).await;
            }
            Until::CutOff(mut cut) => drop(cut.wait_for(|cut| *cut).await),
        }
    };
    tokio::select! {
        biased;
        done = step => Some(done),
        () = given_up => None,
    }
}

async fn take(from: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> io::Result<usize> {
    from.async_io(Interest::READABLE, |fd| Ok(read(fd, &mut *buffer)?)).await
}

async fn put(to: &AsyncFd<OwnedFd>, bytes: &[u8]) -> io::Result<usize> {
    to.async_io(Interest::WRITABLE, |fd| Ok(write(fd, bytes)?)).await
}
