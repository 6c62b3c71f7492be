//! Which guest of a pod gets the pod's interface: the first one. A further one runs without, and the log says so.

use std::{net::IpAddr, path::PathBuf};

use host_net::{Ingress, Interface, NetnsId, Route};
use record_store::Read;

use crate::{
    Runtime,
    container::Container,
    launcher::Network,
    plan::{NetworkChoice, NetworkPlan},
    record::{Record, RunDir},
    request::{Namespace, NamespaceKind},
    share::Share,
};

/// A pod's interface: its namespace and its index there.
pub type InterfaceId = (NetnsId, u32);

impl Runtime {
    /// Decides by what is in the network namespace now, and reserves the interface. `NetworkChoice::AtStart`: there is
    /// none yet.
    pub(crate) fn choose_network(&self, container: &Container, txid: &str, seen: Network) -> NetworkChoice {
        let none = |reason: &str| {
            tracing::warn!(id = container.id, txid, reason, "the guest has no network");
            NetworkChoice::Known(None)
        };
        if seen.is_host {
            return none("it shares the host's network, in which nothing is touched");
        }
        let Some(interface) = seen.interface else { return NetworkChoice::AtStart };
        let other = || {
            self.deny(container, Share::Interface);
            none("another guest of the pod has the pod's interface")
        };
        if let Some(mark) = interface.tied.iter().find(|mark| mark.txid.to_string() != txid) {
            tracing::debug!(id = container.id, txid, other = %mark.txid, "the interface is tied already");
            return other();
        }
        if self.is_denied(container, Share::Interface) {
            return none("another guest of the pod had the pod's interface before it");
        }
        if !self.reserve_interface(container, (seen.netns, interface.index)) {
            return other();
        }
        let addresses: Vec<_> =
            interface.addresses.iter().map(|a| format!("{}/{}", a.ip, a.prefix_len)).collect();
        tracing::info!(
            id = container.id,
            txid,
            interface = interface.name,
            addresses = addresses.join(", "),
            "the guest takes the place of the pod's interface"
        );
        let lost = lost_routes(&interface);
        if !lost.is_empty() {
            let routes = lost.join(", ");
            tracing::warn!(id = container.id, txid, routes, "routes of the pod that the guest does not get");
        }
        let inherits_ingress = interface.ingress == Ingress::Ingress
            && interface.stale.is_empty()
            && self.is_of_one_who_goes(seen.netns, interface.index);
        // 15 bytes are the longest name of an interface.
        let tap = format!("tap{txid}");
        let hostname = seen.hostname;
        NetworkChoice::Known(Some(Box::new(NetworkPlan {
            netns: seen.netns,
            interface,
            tap,
            inherits_ingress,
            hostname,
        })))
    }

    /// Whether an ingress qdisc without any filter of ours is that of a container that is just being undone: its filter is
    /// gone, its record is not yet.
    fn is_of_one_who_goes(&self, netns: NetnsId, index: u32) -> bool {
        let made_it = |record: &Record| {
            let network = record.network.as_ref().filter(|_| !record.tombstone);
            network.is_some_and(|n| n.netns == netns && n.index == index && n.ingress_made)
        };
        self.layout.containers().into_iter().any(|(namespace, id)| {
            let dir = RunDir::open(&self.layout.container(&namespace, &id)).ok().flatten();
            dir.is_some_and(|dir| matches!(dir.read(), Read::Record(record) if made_it(&record)))
        })
    }
}

/// The routes that the guest's addresses and gateways do not say.
fn lost_routes(interface: &Interface) -> Vec<String> {
    let gateways: Vec<IpAddr> = interface.addresses.iter().filter_map(|a| a.gateway).collect();
    let is_said = |route: &Route| match (route.destination, route.gateway) {
        (None, gateway) => gateway.is_some_and(|gateway| gateways.contains(&gateway)),
        // The network of an address, or the way to a gateway outside of it.
        (Some((network, length)), None) => {
            interface.addresses.iter().any(|a| same_network(a.ip, network, length) && a.prefix_len == length)
                || gateways.contains(&network)
        }
        (Some(_), Some(_)) => false,
    };
    let name = |route: &Route| {
        let destination = route.destination.map_or("default".to_owned(), |(net, len)| format!("{net}/{len}"));
        route.gateway.map_or(destination.clone(), |gateway| format!("{destination} via {gateway}"))
    };
    interface.routes.iter().filter(|route| !is_said(route)).map(name).collect()
}

/// Whether the first `length` bits are the same.
fn same_network(a: IpAddr, b: IpAddr, length: u8) -> bool {
    let (a, b, bits) = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    let host_bits = bits - u32::from(length).min(bits);
    a.checked_shr(host_bits).unwrap_or(0) == b.checked_shr(host_bits).unwrap_or(0)
}

/// The path of the network namespace, if the spec names one.
pub fn netns_path(namespaces: &[Namespace]) -> Option<PathBuf> {
    namespaces.iter().find(|ns| ns.kind == NamespaceKind::Network).and_then(|ns| ns.path.clone())
}

#[cfg(test)]
mod tests {
    use host_net::{Address, Mac};

    use super::*;

    #[test]
    fn routes_that_the_guest_does_not_get_are_named() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let address = |text: &str, prefix_len, gateway: Option<&str>| Address {
            ip: ip(text),
            prefix_len,
            gateway: gateway.map(ip),
        };
        let route = |destination: Option<(&str, u8)>, gateway: Option<&str>| Route {
            destination: destination.map(|(net, len)| (ip(net), len)),
            gateway: gateway.map(ip),
            metric: 0,
        };
        let mut interface = Interface {
            index: 2,
            name: "eth0".to_owned(),
            mac: Mac([0; 6]),
            mtu: 1500,
            addresses: vec![
                address("10.1.2.3", 24, Some("10.1.2.1")),
                address("10.9.9.9", 32, Some("169.254.1.1")),
            ],
            routes: vec![
                route(None, Some("10.1.2.1")),
                route(Some(("10.1.2.0", 24)), None),
                route(Some(("169.254.1.1", 32)), None),
            ],
            ingress: Ingress::None,
            tied: vec![],
            stale: vec![],
        };
        assert_eq!(lost_routes(&interface), Vec::<String>::new());
        interface.routes.extend([
            route(None, None),
            route(Some(("172.30.0.0", 16)), Some("10.1.2.9")),
            route(Some(("10.1.0.0", 16)), None),
        ]);
        assert_eq!(lost_routes(&interface), ["default", "172.30.0.0/16 via 10.1.2.9", "10.1.0.0/16"]);
    }
}
