//! What `docker` and `nerdctl` have in common: the same words for the same things.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::direct::eventually_some;

use super::{BOOT, Done, Image, Job, SOON};

/// A client that speaks Docker's command line.
pub trait Cli {
    /// The command with these arguments, on what belongs to the test.
    fn command(&self, args: &[&str]) -> Command;

    /// The flags that all containers have, unless they are among `flags`.
    fn fixed(&self, flags: &[&str]) -> &'static [&'static str];

    /// Runs it with these arguments to its end.
    #[track_caller]
    fn call(&self, args: &[&str]) -> Done {
        Job::start(self.command(args)).wait(SOON)
    }

    /// The command `run FLAGS IMAGE WORDS`; the words replace the image's Cmd, not its Entrypoint.
    fn run_command(&self, flags: &[&str], image: Image, words: &[&str]) -> Command {
        self.command(&[&["run"], self.fixed(flags), flags, &[image.name()], words].concat())
    }

    /// `create --name NAME`; its id.
    #[track_caller]
    fn create(&self, name: &str, flags: &[&str], image: Image, words: &[&str]) -> String {
        let named = ["create", "--name", name];
        let args = [&named, self.fixed(flags), flags, &[image.name()], words].concat();
        self.call(&args).expect(0).text().trim().to_owned()
    }

    /// Starts `run --rm FLAGS IMAGE WORDS` in the foreground.
    #[track_caller]
    fn spawn(&self, flags: &[&str], image: Image, words: &[&str]) -> Job {
        Job::start(self.run_command(&[&["--rm"], flags].concat(), image, words))
    }

    /// Runs a container from beginning to end, as [`Cli::spawn`].
    #[track_caller]
    fn run(&self, flags: &[&str], image: Image, words: &[&str]) -> Done {
        self.spawn(flags, image, words).wait(BOOT)
    }

    /// `run -d --name NAME`; its id.
    #[track_caller]
    fn run_detached(&self, name: &str, flags: &[&str], image: Image, words: &[&str]) -> String {
        let command = self.run_command(&[&["-d", "--name", name], flags].concat(), image, words);
        Job::start(command).wait(SOON).expect(0).text().trim().to_owned()
    }

    /// `inspect` of a container.
    #[track_caller]
    fn inspect(&self, name: &str) -> Value {
        let text = self.call(&["inspect", "--type", "container", name]).expect(0).text();
        serde_json::from_str::<Value>(&text).unwrap()[0].take()
    }

    /// The pid that it tells.
    #[track_caller]
    fn pid(&self, name: &str) -> i32 {
        let pid = self.inspect(name)["State"]["Pid"].take();
        pid.as_i64().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_else(|| panic!("{name}: pid {pid}"))
    }

    /// Waits until the state of a container is this one: `running`, `exited`, `paused`; its `State` from `inspect`.
    #[track_caller]
    fn wait_for_status(&self, name: &str, status: &str) -> Value {
        eventually_some(&format!("{name} is {status}"), || {
            let state = self.inspect(name)["State"].take();
            (state["Status"] == status).then_some(state)
        })
    }

    /// Waits until `logs` has this text.
    #[track_caller]
    fn wait_for_logs(&self, name: &str, text: &str) -> String {
        let deadline = Instant::now() + BOOT;
        loop {
            let logs = self.call(&["logs", name]).expect(0).text();
            if logs.contains(text) {
                return logs;
            }
            assert!(Instant::now() < deadline, "no {text:?} in the logs of {name}: {logs:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}
