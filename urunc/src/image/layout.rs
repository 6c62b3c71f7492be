//! An image as files: an archive is laid out in a folder of its own, which goes with the value; of a folder that is an
//! OCI layout the layers are, so that what is in them can be looked at. Anything else is a root file system already.
//!
//! Images are hostile: nothing is written outside of the folder, devices and FIFOs are left out, and there is an end to
//! what is unpacked.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek},
    path::{Path, PathBuf},
};

use flate2::read::MultiGzDecoder;
use serde_json::Value;
use tempfile::TempDir;

use crate::error::Error;

/// The most that is unpacked, in bytes.
const MOST: u64 = 8 << 30;
/// The most that a document of an image is, in bytes.
const MOST_JSON: u64 = 4 << 20;
/// How many indices may lie in one another.
const DEEPEST: usize = 4;

/// An image's root file system and its documents.
pub struct Image {
    /// Where its root file system is.
    pub root: PathBuf,
    /// Its name, as it says itself.
    pub name: Option<String>,
    /// Entrypoint and Cmd.
    pub command: Vec<String>,
    /// The contract's keys in the manifest's annotations and the config's labels.
    pub annotations: Vec<(String, String)>,
    _folder: Option<TempDir>,
}

impl Image {
    /// Opens an archive or a folder.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let open = |source| Error::Open { option: "IMAGE", path: path.to_owned(), source };
        let is_folder = fs::metadata(path).map_err(open)?.is_dir();
        let is_layout =
            |folder: &Path| folder.join("index.json").is_file() || folder.join("manifest.json").is_file();
        if is_folder && !is_layout(path) {
            let (name, command, annotations) = (None, vec![], vec![]);
            return Ok(Self { root: path.to_owned(), name, command, annotations, _folder: None });
        }
        let folder = TempDir::with_prefix("urunc-image-").map_err(open)?;
        let bad = |problem: String| Error::NoImage { path: path.to_owned(), problem };
        let mut left = MOST;
        let layout = match is_folder {
            true => path.to_owned(),
            false => {
                let layout = folder.path().join("layout");
                let archive = File::open(path).map_err(open)?;
                unpack(archive, &layout, &mut left, false).map_err(|e| bad(e.to_string()))?;
                layout
            }
        };
        if !is_layout(&layout) {
            return Err(bad("neither index.json nor manifest.json is in it".to_owned()));
        }
        let documents = Documents::read(&layout).map_err(bad)?;
        let root = folder.path().join("root");
        fs::create_dir(&root).map_err(open)?;
        for layer in &documents.layers {
            let layer = File::open(layer).map_err(|e| bad(format!("layer {}: {e}", layer.display())))?;
            unpack(layer, &root, &mut left, true).map_err(|e| bad(format!("a layer: {e}")))?;
        }
        let Documents { name, command, annotations, .. } = documents;
        Ok(Self { root, name, command, annotations, _folder: Some(folder) })
    }
}

/// What the documents of a layout say.
#[derive(Default)]
struct Documents {
    name: Option<String>,
    command: Vec<String>,
    annotations: Vec<(String, String)>,
    layers: Vec<PathBuf>,
}

impl Documents {
    fn read(layout: &Path) -> Result<Self, String> {
        let mut documents = Self::default();
        let config = match json(&layout.join("index.json")) {
            Ok(index) => {
                let manifest = documents.manifest(layout, &index, DEEPEST)?;
                documents.take_keys(&manifest["annotations"]);
                for layer in manifest["layers"].as_array().into_iter().flatten() {
                    documents.layers.push(blob(layout, layer)?);
                }
                blob(layout, &manifest["config"])?
            }
            // As `docker save` wrote it before it knew OCI.
            Err(_) => {
                let all = json(&layout.join("manifest.json"))?;
                let image = &all[0];
                documents.name = image["RepoTags"][0].as_str().map(str::to_owned);
                for layer in image["Layers"].as_array().into_iter().flatten() {
                    documents.layers.push(inside(layout, layer.as_str().unwrap_or_default())?);
                }
                inside(layout, image["Config"].as_str().unwrap_or_default())?
            }
        };
        let config = json(&config)?;
        let words = |key: &str| {
            let words = config["config"][key].as_array().into_iter().flatten();
            words.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        };
        documents.command = [words("Entrypoint"), words("Cmd")].concat();
        documents.take_keys(&config["config"]["Labels"]);
        Ok(documents)
    }

    /// The manifest for this machine's kind.
    fn manifest(&mut self, layout: &Path, index: &Value, depth: usize) -> Result<Value, String> {
        let manifests = index["manifests"].as_array().ok_or("its index lists no manifests")?;
        let fits = |m: &&Value| {
            let platform = &m["platform"];
            platform.is_null() || (platform["architecture"] == "amd64" && platform["os"] == "linux")
        };
        let chosen = manifests.iter().find(fits).ok_or("it has no manifest for linux/amd64")?;
        let name = chosen["annotations"]["io.containerd.image.name"].as_str().map(str::to_owned);
        self.name = self.name.take().or(name);
        let document = json(&blob(layout, chosen)?)?;
        match document["manifests"].is_array() {
            true if depth == 0 => Err("its indices lie too deep in one another".to_owned()),
            true => self.manifest(layout, &document, depth - 1),
            false => Ok(document),
        }
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

/// The file of a blob.
fn blob(layout: &Path, descriptor: &Value) -> Result<PathBuf, String> {
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    let is_hex = |hex: &str| !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit());
    match digest.split_once(':') {
        Some((algorithm, hex)) if algorithm.bytes().all(|b| b.is_ascii_alphanumeric()) && is_hex(hex) => {
            Ok(layout.join("blobs").join(algorithm).join(hex))
        }
        _ => Err(format!("{digest:?} is no digest")),
    }
}

fn inside(layout: &Path, name: &str) -> Result<PathBuf, String> {
    let is_plain = !name.is_empty()
        && Path::new(name).components().all(|c| matches!(c, std::path::Component::Normal(_)));
    if is_plain { Ok(layout.join(name)) } else { Err(format!("{name:?} is no file of it")) }
}

fn json(path: &Path) -> Result<Value, String> {
    let fail = |e: &dyn std::fmt::Display| format!("{}: {e}", path.file_name().unwrap_or_default().display());
    // A link would lead outside: none of ours is one.
    if !fs::symlink_metadata(path).map_err(|e| fail(&e))?.is_file() {
        return Err(fail(&"is no regular file"));
    }
    let mut text = Vec::new();
    File::open(path).and_then(|f| f.take(MOST_JSON).read_to_end(&mut text)).map_err(|e| fail(&e))?;
    serde_json::from_slice(&text).map_err(|e| fail(&e))
}

/// Unpacks a tar file, plain or gzip, into a folder: files, folders and links of either kind, without owners. Of a
/// layer, whiteouts take away what lies below.
fn unpack(mut file: File, folder: &Path, left: &mut u64, is_layer: bool) -> io::Result<()> {
    let mut magic = [0u8; 4];
    let n = file.read(&mut magic)?;
    file.rewind()?;
    let reader: Box<dyn Read> = match &magic[..n] {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(BufReader::new(file))),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            return Err(io::Error::other("zstd is not read here; use gzip or a plain tar file"));
        }
        _ => Box::new(BufReader::new(file)),
    };
    fs::create_dir_all(folder)?;
    let mut archive = tar::Archive::new(reader);
    archive.set_preserve_permissions(false);
    archive.set_preserve_mtime(false);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if !(kind.is_file() || kind.is_dir() || kind.is_symlink() || kind.is_hard_link()) {
            continue;
        }
        let size = entry.size();
        *left = left.checked_sub(size).ok_or_else(|| io::Error::other("it is larger than 8 GiB"))?;
        if is_layer && take_away(folder, &entry.path()?)? {
            continue;
        }
        // Refuses by itself what would lead outside.
        entry.unpack_in(folder)?;
    }
    Ok(())
}

/// Whether the entry is a whiteout; then what it names is gone.
fn take_away(folder: &Path, path: &Path) -> io::Result<bool> {
    let Some(name) = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(".wh.")) else {
        return Ok(false);
    };
    let parent = folder.join(path.parent().unwrap_or(Path::new("")));
    // A link in the way may lead anywhere.
    if !parent.canonicalize().is_ok_and(|p| folder.canonicalize().is_ok_and(|folder| p.starts_with(folder))) {
        return Ok(true);
    }
    let remove = |path: PathBuf| match fs::symlink_metadata(&path) {
        Ok(m) if m.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    if name == ".wh..opq" {
        fs::read_dir(&parent)?.flatten().try_for_each(|entry| remove(entry.path()))?;
    } else if !matches!(name, "" | "." | "..") {
        remove(parent.join(name))?;
    }
    Ok(true)
}
