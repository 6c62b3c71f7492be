//! The JSON documents of an image: config, manifest, the layout's index and docker's `manifest.json`.
//!
//! Pure. Types of our own rather than maps, so that the order of the fields, hence every digest, is fixed here. Two
//! indices describe the same blobs: containerd reads `index.json`, docker without the containerd image store
//! `manifest.json`.

use serde::Serialize;

use super::{archive::Measure, contract::Keys, tag::Tag};
use crate::error::Error;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The contents of `oci-layout`.
pub const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// What the documents say.
pub struct Image<'a> {
    /// The image's name.
    pub tag: &'a Tag,
    /// When it was made, RFC 3339.
    pub created: &'a str,
    /// The contract's keys.
    pub keys: &'a Keys,
    /// `KEY=VALUE`.
    pub env: &'a [String],
    /// The guest's program and its arguments.
    pub command: &'a [String],
    /// Digest and size of the layer.
    pub layer: &'a (String, u64),
}

/// A document that is a blob of the image.
pub struct Blob {
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// All documents of an image.
pub struct Documents {
    /// The config.
    pub config: Blob,
    /// The manifest.
    pub manifest: Blob,
    /// `index.json`.
    pub index: Vec<u8>,
    /// `manifest.json`.
    pub docker: Vec<u8>,
}

impl Image<'_> {
    /// Writes the documents.
    pub fn documents(&self) -> Result<Documents, Error> {
        let config = blob(&self.config())?;
        let manifest = blob(&Manifest {
            schema_version: 2,
            media_type: MANIFEST,
            config: Descriptor::of(CONFIG, &config),
            layers: [Descriptor { media_type: LAYER, digest: &self.layer.0, size: self.layer.1 }],
            annotations: self.keys,
        })?;
        let index = Index {
            schema_version: 2,
            media_type: INDEX,
            manifests: [Named {
                descriptor: Descriptor::of(MANIFEST, &manifest),
                platform: PLATFORM,
                annotations: Names { name: self.tag.name(), tag: self.tag.tag() },
            }],
        };
        let docker = [DockerImage {
            config: blob_path(&config.digest),
            repo_tags: [self.tag.name()],
            layers: [blob_path(&self.layer.0)],
        }];
        Ok(Documents { index: json(&index)?, docker: json(&docker)?, config, manifest })
    }

    /// The first word is the Entrypoint, the rest is Cmd: extra arguments of `docker run` and `nerdctl run`, and `args`
    /// of a pod, replace Cmd alone, and the first word is what must survive them - the init inside a Linux guest's
    /// initrd, the name of a unikernel's program. `ctr run` replaces both (seen with 1.6 and 2.3): after the id comes
    /// the whole command or nothing.
    fn config(&self) -> Config<'_> {
        let (entrypoint, cmd) = self.command.split_at(self.command.len().min(1));
        Config {
            created: self.created,
            platform: PLATFORM,
            config: Process { env: self.env, entrypoint, cmd, labels: self.keys },
            rootfs: RootFs { kind: "layers", diff_ids: [&self.layer.0] },
            history: [History { created: self.created, created_by: "urunc image build" }],
        }
    }
}

/// Where a blob stands in the archive.
pub fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|source| Error::Json { source })
}

fn blob<T: Serialize>(value: &T) -> Result<Blob, Error> {
    let bytes = json(value)?;
    Ok(Blob { digest: Measure::of(&bytes).0, bytes })
}

#[derive(Serialize)]
struct Platform {
    architecture: &'static str,
    os: &'static str,
}

const PLATFORM: Platform = Platform { architecture: "amd64", os: "linux" };

#[derive(Serialize)]
struct Config<'a> {
    created: &'a str,
    #[serde(flatten)]
    platform: Platform,
    config: Process<'a>,
    rootfs: RootFs<'a>,
    history: [History<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Process<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    env: &'a [String],
    entrypoint: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    cmd: &'a [String],
    labels: &'a Keys,
}

#[derive(Serialize)]
struct RootFs<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: [&'a str; 1],
}

#[derive(Serialize)]
struct History<'a> {
    created: &'a str,
    created_by: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: &'static str,
    digest: &'a str,
    size: u64,
}

impl<'a> Descriptor<'a> {
    fn of(media_type: &'static str, blob: &'a Blob) -> Self {
        Self { media_type, digest: &blob.digest, size: blob.bytes.len() as u64 }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: &'static str,
    config: Descriptor<'a>,
    layers: [Descriptor<'a>; 1],
    annotations: &'a Keys,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: &'static str,
    manifests: [Named<'a>; 1],
}

#[derive(Serialize)]
struct Named<'a> {
    #[serde(flatten)]
    descriptor: Descriptor<'a>,
    platform: Platform,
    annotations: Names<'a>,
}

/// containerd takes the whole name from its own key; the OCI key holds the tag alone, as in the archives of containerd
/// and docker themselves.
#[derive(Serialize)]
struct Names<'a> {
    #[serde(rename = "io.containerd.image.name")]
    name: String,
    #[serde(rename = "org.opencontainers.image.ref.name")]
    tag: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: [String; 1],
    layers: [String; 1],
}
