//! `containerd-shim-urunc-v2`: the shim behind containerd's runtime `io.containerd.urunc.v2`.
//!
//! One binary, several lives: the short actions that containerd executes (`start`, `delete`, `-info`, `-v`), the
//! daemon that serves the tasks of a pod, the launcher that becomes a monitor, and `gc`, which finishes what a
//! `delete` could not.

mod bootstrap;
mod bundles;
mod chores;
mod daemon;
mod delete;
mod error;
mod events;
mod flags;
mod gc;
mod given;
mod handover;
mod info;
mod leave;
mod living;
mod logging;
mod memory;
mod metrics;
mod oom;
mod options;
mod peer;
mod private;
mod relay;
mod rpc_error;
mod service;
mod spawner;
mod standby;
mod start;

use std::{io::Write, process::ExitCode};

use flags::{Action, Flags};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).peekable();
    // Before anything else: a launcher is a fresh process and must stay one.
    if args.peek().is_some_and(|a| a == runtime_core::launcher::ACTION) {
        runtime_core::launcher::child::main();
    }
    if args.next_if(|a| a == runtime_core::stdio::gated::ACTION).is_some() {
        runtime_core::stdio::gated::main(args);
    }
    let result = Flags::parse(args).and_then(|flags| match flags.action {
        Action::Start => start::run(&flags),
        Action::Delete => delete::run(&flags),
        Action::Daemon => daemon::run(&flags),
        Action::Gc => gc::run(&flags),
        Action::Info => info::run(),
        Action::Version => info::version(),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // The one place where an error of an action is printed: containerd shows it to the user (`start`), or
            // logs it (`delete`).
            writeln!(std::io::stderr(), "{}", e.chain()).ok();
            ExitCode::FAILURE
        }
    }
}
