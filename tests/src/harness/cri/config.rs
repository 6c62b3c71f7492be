//! containerd's configuration for pods. The handler `urunc` comes from `deploy/containerd`, as on a real node.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::direct::cache;

use super::super::{Image, Version, env::snapshotter, scratch::Scratch};

/// The file of `deploy/` that adds the handler to a containerd of this version.
pub fn drop_in(version: Version) -> PathBuf {
    let name = match version {
        Version::V1_6 => "urunc-v2.toml",
        Version::V2_3 => "urunc-v3.toml",
    };
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy/containerd");
    deploy.join(name)
}

/// What a containerd for pods needs beyond what all have. It follows the common part.
pub fn configuration(version: Version, scratch: &Scratch) -> String {
    let plugins = cache().join("containerd-1.6/cni").display().to_string();
    let nets = scratch.path().join("net.d").display().to_string();
    let (snapshotter, pause) = (snapshotter(scratch.path()), Image::Pause.name());
    let drop_in = drop_in(version);
    match version {
        // This version does not merge the section of an import with ours: as the file says, its last table is copied.
        Version::V1_6 => {
            let text = fs::read_to_string(&drop_in).unwrap_or_else(|e| panic!("{}: {e}", drop_in.display()));
            let last = text.rfind("\n[").expect("it has tables");
            let table = &text[last..];
            format!(
                "[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{pause}\"\n{COMMON}\
                 [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"{plugins}\"\nconf_dir = \"{nets}\"\n\
                 [plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"{snapshotter}\"\n\
                 default_runtime_name = \"runc\"\n\
                 [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n\
                 runtime_type = \"io.containerd.runc.v2\"\n{table}"
            )
        }
        Version::V2_3 => format!(
            "[plugins.\"io.containerd.cri.v1.images\"]\nsnapshotter = \"{snapshotter}\"\n\
             [plugins.\"io.containerd.cri.v1.images\".pinned_images]\nsandbox = \"{pause}\"\n\
             [plugins.\"io.containerd.cri.v1.runtime\"]\n{COMMON}\
             [plugins.\"io.containerd.cri.v1.runtime\".cni]\nbin_dirs = [\"{plugins}\"]\nconf_dir = \"{nets}\"\n\
             [plugins.\"io.containerd.cri.v1.runtime\".containerd]\ndefault_runtime_name = \"runc\"\n\
             [plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.runc]\n\
             runtime_type = \"io.containerd.runc.v2\"\n"
        ),
    }
}

/// The line of a configuration that imports the drop-in, where sections are merged.
pub fn imports(version: Version) -> String {
    match version {
        Version::V1_6 => String::new(),
        Version::V2_3 => format!("imports = [\"{}\"]\n", drop_in(version).display()),
    }
}

/// A process without CAP_SYS_RESOURCE cannot lower an oom_score_adj; namespaces are told apart by their paths.
const COMMON: &str = "disable_apparmor = true\nrestrict_oom_score_adj = true\n\
    netns_mounts_under_state_dir = true\n";
