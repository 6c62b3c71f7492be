//! Links: `NAME#INDEX in NAMESPACE`. In a namespace that is in scope every link counts; at home those with a marker in
//! their name or alias, and a tap with our name that nobody holds open. Loopbacks never count: they come and go with
//! their namespace.

use crate::entry::Found;
use crate::host::View;
use crate::ours;

pub(super) fn collect(view: &View<'_>, found: &mut Found<'_>) {
    for namespace in &view.namespaces {
        for link in namespace.links.iter().filter(|link| !link.loopback) {
            found.looked_at += 1;
            let orphan = view.scope.counts_our_names()
                && link.kind == "tun"
                && !link.carrier
                && ours::is_link(&link.name);
            if namespace.home && !orphan && !view.scope.names(&link.name) && !view.scope.names(&link.alias) {
                continue;
            }
            let kind = if link.kind.is_empty() { "hardware" } else { &link.kind };
            let up = if link.up { "up" } else { "down" };
            let home = if namespace.home { ", in the host's namespace" } else { "" };
            let name = format!("{}#{} in {}", link.name, link.index, namespace.name);
            found.add(name, format!("{kind}, {up}{home}"));
        }
    }
}
