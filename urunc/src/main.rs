//! `urunc`, the operator's command: builds images and looks at what guests left on the host.
//!
//! One verb per file; this one only parses, dispatches and turns the outcome into an exit status. Owns nothing. A
//! failure is printed once, on stderr, as `urunc: ` and the chain of causes: status 2 when the command line is at
//! fault, 1 when the work failed (2 where 1 is an answer).

mod config;
mod doctor;
mod error;
mod find;
mod gc;
mod image;
mod inspect;
mod leakcheck;
mod list;
mod output;
mod print;
mod version;

use std::{
    error::Error as _,
    io::{Write, stderr},
    process::ExitCode,
};

use clap::{Parser, Subcommand, error::ErrorKind};

use error::Error;

/// Exit status of a command that did its work and has nothing bad to tell.
const SUCCESS: u8 = 0;
/// Exit status of a command whose work failed.
const FAILURE: u8 = 1;
/// Exit status of a command that was called wrongly.
const USAGE: u8 = 2;

/// The operator's command for unikernels and microVMs that run as containers
#[derive(Parser)]
#[command(name = "urunc", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List the containers that are recorded on this host
    List(list::Args),
    /// Tell all that is known of one container, and what is true of it now
    Inspect(inspect::Args),
    /// Tell what this host lacks to run guests, and how to mend it
    Doctor(doctor::Args),
    /// Clean up what shims that died left behind
    Gc(gc::Args),
    /// Tell what the configuration is, and who said so
    #[command(subcommand, arg_required_else_help = true)]
    Config(config::Verb),
    /// Make container images of unikernels and microVMs
    #[command(subcommand, arg_required_else_help = true)]
    Image(image::Verb),
    /// Tell what was left behind on this host since an earlier moment
    Leakcheck(leakcheck::Args),
    /// Print the version
    Version(version::Args),
}

impl Verb {
    /// Does the work and gives the exit status.
    fn run(self) -> Result<u8, Error> {
        match self {
            Self::List(args) => args.run().map(|()| SUCCESS),
            Self::Inspect(args) => args.run().map(|()| SUCCESS),
            Self::Doctor(args) => args.run(),
            Self::Gc(args) => args.run(),
            Self::Config(verb) => verb.run().map(|()| SUCCESS),
            Self::Image(verb) => verb.run(),
            Self::Leakcheck(args) => args.run(),
            Self::Version(args) => args.run().map(|()| SUCCESS),
        }
    }

    /// The exit status when the work fails. Where 1 is an answer, a failure is 2, as with `diff` and `grep`.
    fn failure(&self) -> u8 {
        match self {
            Self::Leakcheck(_) => leakcheck::UNKNOWN,
            Self::Gc(_) => gc::UNKNOWN,
            Self::Doctor(_) => doctor::UNKNOWN,
            Self::Image(verb) => verb.failure(),
            Self::Config(_) | Self::Inspect(_) | Self::List(_) | Self::Version(_) => FAILURE,
        }
    }
}

fn main() -> ExitCode {
    ExitCode::from(match Cli::try_parse() {
        Ok(cli) => {
            let failure = cli.verb.failure();
            cli.verb.run().unwrap_or_else(|error| {
                complain(&error);
                if error.is_usage() { USAGE } else { failure }
            })
        }
        Err(error) => explain(&error),
    })
}

/// Prints an error with its chain of causes. Some libraries repeat the cause in the message; we do not.
fn complain(error: &Error) {
    let mut line = format!("urunc: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    // Nobody is left to be told that stderr is closed.
    let _ = writeln!(stderr(), "{}", print::plain(&line));
}

/// Prints what clap has to say: help and version are its "errors" too.
fn explain(error: &clap::Error) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match error.print() {
            Ok(()) => SUCCESS,
            Err(_) => FAILURE,
        },
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            USAGE
        }
        _ => {
            let text = error.to_string();
            let _ = write!(stderr(), "urunc: {}", text.strip_prefix("error: ").unwrap_or(&text));
            USAGE
        }
    }
}
