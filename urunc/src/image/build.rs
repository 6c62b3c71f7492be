//! `urunc image build`: checks what is asked for, then writes the archive in one go.
//!
//! [`Request::check`] is everything that the command line alone decides; [`build`] opens the inputs, measures the
//! layer, and writes. The layer is checked against its digest while it is written: an input that changed in between
//! is an error, never a broken image.

use std::{ffi::OsString, path::PathBuf};

use runtime_core::preview::keys_of_text;
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use vmm_api::GuestKind;

use super::{
    BuildArgs,
    archive::{Archive, Measure, Tee},
    contract::{self, Keys},
    input::Input,
    layer::Layer,
    oci::{self, Blob, Image, blob_path},
    tag::Tag,
};
use crate::{error::Error, output::Output};

/// What is to be built, checked.
pub struct Request {
    tag: Tag,
    keys: Keys,
    kernel: PathBuf,
    initrd: Option<PathBuf>,
    env: Vec<String>,
    command: Vec<String>,
    created: String,
    output: PathBuf,
}

/// What was built.
#[derive(Serialize)]
pub struct Report {
    /// The image's complete name.
    pub image: String,
    /// The manifest's digest.
    pub manifest: String,
    /// The config's digest, docker's image id.
    pub config: String,
    /// The layer's digest.
    pub layer: String,
    /// The archive, `-` for standard output.
    pub output: String,
    /// The archive's size.
    pub bytes: u64,
    /// Why the runtime of today would refuse the image, which is right all the same; nothing: it would not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl Request {
    /// Checks the command line. `epoch` is SOURCE_DATE_EPOCH, if it is set.
    pub fn check(args: BuildArgs, epoch: Option<OsString>) -> Result<Self, Error> {
        let tag = Tag::parse(&args.tag)?;
        let kind = contract::kind(&args.kind)?;
        if let (GuestKind::Unikraft, Some(path)) = (kind, &args.initrd) {
            let (option, value) = ("--initrd".to_owned(), path.display().to_string());
            return Err(Error::Invalid {
                option,
                value,
                wanted: "left out: a unikraft guest takes a kernel alone",
            });
        }
        let keys = contract::keys(kind, &args.hypervisor, args.initrd.is_some(), &args.annotations)?;
        let mut names = Vec::new();
        for variable in &args.env {
            let (name, _) = contract::pair("--env", variable)?;
            if names.contains(&name) {
                return Err(Error::Duplicate { option: "--env", key: name.to_owned() });
            }
            names.push(name);
        }
        let mut command = args.command;
        if command.is_empty() {
            command.push(contract::default_command(kind).to_owned());
        }
        command.iter().try_for_each(|word| contract::one_line("COMMAND", word))?;
        if command.first().is_some_and(String::is_empty) {
            let wanted = "a program: its first word may not be empty";
            return Err(Error::Invalid { option: "COMMAND".to_owned(), value: String::new(), wanted });
        }
        let created = created(epoch)?;
        let BuildArgs { kernel, initrd, env, output, .. } = args;
        Ok(Self { tag, keys, kernel, initrd, env, command, created, output })
    }
}

/// Builds the archive.
pub fn build(request: &Request) -> Result<Report, Error> {
    let layer = Layer {
        kernel: Input::kernel(&request.kernel)?,
        initrd: request.initrd.as_deref().map(|path| Input::open("--initrd", path)).transpose()?,
        urunc_json: contract::urunc_json(&request.keys)?,
    };
    let mut output = Output::create("--output", &request.output)?;
    let measured = layer.measure()?;
    let documents = Image {
        tag: &request.tag,
        created: &request.created,
        keys: &request.keys,
        env: &request.env,
        command: &request.command,
        layer: &measured,
    }
    .documents()?;

    let mut archive = Archive::new(&mut output);
    archive.bytes("oci-layout", oci::LAYOUT)?;
    archive.bytes("index.json", &documents.index)?;
    archive.bytes("manifest.json", &documents.docker)?;
    archive.dir("blobs/")?;
    archive.dir("blobs/sha256/")?;
    for Blob { digest, bytes } in [&documents.manifest, &documents.config] {
        archive.bytes(&blob_path(digest), bytes)?;
    }
    archive.entry(&blob_path(&measured.0), measured.1, |to| {
        let mut tee = Tee { measure: Measure::default(), to };
        layer.write(&mut tee)?;
        if tee.measure.finish() == measured { Ok(()) } else { Err(Error::Changed) }
    })?;
    archive.finish()?;
    let bytes = output.written();
    output.commit()?;
    Ok(Report {
        image: request.tag.name(),
        manifest: documents.manifest.digest,
        config: documents.config.digest,
        layer: measured.0,
        output: request.output.display().to_string(),
        bytes,
        refused: keys_of_text(&layer.urunc_json).err().map(|e| e.chain()),
    })
}

/// The time of creation: SOURCE_DATE_EPOCH (reproducible-builds.org), else the epoch itself.
fn created(epoch: Option<OsString>) -> Result<String, Error> {
    let text = epoch.unwrap_or_else(|| "0".into());
    let seconds = text.to_str().and_then(|text| text.parse::<u32>().ok());
    seconds
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds.into()).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .ok_or_else(|| Error::Invalid {
            option: "SOURCE_DATE_EPOCH".to_owned(),
            value: text.to_string_lossy().into_owned(),
            wanted: "a number of seconds since 1970",
        })
}
