//! Network namespaces: `net:[INODE]#ID`. The caller's and pid 1's never count; all others that were found count,
//! because only those are looked for that something in scope holds.

use crate::entry::Found;
use crate::host::View;

/// More holders than this tell a reader nothing more.
const HOLDERS: usize = 3;

pub(super) fn collect(view: &View<'_>, found: &mut Found<'_>) {
    found.looked_at = view.namespaces.len();
    for namespace in view.namespaces.iter().filter(|namespace| !namespace.home) {
        let holders: Vec<&str> = namespace.holders.iter().take(HOLDERS).map(String::as_str).collect();
        let more = match namespace.holders.len().saturating_sub(HOLDERS) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        found.add(namespace.name.clone(), format!("held by {}{more}", holders.join(", ")));
    }
}
