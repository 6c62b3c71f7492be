//! The copying between a process and its client: the only bytes that pass through the daemon.
//!
//! A client that does not read, or a disk that hangs, makes the process wait, and nobody else. At the end what was
//! written is still copied, for as long as somebody takes it.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::OwnedFd,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

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
/// More than a pipe (pipe(7)) or a terminal holds.
const ALL_THERE_IS: usize = 128 * 1024;
/// How long a Delete waits for what its process has left behind to end the output. As runc's shim up to containerd 2.1.
const LEFT_BEHIND: Duration = Duration::from_secs(2);
/// How long after a Delete somebody may take nothing, or a disk may hang, until the rest is given up. CRI waits for 10 s.
const PATIENCE: Duration = Duration::from_secs(8);
/// What a Delete waits longer than that, for the copying itself.
const SLACK: Duration = Duration::from_millis(500);

/// The process has ended.
type End = watch::Receiver<Option<Exit>>;

/// When output ends, whoever may still hold it, and when it is given up.
struct Until {
    /// Of a terminal: it ends with its process. What was said before that is there when that is known.
    exit: Option<End>,
    deletion: watch::Receiver<bool>,
    /// How long after the Delete who was left behind is waited for, and whoever takes it or a disk.
    left_behind: Duration,
    patience: Duration,
}

impl Until {
    /// Nothing more is waited for; what is there is taken.
    async fn over(&self) {
        match &self.exit {
            Some(end) => drop(end.clone().wait_for(Option::is_some).await),
            None => self.deleted_for(self.left_behind).await,
        }
    }

    /// Whoever has not taken it by now gets no more.
    async fn given_up(&self) {
        self.deleted_for(self.patience).await;
    }

    async fn deleted_for(&self, time: Duration) {
        self.deletion.clone().wait_for(|deleted| *deleted).await.ok();
        sleep(time).await;
    }
}

/// Copies until a container has ended.
pub fn serve(container: &Arc<Container>) {
    let Some(relay) = container.relay() else { return };
    let container = container.clone();
    tokio::spawn(async move {
        if let Err(e) = copy(relay, container.exit(), container.deletion()).await {
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
        if let Err(e) = copy(relay, exec.exit(), exec.deletion()).await {
            tracing::warn!(exec = exec.id, error = %e, "its stdio is not copied any more");
        }
        exec.relay_ended();
    });
}

/// A container is deleted: what it has said is copied, for as long as somebody takes it.
pub async fn end(container: &Container) {
    if !ended(container.relay_end()).await {
        tracing::warn!(id = container.id, "its output does not end; it is copied on");
    }
}

/// An exec is deleted: the same.
pub async fn end_exec(exec: &Exec) {
    if !ended(exec.relay_end()).await {
        tracing::warn!(exec = exec.id, "its output does not end; it is copied on");
    }
}

async fn ended(mut end: watch::Receiver<bool>) -> bool {
    timeout(PATIENCE + SLACK, end.wait_for(|ended| *ended)).await.is_ok()
}

async fn copy(relay: Relay, end: End, deletion: watch::Receiver<bool>) -> io::Result<()> {
    let (mut outputs, is_terminal) = (JoinSet::new(), relay.terminal.is_some());
    for (from, to) in relay.outputs {
        let (from, to) = (registered(from)?, to.map(Output::of).transpose()?);
        let until = Until {
            exit: is_terminal.then(|| end.clone()),
            deletion: deletion.clone(),
            left_behind: fault::deadline("deadline.left-behind", LEFT_BEHIND),
            patience: fault::deadline("deadline.terminal", PATIENCE),
        };
        outputs.spawn(async move {
            let copied = copy_output(&from, to, &until).await;
            if is_terminal {
                tokio::spawn(to_nowhere(from));
            }
            copied
        });
    }
    if let Some((from, to)) = relay.input {
        let (from, to) = (registered(from)?, registered(to)?);
        let mut end = end;
        tokio::spawn(async move {
            tokio::select! {
                // However it ends: output goes on.
                _ = copy_input(&from, &to) => {}
                _ = end.wait_for(Option::is_some) => {}
            }
        });
    }
    let mut result = Ok(());
    while let Some(output) = outputs.join_next().await {
        result = result.and(output.map_err(io::Error::other).flatten());
    }
    // A slave of ours has kept the master from its end until now.
    drop(relay.terminal);
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

async fn copy_output(from: &AsyncFd<OwnedFd>, to: Option<Output>, until: &Until) -> io::Result<()> {
    let (mut over, mut to) = (pin!(until.over()), Sink { to, given_up: pin!(until.given_up()) });
    let mut buffer = vec![0; BUFFER];
    loop {
        let taken = tokio::select! {
            biased;
            () = &mut over => break,
            taken = take(from, &mut buffer) => taken,
        };
        match taken {
            Ok(0) => return Ok(()),
            // The slave is closed for good.
            Err(e) if e.raw_os_error() == Some(Errno::IO.raw_os_error()) => return Ok(()),
            taken => to.put(&buffer[..taken?]).await,
        }
    }
    let mut rest = vec![];
    while rest.len() < ALL_THERE_IS
        && let Ok(n @ 1..) = read(from.get_ref(), &mut *buffer)
    {
        rest.extend_from_slice(&buffer[..n]);
    }
    to.put(&rest).await;
    Ok(())
}

/// Takes what is said on a terminal behind its end, as slowly as a terminal may: without a master whoever is left there
/// could not go on.
async fn to_nowhere(from: AsyncFd<OwnedFd>) {
    const PAUSE: Duration = Duration::from_millis(100);
    let mut buffer = vec![0; 4096];
    while let Ok(1..) = take(&from, &mut buffer).await {
        sleep(PAUSE).await;
    }
}

/// Where output goes, until that is given up.
struct Sink<'a, G> {
    /// `None`: nowhere, or not any more.
    to: Option<Output>,
    given_up: Pin<&'a mut G>,
}

impl<G: Future<Output = ()>> Sink<'_, G> {
    /// Puts all of it there.
    async fn put(&mut self, mut bytes: &[u8]) {
        while let (Some(to), false) = (&self.to, bytes.is_empty()) {
            let put = tokio::select! {
                biased;
                put = to.put(bytes) => put,
                () = &mut self.given_up => {
                    self.to = None;
                    return;
                }
            };
            match put {
                Ok(n) => bytes = &bytes[n..],
                // A disk that is full loses output.
                Err(_) if matches!(to, Output::File(_)) => return,
                // A logger that is dead: the guest goes on.
                Err(_) => self.to = None,
            }
        }
    }
}

/// Where output goes.
enum Output {
    /// A FIFO or a pipe.
    Stream(AsyncFd<OwnedFd>),
    /// A file, whose writes may wait for its disk, whatever the flags of its descriptor: never on our own thread.
    File(Arc<File>),
}

impl Output {
    fn of(fd: OwnedFd) -> io::Result<Self> {
        match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
            FileType::RegularFile => Ok(Self::File(Arc::new(fd.into()))),
            _ => registered(fd).map(Self::Stream),
        }
    }

    /// How much it was; of a file, all.
    async fn put(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stream(to) => put(to, bytes).await,
            Self::File(file) => {
                let (mut file, bytes) = (file.clone(), bytes.to_vec());
                spawn_blocking(move || file.write_all(&bytes).map(|()| bytes.len())).await?
            }
        }
    }
}

async fn take(from: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> io::Result<usize> {
    from.async_io(Interest::READABLE, |fd| Ok(read(fd, &mut *buffer)?)).await
}

async fn put(to: &AsyncFd<OwnedFd>, bytes: &[u8]) -> io::Result<usize> {
    to.async_io(Interest::WRITABLE, |fd| Ok(write(fd, bytes)?)).await
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::fs::FileExt, sync::mpsc, thread};

    use rustix::{
        fs::{MemfdFlags, OFlags, fcntl_setfl, memfd_create},
        pipe::{PipeFlags, pipe_with},
    };
    use tokio::runtime::Builder;

    use super::*;

    /// How much a pipe holds (pipe(7)).
    const PIPE: usize = 64 * 1024;
    /// At which tick it is deleted.
    const DELETED: u32 = 5;
    /// What a disk that hangs still has to write.
    static FULL: [u8; PIPE] = [0; PIPE];

    /// Soon after its Delete; of a terminal if there is an exit.
    fn until(exit: Option<End>, deletion: watch::Receiver<bool>) -> Until {
        let soon = Duration::from_millis(300);
        Until { exit, deletion, left_behind: soon / 10, patience: soon }
    }

    /// Bytes that are not the same anywhere else.
    fn numbers(bytes: usize) -> Vec<u8> {
        (0..).flat_map(u32::to_ne_bytes).take(bytes).collect()
    }

    /// What reads and writes without waiting, and holds this.
    fn pipe(holds: &[u8]) -> (OwnedFd, OwnedFd) {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        assert_eq!(write(&writer, holds).unwrap(), holds.len());
        (reader, writer)
    }

    /// Copies on a runtime of one thread, as the daemon's, whose other task ticks on.
    fn copied(from: OwnedFd, to: Output, until: Until, mut tick: impl FnMut(u32) + Send + 'static) {
        let (sender, returned) = mpsc::channel();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let ticks = runtime.block_on(async {
                let from = registered(from).unwrap();
                let copying = tokio::spawn(async move { copy_output(&from, Some(to), &until).await });
                let mut ticks = 0;
                while !copying.is_finished() {
                    sleep(Duration::from_millis(10)).await;
                    ticks += 1;
                    tick(ticks);
                }
                copying.await.unwrap().unwrap();
                ticks
            });
            // The pool may still wait for the disk.
            runtime.shutdown_background();
            sender.send(ticks).ok();
        });
        let ticks = returned.recv_timeout(Duration::from_secs(10)).expect("the disk holds the runtime up");
        assert!(ticks >= 2, "{ticks}");
    }

    /// A disk that hangs, as long as nobody reads the pipe that it is.
    fn hung() -> (Output, File) {
        let (reader, writer) = pipe(&FULL);
        for end in [&reader, &writer] {
            fcntl_setfl(end, OFlags::empty()).unwrap();
        }
        (Output::File(Arc::new(writer.into())), reader.into())
    }

    /// What it gets when it is well again, until nobody writes any more.
    fn got(mut disk: File) -> Vec<u8> {
        let mut all = vec![];
        disk.read_to_end(&mut all).unwrap();
        all
    }

    #[test]
    fn a_disk_that_hangs_holds_up_nobody() {
        let all = numbers(PIPE);
        // What it hangs on is written once, and nothing more.
        let (delete, deletion) = watch::channel(false);
        let ((from, _writer), (to, disk)) = (pipe(&all), hung());
        copied(from, to, until(None, deletion), move |tick| {
            if tick == DELETED {
                delete.send(true).unwrap();
            }
        });
        assert!(got(disk) == [&FULL, &all[..BUFFER]].concat());

        // It hangs on what is there at the end.
        let (_delete, deletion) = watch::channel(true);
        let (_ended, exit) = watch::channel(Some(Exit::by_signal(9)));
        let ((from, _writer), (to, disk)) = (pipe(&all), hung());
        copied(from, to, until(Some(exit), deletion), |_| {});
        assert!(got(disk) == [&FULL, &all[..]].concat());
    }

    #[test]
    fn a_disk_that_is_slow_gets_what_was_there_at_the_deletion() {
        let all = numbers(PIPE);
        let (delete, deletion) = watch::channel(false);
        let ((from, _writer), (to, disk)) = (pipe(&all), hung());
        let mut first = disk.try_clone().unwrap();
        copied(from, to, until(None, deletion), move |tick| {
            if tick == DELETED {
                delete.send(true).unwrap();
            } else if tick == 2 * DELETED {
                first.read_exact(&mut [0; PIPE]).unwrap();
            }
        });
        assert!(got(disk) == all);
    }

    #[test]
    fn a_file_gets_what_was_there_at_the_deletion() {
        let all = numbers(PIPE + BUFFER);
        let (first, more) = all.split_at(BUFFER);
        let more = more.to_vec();
        let file = File::from(memfd_create("file", MemfdFlags::CLOEXEC).unwrap());
        let to = Output::of(file.try_clone().unwrap().into()).unwrap();
        assert!(matches!(to, Output::File(_)));
        let (delete, deletion) = watch::channel(false);
        let (from, writer) = pipe(first);
        let _kept = writer.try_clone().unwrap();
        copied(from, to, until(None, deletion), move |tick| {
            if tick == DELETED {
                assert_eq!(write(&writer, &more).unwrap(), PIPE);
                delete.send(true).unwrap();
            }
        });
        let mut got = vec![0; all.len() + 1];
        assert_eq!(file.read_at(&mut got, 0).unwrap(), all.len());
        assert!(got.starts_with(&all));
    }

    /// Whoever may still hold it; and nobody needs to delete it.
    #[test]
    fn a_terminal_ends_with_its_process() {
        let all = numbers(PIPE);
        let file = File::from(memfd_create("file", MemfdFlags::CLOEXEC).unwrap());
        let to = Output::of(file.try_clone().unwrap().into()).unwrap();
        let (_delete, deletion) = watch::channel(false);
        let (ended, exit) = watch::channel(None);
        let (from, _held) = pipe(&all);
        copied(from, to, until(Some(exit), deletion), move |tick| {
            if tick == DELETED {
                ended.send(Some(Exit::by_signal(9))).unwrap();
            }
        });
        assert_eq!(file.metadata().unwrap().len(), PIPE as u64);
    }
}
