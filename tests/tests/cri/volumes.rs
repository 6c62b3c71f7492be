//! What a kubelet puts into a container, and changes while it runs.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};
use urunc_tests::harness::{Container, Handler, Image, Node, Pod, SOON, Setup, Version};

/// A projected volume with one key, as a kubelet writes it: `key -> ..data/key`, `..data -> ..2026_N`.
pub struct Projected {
    /// The folder that is mounted.
    pub folder: PathBuf,
}

impl Projected {
    /// Makes one.
    pub fn make(folder: &Path, text: &str) -> Self {
        let secret = Self { folder: folder.to_owned() };
        fs::create_dir(folder).unwrap();
        secret.fill("..2026_1", text);
        symlink("..2026_1", folder.join("..data")).unwrap();
        symlink("..data/key", folder.join("key")).unwrap();
        secret
    }

    /// Puts another text there in one step.
    pub fn change(&self, text: &str) {
        self.fill("..2026_2", text);
        symlink("..2026_2", self.folder.join("..data_tmp")).unwrap();
        fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data")).unwrap();
        fs::remove_dir_all(self.folder.join("..2026_1")).unwrap();
    }

    fn fill(&self, name: &str, text: &str) {
        fs::create_dir(self.folder.join(name)).unwrap();
        fs::write(self.folder.join(name).join("key"), text).unwrap();
    }
}

/// A secret that is changed is seen as soon as it is there, whole; a single file that is mounted is the same file
/// whatever takes its place on the host.
pub fn a_sidecar_sees_what_changes_in_its_volumes(version: Version) {
    const LOOKS: &str =
        "while :; do read text < /secret/key && [ \"$text\" != \"$last\" ] && echo $text && last=$text; done";
    Node::with(version, &Setup::of(&[Image::Busybox]), |node| {
        for handler in [Handler::Runc, Handler::Urunc] {
            let folder = node.containerd().scratch().join(format!("files-{}", handler.name()));
            fs::create_dir(&folder).unwrap();
            let secret = Projected::make(&folder.join("secret"), "first\n");
            let file = folder.join("file");
            fs::write(&file, "old\n").unwrap();
            let pod = node.runp(&Pod::new(handler.name()).handler(handler));
            let container = Container::new("looks", Image::Busybox, &["sh", "-c", LOOKS]).with(
                "mounts",
                json!([
                    {"container_path": "/secret", "host_path": secret.folder, "readonly": true},
                    {"container_path": "/conf/file", "host_path": file, "readonly": false},
                ]),
            );
            let member = node.run(&pod, &container);
            node.wait_for(&member, "first\n", SOON);
            secret.change("second\n");
            node.wait_for(&member, "first\nsecond\n", SOON);

            let inside =
                |script: &str| node.call(&["exec", "-s", &member.id, "sh", "-c", script]).expect(0).text();
            fs::write(folder.join("new"), "new\n").unwrap();
            fs::rename(folder.join("new"), &file).unwrap();
            assert_eq!(inside("echo more >> /conf/file; cat /conf/file").trim(), "old\nmore");
            assert_eq!(fs::read_to_string(&file).unwrap(), "new\n");
            node.rmp_force(&pod);
        }
    });
}

/// A mount below a folder that is handed in, for as long as this lives.
struct Below(PathBuf);

impl Below {
    fn mount(folder: &Path) -> Self {
        fs::create_dir(folder).unwrap();
        mount("below", folder, "tmpfs", MountFlags::empty(), Some(c"size=64k")).unwrap();
        Self(folder.to_owned())
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::empty()).ok();
    }
}

/// `recursiveReadOnly` of a volume: a kubelet asks for it where the handler says that it can, as it does for runc's.
/// containerd 1.6 does not know it.
pub fn a_volume_is_read_only_with_all_that_is_mounted_below(version: Version) {
    const TRIES: &str = "touch /data/a; touch /data/below/b";
    Node::with(version, &Setup::of(&[Image::Busybox]), |node| {
        let info: Value = serde_json::from_str(&node.call(&["info"]).expect(0).text()).unwrap();
        for handler in [Handler::Runc, Handler::Urunc] {
            let mut known = info["runtimeHandlers"].as_array().into_iter().flatten();
            let features = known.find(|h| h["name"] == handler.name()).map(|h| h["features"].clone());
            assert_eq!(features.is_some(), version == Version::V2_3);
            if let Some(said) = features {
                assert_eq!(said["recursive_read_only_mounts"], true, "{said}");
                // Debian's runc cannot map the ids of mounts, and ours no pod's users.
                assert_ne!(said["user_namespaces"], true, "{said}");
            }

            let folder = node.containerd().scratch().join(format!("volume-{}", handler.name()));
            fs::create_dir(&folder).unwrap();
            let below = Below::mount(&folder.join("below"));
            let pod = node.runp(&Pod::new(handler.name()).handler(handler));
            let sleeps = Container::new("sleeps", Image::Busybox, &["sleep", "1000"]).with(
                "mounts",
                json!([{
                    "container_path": "/data", "host_path": folder, "readonly": true, "recursive_read_only": true,
                }]),
            );
            let member = node.run(&pod, &sleeps);
            node.call(&["exec", "-s", &member.id, "sh", "-c", TRIES]);
            assert!(!folder.join("a").exists());
            assert_eq!(folder.join("below/b").exists(), version == Version::V1_6, "{}", handler.name());
            node.rmp_force(&pod);
            drop(below);
        }
    });
}
