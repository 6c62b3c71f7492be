//! Waiting for the kernel to finish with processes that are on their way out: short sleeps up to a deadline.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// The first pause is about what a small process needs to exit; a guest with gigabytes needs many of the last.
const FIRST: Duration = Duration::from_micros(200);
const LAST: Duration = Duration::from_millis(5);

/// Sleeps that grow, and never pass the deadline.
pub(crate) struct Backoff {
    next: Duration,
    deadline: Instant,
}

impl Backoff {
    pub(crate) fn until(deadline: Instant) -> Self {
        Self { next: FIRST, deadline }
    }

    /// Sleeps; `false`, at once, when the deadline has passed.
    pub(crate) fn pause(&mut self) -> bool {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        sleep(self.next.min(left));
        self.next = (self.next * 2).min(LAST);
        true
    }
}
