//! The log file of a container, in Kubernetes' format.

use std::{
    fs,
    time::{Duration, Instant},
};

use super::{
    super::{Done, Job, SOON},
    crictl::Member,
    node::Node,
};

/// A line: `TIME STREAM TAG TEXT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Whether it is a whole line (`F`) and not a part of one (`P`).
    pub full: bool,
    /// What was printed, without its newline.
    pub text: Vec<u8>,
}

impl Member {
    /// The lines of its log so far.
    #[track_caller]
    pub fn lines(&self) -> Vec<Line> {
        let bytes = fs::read(&self.log).unwrap_or_default();
        // A last line without its end is being written.
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        bytes[..whole].split_inclusive(|b| *b == b'\n').map(line).collect()
    }

    /// What it has printed so far, put together again.
    #[track_caller]
    pub fn printed(&self) -> Vec<u8> {
        let whole = |line: Line| [line.text, if line.full { vec![b'\n'] } else { Vec::new() }].concat();
        self.lines().into_iter().flat_map(whole).collect()
    }

    /// The same as text, without a serial line's carriage returns.
    #[track_caller]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.printed()).replace('\r', "")
    }
}

impl Node {
    /// `logs`.
    #[track_caller]
    pub fn logs(&self, member: &Member) -> Done {
        Job::start(self.crictl(&["logs", &member.id])).wait(SOON).expect(0)
    }

    /// Waits until a container has printed this; fails if it ends before.
    #[track_caller]
    pub fn wait_for(&self, member: &Member, text: &str, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let mut looks = 0;
        while !member.text().contains(text) {
            looks += 1;
            // Asking containerd is dear.
            let ended = looks % 50 == 0 && self.exit(member).is_some() && !member.text().contains(text);
            let late = Instant::now() >= deadline;
            assert!(
                !ended && !late,
                "no {text:?} in {:?}; {}",
                member.text(),
                self.inspect(member)["status"]
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[track_caller]
fn line(bytes: &[u8]) -> Line {
    let parts: Vec<_> = bytes.strip_suffix(b"\n").unwrap_or(bytes).splitn(4, |b| *b == b' ').collect();
    let [_, stream, tag, text] = parts[..] else { panic!("{:?}", String::from_utf8_lossy(bytes)) };
    assert!(tag == b"F" || tag == b"P", "{:?}", String::from_utf8_lossy(bytes));
    Line { stream: String::from_utf8_lossy(stream).into_owned(), full: tag == b"F", text: text.to_vec() }
}
