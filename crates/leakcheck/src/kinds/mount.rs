//! Mounts: `/point#ID`. The id tells stacked mounts apart, and a new mount from an old one at the same place.

use crate::entry::Found;
use crate::host::View;

pub(super) fn collect(view: &View<'_>, found: &mut Found<'_>) {
    for table in &view.tables {
        found.looked_at += table.mounts.len();
        for mount in table.mounts.iter().filter(|mount| mount.in_scope(view.scope)) {
            let part = if mount.root == "/" { "" } else { &mount.root };
            let owner = match table.owner.as_str() {
                "" => String::new(),
                owner => format!(", in {owner}"),
            };
            let detail = format!("{} {}{part}{owner}", mount.fstype, mount.source);
            found.add(format!("{}#{}", mount.point, mount.id), detail);
        }
    }
}
