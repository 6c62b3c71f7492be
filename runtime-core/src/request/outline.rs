//! What we have to know of a spec ourselves. An ordinary container's is the OCI runtime's to understand and to refuse: that
//! may be newer than we are, and pass over what it does not know, as runc does with capabilities.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer};

use super::{Namespace, NamespaceKind};
use crate::Error;

/// Those fields. `null` is as good as absent.
#[derive(Debug, Default, Deserialize)]
pub struct Outline {
    /// `annotations`.
    #[serde(default, deserialize_with = "or_none")]
    pub annotations: HashMap<String, String>,
    root: Option<Root>,
    process: Option<Process>,
    linux: Option<Linux>,
}

#[derive(Debug, Default, Deserialize)]
struct Root {
    path: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    oom_score_adj: Option<i32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    cgroups_path: Option<String>,
    namespaces: Option<Vec<OfKind>>,
}

#[derive(Debug, Default, Deserialize)]
struct OfKind {
    #[serde(rename = "type")]
    kind: Option<String>,
    path: Option<PathBuf>,
}

impl Outline {
    /// Reads it of a bundle's config.json.
    pub fn read(bundle: &Path) -> Result<Self, Error> {
        let path = bundle.join("config.json");
        let text = fs::read(&path).map_err(Error::file("read", &path))?;
        serde_json::from_slice(&text).map_err(|source| Error::Spec { path, source })
    }

    /// `root.path`.
    pub(super) fn root(&self) -> &Path {
        self.root.as_ref().and_then(|root| root.path.as_deref()).unwrap_or(Path::new("rootfs"))
    }

    /// `process.oomScoreAdj`.
    pub(super) fn oom_score_adj(&self) -> Option<i32> {
        self.process.as_ref()?.oom_score_adj
    }

    /// `linux.cgroupsPath`.
    pub(super) fn cgroups_path(&self) -> Option<&str> {
        self.linux.as_ref()?.cgroups_path.as_deref()
    }

    /// The namespaces that it joins, as far as we know their kinds.
    pub(super) fn joined(&self) -> Vec<Namespace> {
        let join = |(kind, path): (&str, Option<&Path>)| {
            let kind = match kind {
                "network" => NamespaceKind::Network,
                "ipc" => NamespaceKind::Ipc,
                "uts" => NamespaceKind::Uts,
                "cgroup" => NamespaceKind::Cgroup,
                "pid" => NamespaceKind::Pid,
                _ => return None,
            };
            Some(Namespace { kind, path: Some(path?.to_owned()) })
        };
        self.namespaces().filter_map(join).collect()
    }

    /// Whether a pid namespace is made for it.
    pub(super) fn has_own_pids(&self) -> bool {
        self.namespaces().any(|namespace| namespace == ("pid", None))
    }

    /// Their kinds, and the paths of those that are there already.
    fn namespaces(&self) -> impl Iterator<Item = (&str, Option<&Path>)> {
        let all = self.linux.iter().flat_map(|linux| linux.namespaces.iter().flatten());
        all.map(|namespace| {
            let path = namespace.path.as_deref().filter(|path| !path.as_os_str().is_empty());
            (namespace.kind.as_deref().unwrap_or_default(), path)
        })
    }
}

fn or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HashMap<String, String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn outline(spec: Value) -> serde_json::Result<Outline> {
        serde_json::from_value(spec)
    }

    #[test]
    fn what_is_not_ours_to_understand_is_passed_over() {
        let strange = outline(json!({
            "process": {"capabilities": {"bounding": ["CAP_NEW"]}, "oomScoreAdj": 7, "args": 3},
            "linux": {
                "cgroupsPath": "/a/b", "newer": [],
                "resources": {"hugepageLimits": [{"pageSize": "2MB", "limit": u64::MAX}]},
                "namespaces": [{"type": "pid"}, {"type": "ipc", "path": "/i"}, {"type": "newer", "path": "/n"}],
            },
            "root": {"path": "fs", "later": 1},
        }))
        .unwrap();
        assert_eq!((strange.oom_score_adj(), strange.cgroups_path()), (Some(7), Some("/a/b")));
        assert_eq!(strange.root(), Path::new("fs"));
        assert!(strange.has_own_pids());
        let ipc = Namespace { kind: NamespaceKind::Ipc, path: Some("/i".into()) };
        assert_eq!(strange.joined(), [ipc]);
    }

    #[test]
    fn null_is_as_good_as_absent() {
        for spec in [
            json!({}),
            json!({"annotations": null, "root": null, "process": null, "linux": null}),
            json!({"linux": {"namespaces": null, "cgroupsPath": null}, "process": {"oomScoreAdj": null}}),
        ] {
            let outline = outline(spec).unwrap();
            assert!(outline.annotations.is_empty() && outline.joined().is_empty());
            assert!(!outline.has_own_pids() && outline.cgroups_path().is_none());
            assert_eq!(outline.root(), Path::new("rootfs"));
        }
        for (kind, path, own) in [("pid", "", true), ("pid", "/p", false), ("uts", "", false)] {
            let one = outline(json!({"linux": {"namespaces": [{"type": kind, "path": path}]}})).unwrap();
            assert_eq!(one.has_own_pids(), own, "{kind} {path}");
        }
        assert!(outline(json!({"annotations": ["a"]})).is_err());
    }
}
