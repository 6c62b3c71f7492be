//! What the OCI runtime says that its containers can have. CRI tells a kubelet of it, which refuses a pod that asks for
//! more; containerd looks before it has ids of mounts mapped.

use std::time::Instant;

use oci_runtime::Cancel;
use serde_json::Value;

use super::{OciOptions, check::WAIT, program};
use crate::{Error, config::Config};

/// The JSON of the OCI `features` (runtime-spec, features.md), without the namespace that a pod cannot have: whoever reads
/// it decides for whole pods, and one with a user namespace is refused.
///
/// An error: there is no OCI runtime, or one that is too old to say it (before runc 1.1 and crun 1.8.7).
pub fn features(options: &OciOptions, config: &Config) -> Result<String, Error> {
    let runtime = oci_runtime::Runtime {
        program: program(options, config)?,
        // It keeps nothing there; crun makes its root whatever it is asked: this one is there.
        root: "/".into(),
        systemd_cgroup: false,
        cancel: Cancel::default(),
    };
    let said = runtime.features(Instant::now() + WAIT)?;
    of_a_pod(&said).map_err(|source| Error::Features { program: runtime.program, source })
}

fn of_a_pod(said: &str) -> serde_json::Result<String> {
    let mut features: Value = serde_json::from_str(said)?;
    if let Some(Value::Array(namespaces)) = features.pointer_mut("/linux/namespaces") {
        namespaces.retain(|kind| kind != "user");
    }
    serde_json::to_string(&features)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_is_as_it_was_said_but_the_namespace_of_users() {
        let said = |namespaces: &[&str]| {
            json!({
                "ociVersionMin": "1.0.0", "mountOptions": ["ro", "rro"], "new": {"later": 1},
                "linux": {"namespaces": namespaces, "mountExtensions": {"idmap": {"enabled": true}}},
            })
        };
        let read = of_a_pod(&said(&["pid", "user", "uts"]).to_string()).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&read).unwrap(), said(&["pid", "uts"]));
        assert_eq!(of_a_pod("{}").unwrap(), "{}");
        assert!(of_a_pod("features").is_err());
    }
}
