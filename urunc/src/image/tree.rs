//! An image's root file system as its layers tell it, in memory: names, kinds, and where each file's bytes are.
//!
//! No layer is unpacked. Names are resolved as if the image were the root, so that none leads out of it; what is read of
//! a file goes to one without a name.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Seek, Write},
    path::{Component, Path, PathBuf},
};

use tar::EntryType;

use super::{
    archive::Measure,
    files::{MOST, MOST_ENTRIES, Part, describe_entry, too_large},
};

/// How many links may lead to one another, as in Linux.
const MOST_LINKS: usize = 40;
/// The longest path, as in Linux.
const MOST_PATH: usize = 4096;

/// What a name is.
#[derive(Clone)]
pub enum Node {
    /// A folder.
    Folder,
    /// A symbolic link.
    Link(PathBuf),
    /// A regular file: the entry of that layer.
    File { layer: usize, entry: usize },
    /// What no guest boots from: a FIFO, a device.
    Other(&'static str),
}

/// The root file system.
#[derive(Default)]
pub struct Tree {
    layers: Vec<Part>,
    /// By real path, which no link is on. Every folder above is there, too. With the layer that it is of.
    nodes: BTreeMap<PathBuf, (usize, Node)>,
    bytes: u64,
}

impl Tree {
    /// Puts a layer on top; the digest of its tar stream, which an image's config calls its diff id.
    pub fn add(&mut self, part: Part) -> io::Result<String> {
        let layer = self.layers.len();
        let mut archive = tar::Archive::new(Measured { from: part.plain()?, measure: Measure::default() });
        for (number, entry) in archive.entries()?.enumerate() {
            let entry = entry?;
            self.bytes = self.bytes.saturating_add(entry.size());
            if self.bytes > MOST {
                return Err(too_large());
            }
            if self.nodes.len() > MOST_ENTRIES {
                return Err(io::Error::other("it has too many files"));
            }
            let path = entry.path()?;
            let bad = |problem: &str| io::Error::other(format!("{}: {problem}", path.display()));
            // What would lead outside is left out; the root itself is there.
            let leads_out = path.components().any(|c| c == Component::ParentDir);
            let (Some(name), Some(parent), false) = (path.file_name(), path.parent(), leads_out) else {
                continue;
            };
            if path.as_os_str().len() > MOST_PATH {
                return Err(io::Error::other("a path in it is longer than any that Linux takes"));
            }
            let parent = self.folder(layer, parent).map_err(bad)?;
            if self.take_away(layer, &parent, name) {
                continue;
            }
            let link = entry.link_name()?.map(PathBuf::from).unwrap_or_default();
            let node = match entry.header().entry_type() {
                EntryType::Directory => Node::Folder,
                EntryType::Symlink => Node::Link(link),
                EntryType::Link => {
                    self.linked(&link).ok_or_else(|| bad("a hard link to what is not there"))?
                }
                EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                    Node::File { layer, entry: number }
                }
                kind => Node::Other(describe_entry(kind)),
            };
            let path = parent.join(name);
            if !matches!((&node, self.get(&path)), (Node::Folder, Some(Node::Folder))) {
                self.remove(&path, usize::MAX);
            }
            self.nodes.insert(path, (layer, node));
        }
        self.layers.push(part);
        // The digest is of what follows the last entry, too.
        let mut stream = archive.into_inner();
        io::copy(&mut stream, &mut io::sink())?;
        match stream.measure.finish() {
            (_, MOST..) => Err(too_large()),
            (digest, _) => Ok(digest),
        }
    }

    /// What is at a real path.
    pub fn get(&self, path: &Path) -> Option<&Node> {
        self.nodes.get(path).map(|(_, node)| node)
    }

    /// The real paths that lead to `path`, each after those above it.
    pub fn way(&self, path: &Path) -> Vec<PathBuf> {
        self.resolve(path, true).unwrap_or_default().0
    }

    /// The bytes of a file, in one without a name.
    pub fn read(&self, layer: usize, entry: usize) -> io::Result<File> {
        let part = self.layers.get(layer).ok_or(io::ErrorKind::NotFound)?;
        let mut archive = tar::Archive::new(part.plain()?);
        let mut entry = archive.entries()?.nth(entry).ok_or(io::ErrorKind::NotFound)??;
        let mut file = tempfile::tempfile()?;
        io::copy(&mut entry, &mut file)?;
        file.rewind()?;
        Ok(file)
    }

    /// The real path of a folder that a layer has something in; it is made where it is not.
    fn folder(&mut self, layer: usize, path: &Path) -> Result<PathBuf, &'static str> {
        let (way, end) = self.resolve(path, true).ok_or("too many links are on its way")?;
        for path in &way {
            if path.as_os_str().len() > MOST_PATH {
                return Err("its path is longer than any that Linux takes");
            }
            match self.nodes.get_mut(path) {
                Some((of, Node::Folder)) => *of = layer,
                // It leads to a path that comes later.
                Some((_, Node::Link(_))) => {}
                Some(_) => return Err("a file is where its folder should be"),
                None => {
                    self.nodes.insert(path.clone(), (layer, Node::Folder));
                }
            }
        }
        Ok(end)
    }

    /// What a hard link is one more name of.
    fn linked(&self, link: &Path) -> Option<Node> {
        let (_, end) = self.resolve(link, false)?;
        self.get(&end).filter(|node| !matches!(node, Node::Folder)).cloned()
    }

    /// Follows a path from the root: all real paths that it touches, and the one where it ends. `None`: there are too many links.
    fn resolve(&self, path: &Path, follow_last: bool) -> Option<(Vec<PathBuf>, PathBuf)> {
        let (mut way, mut at, mut links) = (Vec::new(), PathBuf::new(), 0);
        let mut left: Vec<OsString> = reversed(path);
        while let Some(name) = left.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            way.push(next.clone());
            match self.get(&next) {
                Some(Node::Link(to)) if follow_last || !left.is_empty() => {
                    links += 1;
                    if links > MOST_LINKS {
                        return None;
                    }
                    if to.has_root() {
                        at = PathBuf::new();
                    }
                    left.extend(reversed(to));
                }
                _ => at = next,
            }
        }
        Some((way, at))
    }

    /// Whether the entry is a whiteout; then what it names is gone.
    fn take_away(&mut self, layer: usize, parent: &Path, name: &OsStr) -> bool {
        let Some(name) = name.to_str().and_then(|name| name.strip_prefix(".wh.")) else { return false };
        match name {
            // All that is from below.
            ".wh..opq" => self.remove(parent, layer),
            "" | "." | ".." => {}
            name => self.remove(&parent.join(name), usize::MAX),
        }
        true
    }

    /// What is at the end of a path, if there is anything.
    pub fn find(&self, path: &Path) -> Option<&Node> {
        self.resolve(path, true).and_then(|(_, end)| self.get(&end))
    }

    /// Removes a path, and all below it, that are of layers below `layer`.
    fn remove(&mut self, path: &Path, layer: usize) {
        let below = self.nodes.range(path.to_owned()..).take_while(|(at, _)| at.starts_with(path));
        let gone: Vec<PathBuf> = below.filter(|(_, (of, _))| *of < layer).map(|(at, _)| at.clone()).collect();
        for path in gone {
            self.nodes.remove(&path);
        }
    }
}

/// A stream that is measured as it is read.
struct Measured {
    from: Box<dyn Read>,
    measure: Measure,
}

impl Read for Measured {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.measure.write_all(&buffer[..n])?;
        Ok(n)
    }
}

/// A path's names, the first one last.
fn reversed(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    let mut names: Vec<OsString> = names.collect();
    names.reverse();
    names
}
