//! After the kill: what a kubelet or a person does then, what is left behind, and whether the name can be used again.

use std::{
    collections::HashSet,
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use leakcheck::{Entry, Kind};

use crate::harness::{Container, Done, Image, Job, Parent, Pod, SOON};

use super::{
    GRACE,
    choice::{Choice, Client},
    stage::Stage,
};

/// How long one command may take.
const LIMIT: Duration = Duration::from_secs(20);
/// How long it is tried again, as a kubelet does without end: containerd 1.6 that was killed between `start` and Create
/// takes the daemon for a task that it cannot name, and blocks the id until the daemon leaves, which it does after 20 s.
const RETRY: Duration = GRACE;
/// A take-down that took longer is told. And only then a pod is helped whose container has a task that containerd made and
/// its CRI plug-in does not know of, because the client was gone between the two: that refuses to remove it for ever,
/// whatever the shim.
pub const BLOCKED: Duration = Duration::from_secs(10);
/// How long a name may be tried to be used again.
const USE: Duration = Duration::from_secs(15);
/// How long what is ending may take: containerd's `delete` takes 5 s at most.
const SETTLE: Duration = Duration::from_secs(6);
/// When the clean-up is tried once more: a client that was killed may have been heard by containerd after all.
const AGAIN: Duration = Duration::from_secs(1);
/// The status by which a container says that it ran.
const STATUS: i32 = 4;

/// Things that are known: of strangers or of earlier cycles.
pub type Known = HashSet<(Kind, String)>;

/// containerd runs, or does again.
pub fn revive(stage: &Stage) {
    let containerd = stage.node().containerd();
    if !containerd.runs() {
        containerd.restart();
        stage.node().is_ready(&[]);
    }
}

/// Takes down whatever there is of a life, and tries again until there is nothing; how long that took, or what stays.
pub fn take_down(stage: &Stage, client: Client, name: &str) -> Result<Duration, String> {
    let began = Instant::now();
    loop {
        match try_take_down(stage, client, name) {
            None => return Ok(began.elapsed()),
            Some(left) if began.elapsed() >= RETRY => return Err(left),
            Some(_) => {
                if client == Client::Pod && began.elapsed() > BLOCKED {
                    remove_unknown_tasks(stage);
                }
                thread::sleep(Duration::from_millis(200));
            }
        }
    }
}

/// Removes tasks that were created and never started, as a person does who finds them.
fn remove_unknown_tasks(stage: &Stage) {
    let containerd = stage.node().containerd();
    let listed = patiently(containerd.ctr(&["task", "ls"])).map(|done| done.text()).unwrap_or_default();
    for line in listed.lines() {
        if let [id, _, "CREATED"] = line.split_whitespace().collect::<Vec<_>>()[..] {
            patiently(containerd.ctr(&["task", "rm", "-f", id]));
        }
    }
}

/// The same, once; what stays.
fn try_take_down(stage: &Stage, client: Client, name: &str) -> Option<String> {
    match client {
        Client::Ctr => forget(stage, name),
        Client::Pod => remove_pods(stage),
    }
}

/// What a person does; `None`: containerd knows nothing of it any more.
fn forget(stage: &Stage, name: &str) -> Option<String> {
    let containerd = stage.node().containerd();
    let ctr = |args: &[&str]| patiently(containerd.ctr(args));
    let removed = ctr(&["task", "rm", "-f", name]);
    ctr(&["containers", "rm", name]);
    ctr(&["snapshots", "rm", name]);
    for what in ["task", "containers"] {
        let listed = ctr(&[what, "ls", "-q"])?;
        if listed.status != Some(0) || listed.text().lines().any(|line| line.trim() == name) {
            return Some(format!("{what} {name} stays: {}", tell(removed.as_ref())));
        }
    }
    containerd
        .bundle(name)
        .exists()
        .then(|| format!("the bundle of {name} stays: {}", tell(removed.as_ref())))
}

/// What a kubelet does; `None`: there is no pod any more.
fn remove_pods(stage: &Stage) -> Option<String> {
    let crictl = |args: &[&str]| patiently(stage.node().crictl(args));
    let Some(pods) = crictl(&["pods", "-q"]).filter(|done| done.status == Some(0)) else {
        return Some("containerd does not list its pods".to_owned());
    };
    let mut left = None;
    for pod in pods.text().lines() {
        let removed = crictl(&["rmp", "-f", pod.trim()]);
        if removed.as_ref().is_none_or(|done| done.status != Some(0)) {
            left = Some(format!("pod {pod} stays: {}", tell(removed.as_ref())));
        }
    }
    left
}

/// Waits until nothing is left that is not known, and returns what is: what was there in the last look and in the one
/// before, since a stranger that is just ending cannot be told from ours.
pub fn settle(stage: &Stage, client: Client, name: &str, known: &Known) -> Vec<Entry> {
    let began = Instant::now();
    let mut again = AGAIN;
    let mut before: Vec<Entry> = Vec::new();
    loop {
        if client == Client::Pod {
            Parent::of(&stage.node().namespace(), name).try_remove();
        }
        let left = look(stage, known);
        let stays = |entry: &Entry| before.iter().any(|e| (e.kind, &e.name) == (entry.kind, &entry.name));
        if left.is_empty() || began.elapsed() >= SETTLE {
            return left.into_iter().filter(stays).collect();
        }
        before = left;
        if began.elapsed() >= again {
            try_take_down(stage, client, name);
            again += AGAIN;
        }
        thread::sleep(Duration::from_millis(30));
    }
}

/// Waits until what lives and what it held is gone though nobody asks for it any more, and returns what is not. Records
/// stay, as long as their bundles are there, and the `gc` that has done it waits a moment for those to go.
pub fn settle_unasked(stage: &Stage, known: &Known) -> Vec<Entry> {
    let began = Instant::now();
    loop {
        let mut left = look(stage, known);
        left.retain(|entry| match entry.kind {
            Kind::Process => {
                let pid = entry.name.split('@').next().and_then(|pid| pid.parse().ok());
                pid.is_none_or(|pid| !stage.suspects().is_gc(pid))
            }
            Kind::UnixSocket => true,
            Kind::Cgroup => entry.name.contains("/urunc-"),
            _ => false,
        });
        if left.is_empty() || began.elapsed() >= SETTLE {
            return left;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// What is there now, was not there in the beginning, and is not known.
pub fn look(stage: &Stage, known: &Known) -> Vec<Entry> {
    let leaks = stage.node().look();
    let unreadable = leaks.unreadable.iter().map(|unreadable| Entry {
        kind: unreadable.kind,
        name: unreadable.reason.clone(),
        detail: "could not be read".to_owned(),
    });
    // The leak check looks at files in the folders of the shim only.
    let bundles = fs::read_dir(stage.node().containerd().bundle("")).into_iter().flatten().flatten();
    let bundles = bundles.map(|entry| Entry {
        kind: Kind::File,
        name: entry.path().to_string_lossy().into_owned(),
        detail: "bundle".to_owned(),
    });
    let mut left: Vec<_> = leaks.leaked.iter().cloned().chain(unreadable).chain(bundles).collect();
    left.retain(|entry| !known.contains(&(entry.kind, entry.name.clone())));
    left
}

/// The same name can be made, runs, and can be removed; else why not.
pub fn use_again(stage: &Stage, choice: &Choice, name: &str) -> Result<(), String> {
    let deadline = Instant::now() + USE;
    let client = choice.client;
    // Debian takes seconds to boot.
    let image = if choice.guest == Image::Busybox { Image::Busybox } else { Image::Tiny };
    let image = stage.image(image);
    loop {
        let used = match client {
            Client::Ctr => use_by_ctr(stage, image, name),
            Client::Pod => use_by_crictl(stage, image, name),
        };
        match used {
            Err(why) if Instant::now() >= deadline => return Err(why),
            Err(_) => {
                take_down(stage, client, name)?;
                thread::sleep(Duration::from_millis(300));
            }
            Ok(()) => return Ok(()),
        }
    }
}

fn use_by_ctr(stage: &Stage, image: Image, name: &str) -> Result<(), String> {
    let run = stage.ctr_run(&["--rm"], image, name, &words(image));
    expect(patiently(run), STATUS).map(drop)
}

fn use_by_crictl(stage: &Stage, image: Image, name: &str) -> Result<(), String> {
    let node = stage.node();
    let (command, sandbox) = node.runp_command(&Pod::new(name).handler(stage.handler()));
    let made = expect(patiently(command), 0)?;
    let sandbox = sandbox.with_id(made.text().trim());
    let container = Container::new("c", image, &words(image));
    let made = expect(patiently(node.create_command(&sandbox, &container)), 0)?;
    let member = made.text().trim().to_owned();
    expect(patiently(node.crictl(&["start", &member])), 0)?;
    let ran =
        |text: &str| text.contains(&format!("\"exitCode\": {STATUS},")) && text.contains("CONTAINER_EXITED");
    let deadline = Instant::now() + SOON;
    loop {
        let told = expect(patiently(node.crictl(&["inspect", &member])), 0)?;
        if ran(&told.text()) {
            break;
        }
        if Instant::now() >= deadline {
            return Err(told.to_string());
        }
        thread::sleep(Duration::from_millis(20));
    }
    expect(patiently(node.crictl(&["rmp", "-f", &sandbox.id])), 0)?;
    Ok(())
}

fn words(image: Image) -> Vec<&'static str> {
    match image {
        Image::Busybox => vec!["sh", "-c", "exit 4"],
        _ => vec!["tiny", "exit=4"],
    }
}

fn expect(done: Option<Done>, status: i32) -> Result<Done, String> {
    match done {
        Some(done) if done.status == Some(status) => Ok(done),
        done => Err(tell(done.as_ref())),
    }
}

fn tell(done: Option<&Done>) -> String {
    done.map_or_else(|| format!("no end within {LIMIT:?}"), ToString::to_string)
}

/// Runs a command to its end; `None`: it took too long, and was killed.
fn patiently(command: Command) -> Option<Done> {
    let job = Job::start(command);
    if job.ends_within(LIMIT) {
        return Some(job.wait(SOON));
    }
    job.kill();
    None
}
