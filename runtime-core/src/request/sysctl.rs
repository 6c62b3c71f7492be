//! `linux.sysctl`: kernel parameters of the container's namespaces. Only those of a namespace of its own are taken:
//! any other would change the host. Pure; the launcher writes them, inside of the namespaces, and looks once more: a
//! path of the spec may name the host's own.

use std::path::PathBuf;

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::{Namespace, NamespaceKind};
use crate::{Error, contract::invalid};

/// One kernel parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// Its file below `/proc/sys`.
    pub file: PathBuf,
    /// The kind of namespace that it belongs to.
    pub kind: NamespaceKind,
    /// What is written to it.
    pub value: String,
}

/// Which namespace a parameter belongs to (sysctl(8) names, namespaces(7)); `None`: to the host.
fn kind(name: &str) -> Option<NamespaceKind> {
    const IPC: [&str; 8] = [
        "kernel/msgmax",
        "kernel/msgmnb",
        "kernel/msgmni",
        "kernel/sem",
        "kernel/shmall",
        "kernel/shmmax",
        "kernel/shmmni",
        "kernel/shm_rmid_forced",
    ];
    match name {
        _ if name.starts_with("net/") => Some(NamespaceKind::Network),
        _ if name.starts_with("fs/mqueue/") || IPC.contains(&name) => Some(NamespaceKind::Ipc),
        "kernel/domainname" => Some(NamespaceKind::Uts),
        _ => None,
    }
}

pub(super) fn of(spec: &Spec, namespaces: &[Namespace]) -> Result<Vec<Sysctl>, Error> {
    let Some(given) = spec.linux().as_ref().and_then(|l| l.sysctl().as_ref()) else { return Ok(vec![]) };
    let mut pairs: Vec<_> = given.iter().collect();
    pairs.sort();
    pairs.into_iter().map(|(name, value)| one(name, value, namespaces)).collect()
}

fn one(name: &str, value: &str, namespaces: &[Namespace]) -> Result<Sysctl, Error> {
    let field = format!("linux.sysctl[{name}]");
    // As sysctl(8): whichever of the two comes first separates, and the other one stands for it in a name.
    let path: String = match name.find(['.', '/']).map(|at| name.as_bytes()[at]) {
        Some(b'.') => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    };
    if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(invalid(
            &field,
            value,
            "is no kernel parameter",
            "give a name such as net.core.somaxconn",
        ));
    }
    let Some(kind) = kind(&path).filter(|kind| namespaces.iter().any(|ns| ns.kind == *kind)) else {
        let right =
            "leave it out, or give the container a namespace of its own that the parameter belongs to";
        return Err(invalid(&field, value, "is not of a namespace of the container", right));
    };
    Ok(Sysctl { file: PathBuf::from(path), kind, value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Vec<Namespace> {
        vec![Namespace { kind: NamespaceKind::Network, path: None }]
    }

    #[test]
    fn names_become_files() {
        for (name, file) in [
            ("net.ipv4.ip_unprivileged_port_start", "net/ipv4/ip_unprivileged_port_start"),
            ("net/ipv4/ping_group_range", "net/ipv4/ping_group_range"),
            ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ] {
            assert_eq!(one(name, "1", &network()).unwrap().file, PathBuf::from(file));
        }
    }

    #[test]
    fn what_is_the_hosts_is_refused_by_name() {
        for name in
            ["kernel.panic", "vm.swappiness", "net.ipv4/../../kernel/panic", "net..x", "kernel.shmmax"]
        {
            let e = one(name, "1", &network()).unwrap_err();
            assert!(e.to_string().contains(name), "{e}");
        }
        assert!(one("net.core.somaxconn", "1", &[]).is_err());
    }
}
