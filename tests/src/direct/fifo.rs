//! FIFOs as containerd makes them, and their readers.

use std::{
    fs::{File, OpenOptions},
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{CWD, FileType, Mode, OFlags, fcntl_setfl, mknodat, open},
    io::Errno,
};
use tokio::{io::AsyncReadExt, net::unix::pipe};

use super::runtime;

/// Makes a FIFO.
pub fn make(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

/// Reads a FIFO from its first writer to the end of its last, as a client of containerd does.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    read: Arc<(Mutex<Taken>, Condvar)>,
}

#[derive(Debug, Default)]
struct Taken {
    opened: bool,
    data: Vec<u8>,
    ended: bool,
}

impl Reader {
    /// Begins to read. It is open when this returns: a writer may come and go at once.
    pub fn open(path: &Path) -> Self {
        let read = Arc::new((Mutex::<Taken>::default(), Condvar::new()));
        let shared = read.clone();
        let fifo = open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).unwrap();
        fcntl_setfl(&fifo, OFlags::empty()).unwrap();
        thread::spawn(move || {
            // Waits for the first writer, which a read does not. (There is no end before there was one.)
            while poll(&mut [PollFd::new(&fifo, PollFlags::IN)], None) == Err(Errno::INTR) {}
            lock(&shared.0).opened = true;
            let mut file = File::from(fifo);
            let mut buffer = vec![0u8; 64 * 1024];
            loop {
                let n = file.read(&mut buffer).unwrap_or(0);
                let mut read = lock(&shared.0);
                read.data.extend_from_slice(&buffer[..n]);
                read.ended = n == 0;
                shared.1.notify_all();
                if n == 0 {
                    return;
                }
            }
        });
        Self { path: path.to_owned(), read }
    }

    /// What has come so far.
    pub fn so_far(&self) -> Vec<u8> {
        lock(&self.read.0).data.clone()
    }

    /// Waits until `text` has come.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let came = self.wait(super::SOON, |read| {
            read.ended || read.data.windows(text.len()).any(|w| w == text.as_bytes())
        });
        let said = String::from_utf8_lossy(&self.so_far()).into_owned();
        let last: String = said.chars().rev().take(200).collect::<Vec<_>>().into_iter().rev().collect();
        assert!(came && said.contains(text), "{text:?} did not come, only ...{last:?}");
    }

    /// Everything, once the last writer is gone; it must be within [`super::SOON`].
    #[track_caller]
    pub fn to_end(&self) -> String {
        assert!(self.ends_within(super::SOON), "no end of {}", self.path.display());
        String::from_utf8_lossy(&self.so_far()).into_owned()
    }

    /// Whether the last writer is gone within this time.
    pub fn ends_within(&self, time: Duration) -> bool {
        self.wait(time, |read| read.ended)
    }

    fn wait(&self, time: Duration, done: impl Fn(&Taken) -> bool) -> bool {
        let deadline = Instant::now() + time;
        let mut read = lock(&self.read.0);
        while !done(&read) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            read = self.read.1.wait_timeout(read, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for Reader {
    /// A reader that still waits for its first writer gets one, so that it does not take what is for others. A monitor
    /// that lives, as after a test that failed, keeps it waiting: then it is left alone.
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(2);
        // For both: that never waits. Gone again at once: what is waited for is a writer that came, with or without data.
        while OpenOptions::new().read(true).write(true).open(&self.path).is_ok()
            && !lock(&self.read.0).opened
            && Instant::now() < deadline
        {
            thread::sleep(Duration::from_micros(200));
        }
    }
}

fn lock(mutex: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads containerd's log fifo of a bundle.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<String>>);

impl Log {
    /// Begins to read; like containerd for reading and writing, so that it never ends by itself.
    pub fn open(path: &Path) -> Self {
        let log = Self::default();
        let text = log.0.clone();
        let fifo = {
            let _context = runtime::handle().enter();
            pipe::OpenOptions::new().read_write(true).open_receiver(path).unwrap()
        };
        runtime::handle().spawn(async move {
            let mut fifo = fifo;
            let mut buffer = vec![0u8; 64 * 1024];
            // Until the bench is gone.
            while let Ok(n) = fifo.read(&mut buffer).await
                && Arc::strong_count(&text) > 1
            {
                text.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        });
        log
    }

    /// What was logged so far.
    pub fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
