//! A life from create to delete, as a person with `ctr` or a kubelet with `crictl` has it. It ends early when the kill
//! makes a step of it fail, and always with the phase that the kill was in.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::harness::{Container, Done, Handler, Image, Job, Pod, SOON};

use super::{
    choice::{Choice, Client, Phase},
    stage::Stage,
    strike::{Behind, Fell, Strike},
};

/// How long a client may take. A kubelet gives two minutes; a second is usual.
const LIMIT: Duration = Duration::from_secs(40);
/// How long a guest may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);
/// How long a container runs until it is stopped.
const RUN: Duration = Duration::from_millis(40);
/// The same for Debian, which boots.
const BOOT: Duration = Duration::from_millis(2500);

/// How a life went.
#[derive(Debug)]
pub enum Lived {
    /// The kill was.
    Struck(Fell),
    /// There was nobody to kill, and the life came to its own end.
    Unharmed,
    /// A step failed although nobody was killed yet.
    Failed(String),
}

/// Lives.
pub fn live(stage: &mut Stage, choice: &Choice, name: &str) -> Lived {
    let handler = stage.handler();
    let strike = Strike::new(choice, handler, stage.usual());
    let mut life = Life { stage, choice, name, strike, failure: None };
    match choice.client {
        Client::Ctr => life.by_ctr(),
        Client::Pod => life.by_crictl(),
    };
    let (fell, own) = (life.strike.fell(), life.strike.own_life());
    match fell.and_then(|fell| fell.behind) {
        Some(Behind::Killed { .. }) => life.stage.usual().learn_cleanup(choice.client, None),
        Some(Behind::Faster(own)) => life.stage.usual().learn_cleanup(choice.client, Some(own)),
        None => {}
    }
    if fell.is_some() || own.is_some() {
        life.stage.usual().learn_life(choice, handler, own.filter(|_| fell.is_none()));
    }
    match (fell, life.failure) {
        (Some(fell), _) => Lived::Struck(fell),
        (None, Some(why)) => Lived::Failed(why),
        (None, None) => Lived::Unharmed,
    }
}

struct Life<'a> {
    stage: &'a mut Stage,
    choice: &'a Choice,
    name: &'a str,
    strike: Strike,
    failure: Option<String>,
}

impl Life<'_> {
    fn by_ctr(&mut self) -> Option<()> {
        let (name, words) = (self.name, command(self.stage.handler(), self.choice.guest));
        let run = self.stage.ctr_run(&["-d"], self.stage.image(self.choice.guest), name, &words);
        let ctr = |life: &Self, args: &[&str]| life.stage.node().containerd().ctr(args);
        self.phase(Phase::Create, |life| life.call(run))?;
        self.phase(Phase::Run, |life| {
            let exec = ["task", "exec", "--exec-id", "e1", name];
            life.executes(ctr(life, &[&exec[..], &EXECUTED].concat()))?;
            life.runs()
        })?;
        self.phase(Phase::Stop, |life| {
            life.call(ctr(life, &["task", "kill", "-s", "SIGTERM", name]))?;
            let began = Instant::now();
            loop {
                let listed = life.call(ctr(life, &["task", "ls"]))?.text();
                let is_it = |line: &&str| line.split_whitespace().next() == Some(name);
                if listed.lines().find(is_it).is_some_and(|line| line.contains("STOPPED")) {
                    return Some(());
                }
                // Who was killed may have taken the task with it.
                if life.strike.fell().is_some() {
                    return None;
                }
                // A guest that does not boot yet hears nothing. It may end just now, and then this fails.
                if began.elapsed() > GRACE {
                    life.end(ctr(life, &["task", "kill", "-s", "SIGKILL", name]));
                }
                if began.elapsed() > LIMIT {
                    life.failure = Some(format!("{name} does not stop: {listed}"));
                    return None;
                }
                life.wait(Duration::from_millis(10));
            }
        })?;
        self.phase(Phase::Delete, |life| {
            // Its status is that of the container's process.
            life.end(ctr(life, &["task", "rm", name]))?;
            life.call(ctr(life, &["containers", "rm", name]))
        })?;
        Some(())
    }

    fn by_crictl(&mut self) -> Option<()> {
        let handler = self.stage.handler();
        let words = command(handler, self.choice.guest);
        let pod = Pod::new(self.name).handler(handler);
        let container = Container::new("c", self.stage.image(self.choice.guest), &words);
        let crictl = |life: &Self, args: &[&str]| life.stage.node().crictl(args);
        let (pod, member) = self.phase(Phase::Create, |life| {
            let (command, sandbox) = life.stage.node().runp_command(&pod);
            let sandbox = sandbox.with_id(life.call(command)?.text().trim());
            let settled = life.stage.settle_strangers();
            // Nobody else kills: then the pod is there, and has a network.
            assert!(settled > 0 || life.strike.fell().is_some(), "no stranger can settle in {}", sandbox.id);
            let create = life.stage.node().create_command(&sandbox, &container);
            Some((sandbox.id, life.call(create)?.text().trim().to_owned()))
        })?;
        self.phase(Phase::Run, |life| {
            life.call(crictl(life, &["start", &member]))?;
            life.executes(crictl(life, &[&["exec", "-s", &member][..], &EXECUTED].concat()))?;
            life.runs()
        })?;
        self.phase(Phase::Stop, |life| life.call(crictl(life, &["stop", "--timeout", "5", &member])))?;
        self.phase(Phase::Delete, |life| {
            life.call(crictl(life, &["stopp", &pod]))?;
            life.call(crictl(life, &["rm", &member]))?;
            life.call(crictl(life, &["rmp", &pod]))
        })?;
        Some(())
    }

    /// One phase; `None`: the life is over.
    fn phase<T>(&mut self, phase: Phase, body: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.strike.enter(Some(phase));
        let began = Instant::now();
        let result = body(self);
        self.strike.enter(None);
        if self.strike.fell().is_some() {
            return None;
        }
        let result = result?;
        self.stage.usual().learn_phase(self.choice, phase, began.elapsed());
        Some(result)
    }

    /// In an ordinary container a process is executed, which leaves another one behind.
    fn executes(&mut self, exec: Command) -> Option<()> {
        let is_guest = self.stage.handler() == Handler::Urunc && self.choice.guest != Image::Busybox;
        if is_guest { Some(()) } else { self.call(exec).map(drop) }
    }

    fn runs(&mut self) -> Option<()> {
        self.wait(if self.choice.guest == Image::Debian { BOOT } else { RUN });
        Some(())
    }

    fn wait(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while self.strike.fell().is_none() && Instant::now() < deadline {
            self.strike.tick(self.stage.suspects(), self.stage.node(), None);
            thread::sleep(self.strike.pause());
        }
    }

    /// A step that must succeed.
    fn call(&mut self, command: Command) -> Option<Done> {
        let done = self.end(command)?;
        if done.status != Some(0) {
            self.failure = Some(done.to_string());
            return None;
        }
        Some(done)
    }

    /// A step that must end.
    fn end(&mut self, command: Command) -> Option<Done> {
        let job = Job::start(command);
        let began = Instant::now();
        while !job.ends_within(self.strike.pause()) {
            self.strike.tick(self.stage.suspects(), self.stage.node(), Some(&job));
            if self.strike.is_hopeless() || began.elapsed() > LIMIT {
                self.failure = Some(format!("no end within {:?}: {}", began.elapsed(), job.what()));
                job.kill();
                return None;
            }
        }
        Some(job.wait(SOON))
    }
}

/// What is executed in an ordinary container.
const EXECUTED: [&str; 3] = ["sh", "-c", "sleep 600 < /dev/null > /dev/null 2>&1 &"];

/// What a container is told that is to run until it is stopped.
fn command(handler: Handler, guest: Image) -> Vec<&'static str> {
    match (handler, guest) {
        (Handler::Runc, _) | (_, Image::Busybox) => vec!["sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait"],
        (Handler::Urunc, Image::Debian) => vec!["/init", "sleep", "600"],
        (Handler::Urunc, _) => vec!["tiny", "hang"],
    }
}
