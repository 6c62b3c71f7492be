//! containerd's events, as `ctr events` tells them.

use std::time::Duration;

use serde_json::Value;

use crate::direct::eventually;

use super::{Containerd, Image, Job};

/// The events since [`Events::listen`].
#[derive(Debug)]
pub struct Events {
    job: Job,
    namespace: String,
}

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `/tasks/exit` and others.
    pub topic: String,
    /// What it says.
    pub body: Value,
}

impl Events {
    /// Listens from now on; `image` must be imported.
    #[track_caller]
    pub fn listen(containerd: &Containerd, image: Image) -> Self {
        let job = Job::start(containerd.ctr(&["events"]));
        // Nothing says that it listens now but an event itself.
        let mut n = 0;
        eventually("`ctr events` listens", || {
            n += 1;
            containerd.call(&["images", "label", image.name(), &format!("listening={n}")]).expect(0);
            std::thread::sleep(Duration::from_millis(10));
            job.printed().contains("/images/update")
        });
        Self { job, namespace: containerd.namespace() }
    }

    /// All task events so far.
    pub fn tasks(&self) -> Vec<Event> {
        let space = format!(" {} ", self.namespace);
        let printed = self.job.printed();
        // A last line without its end is on its way.
        let whole = printed.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let line = |line: &str| {
            let (topic, body) = line.split_once(&space)?.1.split_once(' ')?;
            let body = serde_json::from_str(body).ok()?;
            topic.starts_with("/tasks/").then(|| Event { topic: topic.to_owned(), body })
        };
        whole.lines().filter_map(line).collect()
    }

    /// Waits for the events of one container: these topics in this order, and no others.
    #[track_caller]
    pub fn expect(&self, id: &str, topics: &[&str]) -> Vec<Event> {
        let of = || self.tasks().into_iter().filter(|e| e.body["container_id"] == id).collect::<Vec<_>>();
        eventually(&format!("{} events of {id}", topics.len()), || of().len() >= topics.len());
        let events = of();
        assert_eq!(events.iter().map(|e| e.topic.as_str()).collect::<Vec<_>>(), topics, "{events:?}");
        events
    }
}
