//! The copying between a process and its client: the only bytes that pass through the daemon.
//!
//! A client that does not read, or a disk that hangs, makes the process wait, and nobody else. At the end what was
//! written is still copied, for as long as somebody takes it.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::OwnedFd,
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
/// How much a pipe holds (pipe(7)).
const PIPE: usize = 64 * 1024;
/// How long after the end a client may take nothing until the rest is given up. A file's disk has as long again for
/// what is under way when it is cut off, and for the rest.
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
    // What was taken when it was given up, and not put.
    let left = 'copied: loop {
        if matches!(until, Until::CutOff(cut) if *cut.borrow()) {
            break 0..0;
        }
        let n = match before(until, Duration::ZERO, take(master, &mut buffer)).await {
            // EIO: the slave is closed for good.
            Some(Ok(0)) => return Ok(()),
            Some(Err(e)) if e.raw_os_error() == Some(Errno::IO.raw_os_error()) => return Ok(()),
            Some(n) => n?,
            None => break 0..0,
        };
        let mut left = 0..n;
        while let (Some(to), false) = (&output, left.is_empty()) {
            match before(until, to.grace(), to.put(&buffer[left.clone()])).await {
                None => break 'copied left,
                Some(Ok(n)) => left.start += n,
                // A disk that is full loses output.
                Some(Err(_)) if matches!(to, Output::File(_)) => left = 0..0,
                // A logger that is dead: the guest goes on.
                Some(Err(_)) => output = None,
            }
        }
    };
    if let Some(to) = &output {
        rest(master.get_ref(), to, buffer[left].to_vec()).await;
    }
    Ok(())
}

/// It is given up: what was taken already, and what is there, as much as a pipe holds, as far as it is put at once, or by
/// a file's disk soon.
async fn rest(from: &OwnedFd, to: &Output, mut left: Vec<u8>) {
    // Its disk hangs on that: nothing is written twice, and nothing overtakes it.
    if matches!(to, Output::File(_)) && !left.is_empty() {
        return;
    }
    let most = left.len() + PIPE;
    let mut buffer = vec![0; BUFFER];
    while left.len() < most
        && let Ok(n @ 1..) = read(from, &mut *buffer)
    {
        left.extend_from_slice(&buffer[..n]);
    }
    match to {
        Output::Stream(to) => drop(write(to.get_ref(), &left)),
        Output::File(_) => drop(timeout(STALL, to.put(&left)).await),
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

    /// How much longer a put may take that is cut off: a disk that works is done soon, and then takes the rest.
    fn grace(&self) -> Duration {
        match self {
            Self::Stream(_) => Duration::ZERO,
            Self::File(_) => STALL,
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

/// `None`: it is given up.
async fn before<T>(until: &Until, grace: Duration, step: impl Future<Output = T>) -> Option<T> {
    let given_up = async {
        match until.clone() {
            Until::Stalled(mut end) => {
                end.wait_for(Option::is_some).await.ok();
                sleep(fault::deadline("deadline.terminal", STALL)).await;
            }
            Until::CutOff(mut cut) => {
                cut.wait_for(|cut| *cut).await.ok();
                sleep(grace).await;
            }
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

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::fs::FileExt, sync::mpsc, thread};

    use rustix::{
        fs::{MemfdFlags, OFlags, fcntl_setfl, memfd_create},
        pipe::{PipeFlags, pipe_with},
    };
    use tokio::runtime::Builder;

    use super::*;

    /// At which tick the copying is given up.
    const GIVEN_UP: u32 = 5;
    /// What a disk that hangs still has to write.
    static FULL: [u8; PIPE] = [0; PIPE];

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

    /// Copies on a runtime of one thread, as the daemon's, whose other task ticks on, and gives it up at last.
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
        assert!(ticks >= GIVEN_UP, "{ticks}");
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
        let (cut, is_cut_off) = watch::channel(false);
        let ((from, _writer), (to, disk)) = (pipe(&all), hung());
        copied(from, to, Until::CutOff(is_cut_off), move |tick| {
            if tick == GIVEN_UP {
                cut.send(true).unwrap();
            }
        });
        assert!(got(disk) == [&FULL, &all[..BUFFER]].concat());

        let (ends, end) = watch::channel(None);
        let ((from, _writer), (to, disk)) = (pipe(&all), hung());
        copied(from, to, Until::Stalled(end), move |tick| {
            if tick == GIVEN_UP {
                ends.send(Some(Exit::by_signal(9))).unwrap();
            }
        });
        assert!(got(disk) == [&FULL, &all[..BUFFER]].concat());

        // It hangs on the rest.
        let (_cut, is_cut_off) = watch::channel(true);
        let ((from, _writer), (to, disk)) = (pipe(&all), hung());
        copied(from, to, Until::CutOff(is_cut_off), |_| {});
        assert!(got(disk) == [&FULL, &all[..]].concat());
    }

    #[test]
    fn a_disk_that_is_slow_gets_what_was_there_when_it_was_cut_off() {
        let all = numbers(PIPE);
        let (cut, is_cut_off) = watch::channel(false);
        let ((from, _writer), (to, disk)) = (pipe(&all), hung());
        let mut first = disk.try_clone().unwrap();
        copied(from, to, Until::CutOff(is_cut_off), move |tick| {
            if tick == GIVEN_UP {
                cut.send(true).unwrap();
            } else if tick == GIVEN_UP + 1 {
                first.read_exact(&mut [0; PIPE + BUFFER]).unwrap();
            }
        });
        assert!(got(disk) == all[BUFFER..]);
    }

    #[test]
    fn a_file_gets_what_was_there_when_it_was_cut_off() {
        let all = numbers(PIPE + BUFFER);
        let (first, more) = all.split_at(BUFFER);
        let more = more.to_vec();
        let file = File::from(memfd_create("file", MemfdFlags::CLOEXEC).unwrap());
        let to = Output::of(file.try_clone().unwrap().into()).unwrap();
        assert!(matches!(to, Output::File(_)));
        let (cut, is_cut_off) = watch::channel(false);
        let (from, writer) = pipe(first);
        let _kept = writer.try_clone().unwrap();
        copied(from, to, Until::CutOff(is_cut_off), move |tick| {
            if tick == GIVEN_UP {
                assert_eq!(write(&writer, &more).unwrap(), PIPE);
                cut.send(true).unwrap();
            }
        });
        let mut got = vec![0; all.len() + 1];
        assert_eq!(file.read_at(&mut got, 0).unwrap(), all.len());
        assert!(got.starts_with(&all));
    }
}
