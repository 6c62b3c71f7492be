//! What an image says of itself: the documents of an archive, or of a folder that is an OCI layout, and the root file
//! system that its layers make. Any other folder is a root file system already.
//!
//! Images are hostile: all is read through [`Files`], which never leaves the image.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

use serde_json::Value;

use super::{blob::Blob, files::Files, root::Root, tree::Tree};
use crate::{error::Error, output::describe};

/// The most that a document of an image is, in bytes.
const MOST_JSON: u64 = 4 << 20;
/// How many indices may lie in one another.
const DEEPEST: usize = 4;

/// An image's root file system and its documents.
pub struct Image {
    /// Where its root file system is.
    pub root: Root,
    /// Its name, as it says itself.
    pub name: Option<String>,
    /// Entrypoint and Cmd.
    pub command: Vec<String>,
    /// The contract's keys in the manifest's annotations and the config's labels.
    pub annotations: Vec<(String, String)>,
    /// Why no containerd takes it in: fields that are missing, blobs and layers that are not what is said of them.
    pub refused: Vec<String>,
}

impl Image {
    /// Opens an archive or a folder.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let open = |source| Error::Open { option: "IMAGE", path: path.to_owned(), source };
        let kind = fs::metadata(path).map_err(open)?.file_type();
        let bad = |problem: String| Error::NoImage { path: path.to_owned(), problem };
        let files = if kind.is_dir() {
            let files = Files::folder(path).map_err(open)?;
            // A root file system may have files of any name; an OCI layout says that it is one.
            if !(files.has("oci-layout") && files.has("index.json")) {
                let root = Root::Folder(File::open(path).map_err(open)?);
                return Ok(Self { root, name: None, command: vec![], annotations: vec![], refused: vec![] });
            }
            files
        } else if kind.is_file() {
            Files::archive(File::open(path).map_err(open)?).map_err(|e| bad(e.to_string()))?
        } else {
            let wanted = "an archive, an OCI layout, or a root file system";
            let (path, found) = (path.to_owned(), describe(kind));
            return Err(Error::NotAFile { option: "IMAGE", path, found, wanted });
        };
        let documents = Documents::read(&files).map_err(bad)?;
        let Documents { name, command, annotations, layers, mut refused, diff_ids } = documents;
        let mut tree = Tree::default();
        // Of what is not what it says, nothing more is read.
        if refused.is_empty() {
            for (number, name) in layers.iter().enumerate() {
                let layer = files.open(name).map_err(bad)?;
                let found = tree.add(layer).map_err(|e| bad(format!("layer {name}: {e}")))?;
                let says = diff_ids.get(number).map_or("", String::as_str);
                if says != found {
                    let field = format!("rootfs.diff_ids[{number}]");
                    refused.push(format!("{field}: says {says:?}, and layer {name} is {found} unpacked"));
                }
            }
        }
        Ok(Self { root: Root::Layers(tree), name, command, annotations, refused })
    }
}

/// What the documents of a layout say.
#[derive(Default)]
struct Documents {
    name: Option<String>,
    command: Vec<String>,
    annotations: Vec<(String, String)>,
    layers: Vec<String>,
    /// The digests of the layers' tar streams, as many as there are layers.
    diff_ids: Vec<String>,
    refused: Vec<String>,
}

impl Documents {
    fn read(files: &Files) -> Result<Self, String> {
        let mut documents = Self::default();
        let config = if files.has("index.json") {
            let manifest = documents.manifest(files, &json(files, "index.json")?, DEEPEST)?;
            documents.take_keys(&manifest["annotations"]);
            for (number, layer) in manifest["layers"].as_array().into_iter().flatten().enumerate() {
                let layer = documents.blob(files, &format!("layers[{number}]"), layer)?;
                documents.layers.push(layer);
            }
            documents.blob(files, "config", &manifest["config"])?
        } else if files.has("manifest.json") {
            // As `docker save` wrote it before it knew OCI.
            let all = json(files, "manifest.json")?;
            let image = &all[0];
            documents.name = image["RepoTags"][0].as_str().map(str::to_owned);
            for layer in image["Layers"].as_array().ok_or("manifest.json: lists no layers")? {
                documents.layers.push(inside(layer)?);
            }
            inside(&image["Config"])?
        } else {
            return Err("neither index.json nor manifest.json is in it as a regular file".to_owned());
        };
        let name = config;
        let config = json(files, &name)?;
        match diff_ids(&config, documents.layers.len()) {
            Ok(ids) => documents.diff_ids = ids,
            Err(problem) => documents.refused.push(format!("{name}: {problem}")),
        }
        let words = |key: &str| {
            let words = config["config"][key].as_array().into_iter().flatten();
            words.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        };
        documents.command = [words("Entrypoint"), words("Cmd")].concat();
        documents.take_keys(&config["config"]["Labels"]);
        Ok(documents)
    }

    /// The manifest for this machine's kind.
    fn manifest(&mut self, files: &Files, index: &Value, depth: usize) -> Result<Value, String> {
        let manifests = index["manifests"].as_array().ok_or("its index lists no manifests")?;
        let fits = |m: &Value| {
            let platform = &m["platform"];
            platform.is_null() || (platform["architecture"] == "amd64" && platform["os"] == "linux")
        };
        let chosen = manifests.iter().enumerate().find(|(_, m)| fits(m));
        let (number, chosen) = chosen.ok_or("it has no manifest for linux/amd64")?;
        let name = chosen["annotations"]["io.containerd.image.name"].as_str().map(str::to_owned);
        self.name = self.name.take().or(name);
        let document = json(files, &self.blob(files, &format!("manifests[{number}]"), chosen)?)?;
        match document["manifests"].is_array() {
            true if depth == 0 => Err("its indices lie too deep in one another".to_owned()),
            true => self.manifest(files, &document, depth - 1),
            false => Ok(document),
        }
    }

    /// The name of a blob's file, after a look at what is there. `field` is its descriptor.
    fn blob(&mut self, files: &Files, field: &str, descriptor: &Value) -> Result<String, String> {
        let blob = Blob::of(field, descriptor)?;
        self.refused.extend(blob.differs(files)?);
        Ok(blob.name)
    }

    fn take_keys(&mut self, map: &Value) {
        for (key, value) in map.as_object().into_iter().flatten() {
            if let Some(value) = value.as_str().filter(|_| key.starts_with("com.urunc.unikernel.")) {
                self.annotations.push((key.clone(), value.to_owned()));
            }
        }
        self.annotations.sort();
        self.annotations.dedup();
    }
}

/// The digests that a config has for so many layers.
fn diff_ids(config: &Value, layers: usize) -> Result<Vec<String>, String> {
    if !config.is_object() {
        return Err("the image's config is no JSON object".to_owned());
    }
    let ids = config["rootfs"]["diff_ids"].as_array().ok_or("rootfs.diff_ids: is missing, or no list")?;
    match ids.len() == layers {
        true => Ok(ids.iter().map(|id| id.as_str().unwrap_or_default().to_owned()).collect()),
        false => Err(format!("rootfs.diff_ids: has {} digests, and the image {layers} layers", ids.len())),
    }
}

fn inside(name: &Value) -> Result<String, String> {
    let name = name.as_str().unwrap_or_default();
    let is_plain = !name.is_empty()
        && Path::new(name).components().all(|c| matches!(c, std::path::Component::Normal(_)));
    if is_plain { Ok(name.to_owned()) } else { Err(format!("{name:?} is no file of it")) }
}

fn json(files: &Files, name: &str) -> Result<Value, String> {
    let mut text = Vec::new();
    let fail = |e: &dyn std::fmt::Display| format!("{name}: {e}");
    files.open(name)?.take(MOST_JSON).read_to_end(&mut text).map_err(|e| fail(&e))?;
    serde_json::from_slice(&text).map_err(|e| fail(&e))
}
