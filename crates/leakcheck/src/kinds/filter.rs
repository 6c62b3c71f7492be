//! Traffic control filters: `KIND PRIORITY PROTOCOL HANDLE at HOOK of LINK#INDEX in NAMESPACE`. They count where their
//! link does; in the host's namespace also those with our mark, with a marker in their cookie, or that send frames to a
//! link in scope.

use super::link::{counts, place};
use crate::entry::Found;
use crate::host::View;
use crate::host::namespaces::Namespace;
use crate::host::traffic::Filter;

pub(super) fn collect(view: &View<'_>, found: &mut Found<'_>) {
    for namespace in &view.namespaces {
        for filter in &namespace.network.filters {
            found.looked_at += 1;
            let in_scope = counts(view.scope, namespace, filter.index)
                || (filter.marked && view.scope.counts_our_names())
                || view.scope.names(&filter.cookie)
                || filter.target.is_some_and(|target| counts(view.scope, namespace, target));
            if in_scope {
                found.add(name(filter, namespace), detail(filter, namespace));
            }
        }
    }
}

fn name(filter: &Filter, namespace: &Namespace) -> String {
    let Filter { kind, hook, priority, protocol, chain, handle, index, .. } = filter;
    let place = place(namespace, *index);
    let chain = if *chain == 0 { String::new() } else { format!("chain {chain} ") };
    format!("{kind} pref {priority} protocol {protocol:#06x} {chain}handle {handle:x} at {hook} of {place}")
}

fn detail(filter: &Filter, namespace: &Namespace) -> String {
    let target = filter.target.map(|index| match namespace.network.link(index) {
        Some(link) => format!("sends frames to {}", link.id()),
        None => "sends frames to a link that is gone".to_owned(),
    });
    let cookie = if filter.cookie.is_empty() { None } else { Some(format!("cookie {}", filter.cookie)) };
    let empty = (filter.handle == 0).then(|| "a classifier without a filter".to_owned());
    [target, cookie, empty].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
