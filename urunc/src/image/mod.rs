//! `urunc image`: container images of unikernels and microVMs.
//!
//! `build` turns a kernel, an initrd and a command into an OCI archive, without a daemon or a registry. This file owns
//! the command line and the report; [`inspect`] tells what an image would run, from the documents that [`layout`] reads out of
//! [`files`], by [`blob`] and its digest, and the [`root`] file system that the layers' [`tree`] is;
//! [`build`] the work, [`contract`] and [`tag`] what may be asked for, [`layer`],
//! [`oci`] and [`archive`] the bytes, [`input`] the files that go in. Whatever fails, no output file appears and
//! an existing one stays as it was.

mod archive;
mod blob;
mod build;
mod contract;
mod files;
mod input;
mod inspect;
mod layer;
mod layout;
mod oci;
mod root;
mod tag;
mod tree;

use std::{
    io::{Write, stderr, stdout},
    path::PathBuf,
};

use crate::{error::Error, output, print};
use build::{Report, Request};

/// What `urunc image` can do.
#[derive(clap::Subcommand)]
pub enum Verb {
    /// Build an image archive that `ctr images import` and `docker load` take
    Build(Box<BuildArgs>),
    /// Tell what an image would run here, and why not if not
    Inspect(inspect::Args),
}

impl Verb {
    /// Does the work.
    pub fn run(self) -> Result<u8, Error> {
        match self {
            Self::Build(args) => args.run().map(|()| crate::SUCCESS),
            Self::Inspect(args) => args.run(),
        }
    }

    /// The exit status when the work fails.
    pub fn failure(&self) -> u8 {
        match self {
            Self::Build(_) => crate::FAILURE,
            Self::Inspect(_) => inspect::UNKNOWN,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  urunc image build --tag busybox --type linux --kernel vmlinuz --initrd initrd.img -o busybox.tar
  urunc image build --tag hello:1 --type unikraft --kernel hello_qemu-x86_64 | ctr images import -

The same inputs give the same bytes. The time of creation is SOURCE_DATE_EPOCH, else 1970-01-01.";

/// What `urunc image build` takes.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct BuildArgs {
    /// Name of the image; completed as docker does
    #[arg(long, short, value_name = "NAME[:TAG]")]
    tag: String,
    /// Kind of guest: linux or unikraft
    #[arg(long = "type", value_name = "TYPE")]
    kind: String,
    /// Kernel: a Linux bzImage or an ELF file
    #[arg(long, value_name = "FILE")]
    kernel: PathBuf,
    /// Initial RAM disk
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// Monitor that runs the guest
    #[arg(long, value_name = "NAME", default_value = "qemu")]
    hypervisor: String,
    /// Further com.urunc.unikernel.* annotation (repeatable)
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    annotations: Vec<String>,
    /// Environment variable of the image (repeatable)
    #[arg(long, short, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Where to write the archive; - is standard output
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Report as JSON (on stderr when the archive goes to stdout)
    #[arg(long)]
    json: bool,
    /// Program and arguments: Entrypoint and Cmd [default: /init (linux), unikernel (unikraft)]
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl BuildArgs {
    fn run(self) -> Result<(), Error> {
        let (json, to_stdout) = (self.json, output::is_stdout(&self.output));
        let report = build::build(&Request::check(self, std::env::var_os("SOURCE_DATE_EPOCH"))?)?;
        // Where JSON goes to stderr, it is in the JSON.
        if let (Some(why), false) = (&report.refused, json && to_stdout) {
            let warning =
                format!("urunc: warning: the image is right, but no guest of it starts today: {why}");
            print::text(&mut stderr(), &(print::plain(&warning) + "\n"))?;
        }
        let to: &mut dyn Write = if to_stdout { &mut stderr() } else { &mut stdout() };
        if json { print::json(to, &report) } else { print::text(to, &table(&report)) }
    }
}

fn table(report: &Report) -> String {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    print::columns(&[
        row("IMAGE", report.image.clone()),
        row("MANIFEST", report.manifest.clone()),
        row("CONFIG", report.config.clone()),
        row("LAYER", report.layer.clone()),
        row("ARCHIVE", format!("{} ({} bytes)", report.output, report.bytes)),
    ])
}
