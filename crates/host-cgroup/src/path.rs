//! The two names that a caller gives: where in the tree ([`CgroupsPath`]) and which leaf ([`LeafName`]).
//!
//! Both can only be made by their checks, also when they come back from a journal, so no other module has to fear
//! a `..`, an empty name, or the root.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, PathFault};

/// A place below a hierarchy's mount point: never the mount point itself, never above it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CgroupsPath(String);

impl CgroupsPath {
    /// Reads `/a/b/c`, or systemd's `slice:prefix:name`, which is translated to the path that systemd would use.
    ///
    /// A path without a leading slash and without colons also counts from the mount point.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refuse = |fault| Error::BadPath { text: text.to_owned(), fault };
        if text.chars().any(char::is_control) {
            return Err(refuse(PathFault::Control));
        }
        let systemd = !text.starts_with('/') && text.contains(':');
        let path = if systemd { scope_path(text).map_err(refuse)? } else { text.to_owned() };
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
        if parts.contains(&"..") {
            return Err(refuse(PathFault::DotDot));
        }
        if parts.is_empty() {
            return Err(refuse(PathFault::Root));
        }
        Ok(Self(parts.join("/")))
    }

    /// The path without a leading slash, to be joined to a mount point.
    pub fn relative(&self) -> &Path {
        Path::new(&self.0)
    }

    /// This path and every path above it, outermost first: `/a`, `/a/b`, `/a/b/c`.
    pub fn prefixes(&self) -> impl DoubleEndedIterator<Item = CgroupsPath> {
        let ends = self.0.match_indices('/').map(|(at, _)| at).chain([self.0.len()]);
        ends.map(|end| CgroupsPath(self.0[..end].to_owned())).collect::<Vec<_>>().into_iter()
    }
}

impl fmt::Display for CgroupsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0)
    }
}

impl TryFrom<String> for CgroupsPath {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        // What is in a journal was written with the slash: a colon in it is not systemd's.
        Self::parse(&format!("/{text}"))
    }
}

impl From<CgroupsPath> for String {
    fn from(path: CgroupsPath) -> Self {
        path.to_string()
    }
}

/// `slice:prefix:name` -> `<expanded slice>/<prefix>-<name>.scope`.
fn scope_path(text: &str) -> Result<String, PathFault> {
    let parts: Vec<&str> = text.split(':').collect();
    let [slice, prefix, name] = parts[..] else { return Err(PathFault::Systemd) };
    if name.is_empty() || prefix.contains('/') || name.contains('/') {
        return Err(PathFault::Systemd);
    }
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    Ok(format!("{}/{prefix}-{name}.scope", expand_slice(slice)?))
}

/// `a-b.slice` -> `a.slice/a-b.slice`: systemd's dashes are levels. `-.slice` is the root.
fn expand_slice(slice: &str) -> Result<String, PathFault> {
    let stem = slice.strip_suffix(".slice").ok_or(PathFault::Slice)?;
    if stem == "-" {
        return Ok(String::new());
    }
    if slice.contains('/') || stem.split('-').any(str::is_empty) {
        return Err(PathFault::Slice);
    }
    let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
    Ok(ends.map(|end| format!("{}.slice", &stem[..end])).collect::<Vec<_>>().join("/"))
}

/// The name of a leaf directory, `urunc-<txid>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LeafName(String);

impl LeafName {
    const PREFIX: &str = "urunc-";

    /// The leaf of a transaction. The id is letters, digits, `-` and `_`.
    pub fn of(txid: &str) -> Result<Self, Error> {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if txid.is_empty() || !txid.chars().all(good) {
            return Err(Error::BadLeaf { text: txid.to_owned() });
        }
        Ok(Self(format!("{}{txid}", Self::PREFIX)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LeafName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        // A damaged journal must not turn the removal of a leaf into the removal of the caller's own directory.
        match text.strip_prefix(Self::PREFIX) {
            Some(txid) => Self::of(txid),
            None => Err(Error::BadLeaf { text }),
        }
    }
}

impl From<LeafName> for String {
    fn from(name: LeafName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        CgroupsPath::parse(text).unwrap().to_string()
    }

    fn fault(text: &str) -> PathFault {
        match CgroupsPath::parse(text) {
            Err(Error::BadPath { fault, .. }) => fault,
            other => panic!("{text:?} gave {other:?}"),
        }
    }

    #[test]
    fn plain_paths() {
        assert_eq!(parsed("/a/b/id"), "/a/b/id");
        assert_eq!(parsed("a//b/./id/"), "/a/b/id");
        assert_eq!(parsed("/kubepods/cri:x:y"), "/kubepods/cri:x:y");
        assert_eq!(parsed("/a/..b"), "/a/..b");
    }

    #[test]
    fn systemd_paths() {
        assert_eq!(parsed("a.slice:cri:id"), "/a.slice/cri-id.scope");
        assert_eq!(parsed("a-b-c.slice:cri:id"), "/a.slice/a-b.slice/a-b-c.slice/cri-id.scope");
        assert_eq!(parsed(":cri:id"), "/system.slice/cri-id.scope");
        assert_eq!(parsed("-.slice:cri:id"), "/cri-id.scope");
    }

    #[test]
    fn refused() {
        for text in ["", "/", "///", "/.", "./"] {
            assert_eq!(fault(text), PathFault::Root, "{text:?}");
        }
        for text in ["..", "/a/../b", "/a/..", "../x"] {
            assert_eq!(fault(text), PathFault::DotDot, "{text:?}");
        }
        for text in ["/a\n", "/a\0b", "a.slice:b\n:c"] {
            assert_eq!(fault(text), PathFault::Control, "{text:?}");
        }
        for text in ["a:b", "a.slice:b:c:d", "a.slice:b:", "a.slice:b:c/../..", "a.slice:../..:c"] {
            assert_eq!(fault(text), PathFault::Systemd, "{text:?}");
        }
        for text in ["a:b:c", ".slice:b:c", "-a.slice:b:c", "a--b.slice:b:c", "a/b.slice:b:c", "..:b:c"] {
            assert_eq!(fault(text), PathFault::Slice, "{text:?}");
        }
    }

    #[test]
    fn prefixes_outermost_first() {
        let path = CgroupsPath::parse("/a/b/c").unwrap();
        let all: Vec<String> = path.prefixes().map(|p| p.to_string()).collect();
        assert_eq!(all, ["/a", "/a/b", "/a/b/c"]);
    }

    #[test]
    fn a_journal_cannot_smuggle_names() {
        assert!(serde_json::from_str::<CgroupsPath>("\"/a/../..\"").is_err());
        assert!(serde_json::from_str::<CgroupsPath>("\"/\"").is_err());
        for text in ["\"\"", "\"urunc-\"", "\"urunc-../x\"", "\"x\"", "\"urunc-a/b\""] {
            assert!(serde_json::from_str::<LeafName>(text).is_err(), "{text}");
        }
        let path = CgroupsPath::parse("/a/x:y:z").unwrap();
        let text = serde_json::to_string(&path).unwrap();
        assert_eq!(serde_json::from_str::<CgroupsPath>(&text).unwrap(), path);
    }
}
