//! `urunc version`: what is installed here.
//!
//! Owns nothing; fails only when stdout does.

use std::io::stdout;

use serde::Serialize;

use crate::{error::Error, print};

/// What `urunc version` takes.
#[derive(clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Version {
    version: &'static str,
}

impl Args {
    /// Prints the version.
    pub fn run(self) -> Result<(), Error> {
        let version = env!("CARGO_PKG_VERSION");
        match self.json {
            true => print::json(&mut stdout(), &Version { version }),
            false => print::text(&mut stdout(), &format!("urunc {version}\n")),
        }
    }
}
