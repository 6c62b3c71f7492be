//! OCI hooks: programs of the host with which nerdctl and Docker wire a container's network.
//!
//! `prestart` and `createRuntime` run in Create, once the launcher has its namespaces; `poststop` runs in the undo, when
//! it is dead. Those that would run inside the container are refused by name: a guest is no place for a program of the
//! host. All run one by one, in the host's namespaces, with a deadline each and the container's OCI state on stdin.
//!
//! [`run`] is one hook: a child with an identity of its own that dies with us. [`strays`] finds what one left that was
//! cut off.

mod run;
mod strays;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use oci_spec::runtime::{Hook as SpecHook, Spec};
use serde::{Deserialize, Serialize};

pub use run::{Stop, run};
pub use strays::end_strays;

use crate::{Error, contract::invalid};

/// How long a hook may take that does not say.
const USUAL_WAIT: Duration = Duration::from_secs(10);

/// One hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Which it is: `hooks.prestart[0]`.
    pub name: String,
    /// The program.
    pub path: PathBuf,
    /// Its arguments, argv\[0\] included.
    pub args: Vec<String>,
    /// Its environment; `None`: ours, as runc has it.
    pub env: Option<Vec<String>>,
    /// How long it may take.
    pub wait: Duration,
}

/// The hooks of a container, and what they are told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// In Create: prestart, then createRuntime, each in order.
    pub create: Vec<Hook>,
    /// In the undo, in order.
    pub poststop: Vec<Hook>,
    /// `ociVersion`.
    pub version: String,
    /// `annotations`.
    pub annotations: BTreeMap<String, String>,
}

/// The hooks as they stand beside the record, for the undo.
#[derive(Debug, Serialize, Deserialize)]
pub struct HooksPart {
    /// The transaction.
    pub txid: String,
    /// All of them.
    pub hooks: Hooks,
}

/// The container's state, as the OCI runtime specification writes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State<'a> {
    /// The version of the specification.
    pub oci_version: &'a str,
    /// The container's id.
    pub id: &'a str,
    /// `creating` or `stopped`.
    pub status: &'a str,
    /// The pid of the task; none once it is dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The bundle.
    pub bundle: &'a Path,
    /// The annotations.
    pub annotations: &'a BTreeMap<String, String>,
}

impl Hooks {
    /// Those of a spec. Pure.
    pub fn of(spec: &Spec) -> Result<Self, Error> {
        let Some(hooks) = spec.hooks() else { return Ok(Self::default()) };
        for (name, list) in [
            ("createContainer", hooks.create_container()),
            ("startContainer", hooks.start_container()),
            ("poststart", hooks.poststart()),
        ] {
            if list.as_ref().is_some_and(|list| !list.is_empty()) {
                return Err(Error::Unsupported {
                    feature: format!("hooks.{name}"),
                    remedy: "leave it out; prestart, createRuntime and poststop hooks are run",
                });
            }
        }
        #[allow(deprecated, reason = "Docker uses it")]
        let prestart = hooks.prestart();
        let mut create = list("prestart", prestart.as_deref())?;
        create.extend(list("createRuntime", hooks.create_runtime().as_deref())?);
        let annotations = spec.annotations().iter().flatten();
        Ok(Self {
            create,
            poststop: list("poststop", hooks.poststop().as_deref())?,
            version: spec.version().clone(),
            annotations: annotations.map(|(k, v)| (k.clone(), v.clone())).collect(),
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.create.is_empty() && self.poststop.is_empty()
    }
}

fn list(kind: &str, hooks: Option<&[SpecHook]>) -> Result<Vec<Hook>, Error> {
    let hook = |(n, hook): (usize, &SpecHook)| {
        let name = format!("hooks.{kind}[{n}]");
        let path = hook.path();
        if !path.is_absolute() {
            let remedy = "give the absolute path of a program of the host";
            return Err(invalid(&format!("{name}.path"), &path.to_string_lossy(), "is not absolute", remedy));
        }
        let (args, env) = (hook.args().clone().unwrap_or_default(), hook.env().clone());
        let words = args.iter().chain(env.iter().flatten()).map(String::as_str);
        if let Some(word) = words.chain(path.to_str()).find(|word| word.contains('\0')) {
            return Err(invalid(&name, word, "holds a NUL", "leave it out"));
        }
        let wait = match hook.timeout() {
            None => USUAL_WAIT,
            Some(seconds) => match u64::try_from(seconds) {
                Ok(seconds @ 1..) => Duration::from_secs(seconds),
                _ => {
                    let (value, field) = (seconds.to_string(), format!("{name}.timeout"));
                    return Err(invalid(&field, &value, "is no time", "give a number of seconds above 0"));
                }
            },
        };
        Ok(Hook { name, path: path.clone(), args, env, wait })
    };
    hooks.unwrap_or_default().iter().enumerate().map(hook).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_hook_that_does_not_say_has_ten_seconds() {
        let hooks = json!({
            "prestart": [{"path": "/a"}, {"path": "/b", "timeout": 3}],
            "poststop": [{"path": "/c"}],
        });
        let spec = serde_json::from_value(json!({"ociVersion": "1.0.2", "hooks": hooks})).unwrap();
        let hooks = Hooks::of(&spec).unwrap();
        let waits: Vec<_> = hooks.create.iter().chain(&hooks.poststop).map(|h| h.wait.as_secs()).collect();
        assert_eq!(waits, [10, 3, 10]);
    }
}
