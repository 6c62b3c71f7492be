//! What an image would run here, and why not if not: the same reading, the same plan as in Create, without a container.
//! Changes nothing.

use std::{collections::HashMap, os::fd::BorrowedFd, path::Path};

use oci_spec::runtime::Spec;
use vmm_api::Monitor;

use crate::{
    Error,
    config::Config,
    contract::{self, Keys},
    image,
    plan::{Facts, GuestPlan, NetworkChoice, Plan, What},
    record::StdioPaths,
    request::Request,
    runtime::{find_monitor, host_facts, host_memory},
    verbs::create::choose_rootfs,
};

/// Plans for the image whose root file system is at `root`, run with `args` and these annotations, without a network
/// and without limits.
pub fn preview(
    root: BorrowedFd<'_>,
    args: &[String],
    annotations: &HashMap<String, String>,
    config: &Config,
    monitors: &[Box<dyn Monitor>],
) -> Result<Plan, Error> {
    let spec = serde_json::json!({
        "ociVersion": "1.1.0",
        "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": args},
        "annotations": annotations,
    });
    let path = Path::new("/");
    let spec: Spec =
        serde_json::from_value(spec).map_err(|source| Error::Spec { path: path.into(), source })?;
    let request = Request::new("preview", path, &spec, vec![], StdioPaths::default())?;
    let keys = image::keys(root, &request.keys)?;
    let monitor =
        find_monitor(monitors, keys.get(contract::HYPERVISOR).unwrap_or(contract::DEFAULT_HYPERVISOR))?;
    let kernel = image::kernel(root, keys.required(contract::BINARY)?)?;
    let facts = Facts {
        rootfs: Ok(choose_rootfs(root, &keys)?),
        kernel,
        network: NetworkChoice::Known(None),
        memory_room: None,
        host_memory: host_memory(),
        host: host_facts(),
        program: config.find_monitor(monitor)?,
        keys,
    };
    let guest = GuestPlan::new(&request, facts, monitor, config)?;
    Ok(Plan { txid: String::new(), cgroup: None, what: What::Guest(Box::new(guest)) })
}

/// The keys that an image's own `urunc.json` gives, by name.
pub fn keys_of_image(root: BorrowedFd<'_>) -> Result<Vec<(String, String)>, Error> {
    Ok(pairs(&image::description(root)?))
}

/// The keys that a `urunc.json` of this text gives, by name.
pub fn keys_of_text(text: &[u8]) -> Result<Vec<(String, String)>, Error> {
    Ok(pairs(&image::parse(text)?))
}

fn pairs(keys: &Keys) -> Vec<(String, String)> {
    keys.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
