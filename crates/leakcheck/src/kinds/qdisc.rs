//! Qdiscs: `KIND HANDLE at LINK#INDEX in NAMESPACE`. They count where their link does; those of a loopback in a namespace
//! that is in scope. The kernel's defaults come and go with the link.

use super::link::{counts, place};
use crate::entry::Found;
use crate::host::View;
use crate::host::traffic::handle_text;

pub(super) fn collect(view: &View<'_>, found: &mut Found<'_>) {
    for namespace in &view.namespaces {
        for qdisc in &namespace.network.qdiscs {
            found.looked_at += 1;
            if counts(view.scope, namespace, qdisc.index) {
                let place = place(namespace, qdisc.index);
                found.add(format!("{} {} at {place}", qdisc.kind, handle_text(qdisc.handle)), String::new());
            }
        }
    }
}
