//! Addresses: `ADDRESS/LENGTH at LINK#INDEX in NAMESPACE`. They count where their link does; those of a loopback in a
//! namespace that is in scope. What the kernel gives by itself (of a loopback, link-local) comes and goes with the link.

use super::link::{counts, place};
use crate::entry::Found;
use crate::host::View;

pub(super) fn collect(view: &View<'_>, found: &mut Found<'_>) {
    for namespace in &view.namespaces {
        for address in namespace.network.addresses.iter().filter(|address| !address.is_the_kernels()) {
            found.looked_at += 1;
            let text = format!("{}/{}", address.ip, address.prefix);
            if counts(view.scope, namespace, address.index) || view.scope.names(&text) {
                found.add(format!("{text} at {}", place(namespace, address.index)), String::new());
            }
        }
    }
}
