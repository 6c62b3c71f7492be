//! The verbs where an ordinary container differs from a guest: most of its life is the OCI runtime's.

mod create;
mod exec;
mod exit;
mod kill;
mod oom;
mod pause;
mod start;

use std::sync::Arc;

use crate::{Error, container::Container, oci::Oci};

pub(in crate::verbs) use exit::{exit_of, see_status};
pub(in crate::verbs) use kill::thaw;

/// The OCI runtime that a container was given to; of a guest or a sandbox the error that says so.
pub(in crate::verbs) fn oci_of(
    container: &Container,
    verb: &'static str,
    remedy: &'static str,
) -> Result<Arc<Oci>, Error> {
    let (oci, is_sandbox) = {
        let live = container.live();
        (live.oci.clone(), live.is_sandbox)
    };
    oci.ok_or_else(|| Error::WrongKind {
        verb,
        kind: if is_sandbox { "a pod's sandbox" } else { "a guest" },
        id: container.id.clone(),
        remedy,
    })
}
