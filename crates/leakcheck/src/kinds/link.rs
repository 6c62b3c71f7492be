//! Links: `NAME#INDEX in NAMESPACE`. In a namespace that is in scope every link counts; at home those with a marker in
//! their name or alias, and a tap with our name that nobody holds open. Loopbacks never count: they come and go with
//! their namespace.

use crate::entry::Found;
use crate::host::View;
use crate::host::link::Link;
use crate::host::namespaces::Namespace;
use crate::ours;
use crate::scope::Scope;

pub(super) fn collect(view: &View<'_>, found: &mut Found<'_>) {
    for namespace in &view.namespaces {
        for link in namespace.network.links.iter().filter(|link| !link.loopback) {
            found.looked_at += 1;
            if !namespace.home || is_ours(view.scope, link) {
                let kind = if link.kind.is_empty() { "hardware" } else { &link.kind };
                let up = if link.up { "up" } else { "down" };
                let home = if namespace.home { ", in the host's namespace" } else { "" };
                found.add(place(namespace, link.index), format!("{kind}, {up}{home}"));
            }
        }
    }
}

/// Whether a link in the host's namespace is ours.
fn is_ours(scope: &Scope, link: &Link) -> bool {
    let orphan = scope.counts_our_names() && link.kind == "tun" && !link.carrier && ours::is_link(&link.name);
    orphan || scope.names(&link.name) || scope.names(&link.alias)
}

/// Whether what is at the link of this index counts.
pub(super) fn counts(scope: &Scope, namespace: &Namespace, index: u32) -> bool {
    !namespace.home || namespace.network.link(index).is_some_and(|link| is_ours(scope, link))
}

/// `LINK#INDEX in NAMESPACE`.
pub(super) fn place(namespace: &Namespace, index: u32) -> String {
    match namespace.network.link(index) {
        Some(link) => format!("{} in {}", link.id(), namespace.name),
        // It was made or removed between two lists.
        None => format!("#{index} in {}", namespace.name),
    }
}

/// Whether a tap of this name, wherever it is, is ours. The name alone is not enough where nothing counts by our name:
/// then it must be in a namespace in scope.
pub(super) fn is_our_tap(view: &View<'_>, name: &str) -> bool {
    let elsewhere = |namespace: &&Namespace| !namespace.home;
    let links = || view.namespaces.iter().filter(elsewhere).flat_map(|namespace| &namespace.network.links);
    view.scope.names(name)
        || (ours::is_link(name) && (view.scope.counts_our_names() || links().any(|link| link.name == name)))
}
