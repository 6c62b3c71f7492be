//! The command line, in the syntax of Go's `flag` package, as every containerd writes it.

use std::{env, path::PathBuf};

use runtime_core::layout::{is_identifier, is_instance, is_txid};

use crate::error::Error;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Give the address of the pod's daemon.
    Start,
    /// Clean up a container.
    Delete,
    /// Serve a pod (hidden).
    Daemon,
    /// Finish what a `delete` could not (hidden).
    Gc,
    /// Print what kind of runtime this is.
    Info,
    /// Print the version.
    Version,
}

/// The command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flags {
    /// What is to be done.
    pub action: Action,
    /// containerd's namespace.
    pub namespace: String,
    /// containerd's gRPC socket.
    pub address: String,
    /// The container's id.
    pub id: String,
    /// The bundle; `start` gets none, its working directory is the bundle.
    pub bundle: Option<PathBuf>,
    /// Log more.
    pub debug: bool,
    /// For the daemon: its instance.
    pub instance: String,
    /// For the daemon: its group.
    pub group: String,
    /// For gc: the transaction.
    pub txid: String,
}

impl Flags {
    /// Parses the arguments behind the program's name. Flags that are not known are refused: a newer containerd that
    /// needs one would not be served rightly.
    pub fn parse(args: impl Iterator<Item = String>) -> Result<Self, Error> {
        let mut flags = Self {
            action: Action::Start,
            namespace: String::new(),
            address: String::new(),
            id: String::new(),
            bundle: None,
            debug: false,
            instance: String::new(),
            group: String::new(),
            txid: String::new(),
        };
        let mut action = None;
        let mut args = args.peekable();
        while let Some(arg) = args.next() {
            let Some(flag) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
                // As Go's flag package: the first word that is no flag ends them.
                action = Some(match arg.as_str() {
                    "start" => Action::Start,
                    "delete" => Action::Delete,
                    "daemon" => Action::Daemon,
                    "gc" => Action::Gc,
                    other => return Err(usage(format!("unknown action {other:?}"))),
                });
                break;
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            match name {
                "debug" => flags.debug = value.is_none_or(|v| v != "false"),
                "info" => action = Some(Action::Info),
                "v" | "version" => action = Some(Action::Version),
                _ => {
                    let value = value
                        .or_else(|| args.next())
                        .ok_or_else(|| usage(format!("flag -{name} needs a value")))?;
                    match name {
                        "namespace" => flags.namespace = value,
                        "address" => flags.address = value,
                        "id" => flags.id = value,
                        "bundle" => flags.bundle = Some(value.into()),
                        "publish-binary" | "socket-dir" => {}
                        "instance" => flags.instance = value,
                        "group" => flags.group = value,
                        "txid" => flags.txid = value,
                        _ => return Err(usage(format!("unknown flag -{name}"))),
                    }
                }
            }
            if matches!(action, Some(Action::Info | Action::Version)) {
                break;
            }
        }
        flags.action = action.ok_or_else(|| usage("no action".to_owned()))?;
        if matches!(flags.action, Action::Info | Action::Version) {
            return Ok(flags);
        }
        if flags.namespace.is_empty() {
            flags.namespace = env::var("NAMESPACE").unwrap_or_default();
        }
        for (name, value) in [("namespace", &flags.namespace), ("id", &flags.id)] {
            if !is_identifier(value) {
                return Err(usage(format!(
                    "-{name} {value:?} is not valid: letters, digits, '.', '_' and '-', at most 255, a letter or digit first"
                )));
            }
        }
        // Only of our own making.
        let own = [
            ("group", &flags.group, is_identifier as fn(&str) -> bool),
            ("instance", &flags.instance, is_instance),
            ("txid", &flags.txid, is_txid),
        ];
        for (name, value, is_valid) in own {
            if !value.is_empty() && !is_valid(value) {
                return Err(usage(format!("-{name} {value:?} is not valid")));
            }
        }
        if flags.address.is_empty() {
            return Err(usage("-address is missing".to_owned()));
        }
        Ok(flags)
    }
}

fn usage(problem: String) -> Error {
    Error::Usage { problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags, Error> {
        Flags::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_command_lines_of_every_containerd_are_understood() {
        let flags = parse(
            "-namespace k8s.io -address /c.sock -publish-binary /usr/bin/containerd -id c1 -debug start",
        )
        .unwrap();
        assert_eq!((flags.action, flags.id.as_str(), flags.debug), (Action::Start, "c1", true));
        let flags =
            parse("-namespace=a --address /c.sock -publish-binary x -id c1 -bundle /b delete").unwrap();
        assert_eq!((flags.action, flags.bundle.as_deref()), (Action::Delete, Some("/b".as_ref())));
        assert_eq!(parse("-info").unwrap().action, Action::Info);
        assert_eq!(parse("-v").unwrap().action, Action::Version);
    }

    #[test]
    fn names_that_would_lead_elsewhere_are_refused() {
        for id in ["../x", ".x", "a/b", "", "x\ny"] {
            let args = ["-namespace", "n", "-address", "/c", "-id", id, "start"];
            assert!(Flags::parse(args.iter().map(|s| (*s).to_owned())).is_err(), "{id:?}");
        }
        assert!(parse("-namespace n -address /c -id x fly").is_err());
        assert!(parse("-namespace n -id x start").is_err());
        assert!(parse("-wings n -id x start").is_err());
    }
}
