//! What `containerd.runc.v1.Options` ask for, of an ordinary container. A guest is none of runc's business.

use std::path::{Path, PathBuf};

use crate::{Error, contract::invalid};

/// The options, as they are given. Empty and zero: not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OciOptions {
    /// Mount the root file system without `pivot_root`.
    pub no_pivot_root: bool,
    /// Leave the session keyring as it is.
    pub no_new_keyring: bool,
    /// A cgroup for the shim.
    pub shim_cgroup: String,
    /// Whose the ends of the stdio are.
    pub io_uid: u32,
    /// The same for the group.
    pub io_gid: u32,
    /// The OCI runtime: a path, or a name to be looked up in `PATH`.
    pub binary_name: String,
    /// Where its state is; below it there is a folder for each namespace.
    pub root: String,
    /// CRIU's program.
    pub criu_path: String,
    /// Make cgroups by systemd.
    pub systemd_cgroup: bool,
    /// CRIU's images.
    pub criu_image_path: String,
    /// CRIU's work folder.
    pub criu_work_path: String,
    /// A task service to be used instead.
    pub task_api_address: String,
    /// Its version.
    pub task_api_version: u32,
}

/// Where runc's options stand in an error's sentence.
pub(super) const PLACE: &str = "containerd.runc.v1.Options";

impl OciOptions {
    /// Refuses by name what is not honoured.
    pub fn check(&self) -> Result<(), Error> {
        let version = if self.task_api_version == 0 { "" } else { "set" };
        for (name, value, remedy) in [
            (
                "ShimCgroup",
                self.shim_cgroup.as_str(),
                "leave it out; a daemon serves a whole pod, and stays where containerd is",
            ),
            ("CriuPath", &self.criu_path, "leave it out; no container is checkpointed"),
            ("CriuImagePath", &self.criu_image_path, "leave it out; no container is checkpointed"),
            ("CriuWorkPath", &self.criu_work_path, "leave it out; no container is checkpointed"),
            (
                "TaskApiAddress",
                &self.task_api_address,
                "leave it out; there is no task service but the shim's",
            ),
            ("TaskApiVersion", version, "leave it out; there is no task service but the shim's"),
        ] {
            if !value.is_empty() {
                return Err(Error::Unsupported { feature: format!("{PLACE}: {name} {value:?}"), remedy });
            }
        }
        Ok(())
    }

    /// `Root`, if it is given.
    pub fn root(&self) -> Result<Option<&Path>, Error> {
        match Path::new(&self.root) {
            _ if self.root.is_empty() => Ok(None),
            root if root.is_absolute() && !self.root.contains('\0') => Ok(Some(root)),
            _ => Err(invalid(
                &format!("{PLACE}: Root"),
                &self.root,
                "is not absolute",
                "give an absolute path",
            )),
        }
    }

    /// `BinaryName`, if it is given: an absolute path, or a plain name.
    pub fn program(&self) -> Result<Option<PathBuf>, Error> {
        let path = PathBuf::from(&self.binary_name);
        match path.components().count() {
            0 => Ok(None),
            _ if path.is_absolute() => Ok(Some(path)),
            1 => Ok(Some(path)),
            _ => Err(invalid(
                &format!("{PLACE}: BinaryName"),
                &self.binary_name,
                "is a relative path",
                "give an absolute path, or a name that is in PATH",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn what_is_not_honoured_is_refused_by_name() {
        OciOptions::default().check().unwrap();
        OciOptions { systemd_cgroup: true, io_uid: 7, no_pivot_root: true, ..OciOptions::default() }
            .check()
            .unwrap();
        for (name, options) in [
            ("ShimCgroup", OciOptions { shim_cgroup: "/shims".to_owned(), ..OciOptions::default() }),
            ("CriuPath", OciOptions { criu_path: "/criu".to_owned(), ..OciOptions::default() }),
            ("TaskApiVersion", OciOptions { task_api_version: 3, ..OciOptions::default() }),
        ] {
            let error = options.check().unwrap_err();
            assert_eq!(error.kind(), Kind::Unimplemented);
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn paths_are_absolute_and_names_are_names() {
        let named = |name: &str| OciOptions { binary_name: name.to_owned(), ..OciOptions::default() };
        assert_eq!(named("").program().unwrap(), None);
        assert_eq!(named("crun").program().unwrap(), Some("crun".into()));
        assert_eq!(named("/opt/bin/runc").program().unwrap(), Some("/opt/bin/runc".into()));
        assert!(named("bin/runc").program().unwrap_err().to_string().contains("BinaryName"));
        let rooted = |root: &str| OciOptions { root: root.to_owned(), ..OciOptions::default() };
        assert_eq!(rooted("").root().unwrap(), None);
        assert!(rooted("run/runc").root().unwrap_err().to_string().contains("Root"));
    }
}
