//! Which container an operator means: its id, the beginning of its id, or `NAMESPACE/ID`. What fits more than one is
//! ambiguous, and never guessed.

use std::path::Path;

use runtime_core::layout::Layout;

use crate::error::Error;

/// A container that has a run directory.
#[derive(Clone, Debug)]
pub struct Found {
    /// The folder of its containerd.
    pub layout: Layout,
    /// containerd's namespace.
    pub namespace: String,
    /// Its id.
    pub id: String,
}

impl Found {
    /// `NAMESPACE/ID`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.namespace, self.id)
    }

    /// The name of its containerd's folder.
    pub fn containerd(&self) -> String {
        self.layout.base().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Finds the container below `root`.
pub fn find(root: &Path, name: &str) -> Result<Found, Error> {
    let (namespace, wanted) = match name.split_once('/') {
        Some((namespace, id)) => (Some(namespace), id),
        None => (None, name),
    };
    let mut all = Vec::new();
    for layout in Layout::all(root) {
        for (namespace, id) in layout.containers() {
            all.push(Found { layout: layout.clone(), namespace, id });
        }
    }
    all.retain(|found| namespace.is_none_or(|namespace| found.namespace == namespace));
    let mut fits: Vec<Found> = all.iter().filter(|found| found.id == wanted).cloned().collect();
    if fits.is_empty() && !wanted.is_empty() {
        fits = all.into_iter().filter(|found| found.id.starts_with(wanted)).collect();
    }
    let names = || fits.iter().map(|f| format!("{} (containerd {})", f.name(), f.containerd())).collect();
    match fits.as_slice() {
        [found] => Ok(found.clone()),
        [] => Err(Error::NoContainer { name: name.to_owned(), root: root.to_owned() }),
        _ => Err(Error::Ambiguous { name: name.to_owned(), fits: names() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_enough_for_an_id_and_not_for_a_namespace() {
        let root = tempfile::tempdir().unwrap();
        for container in
            ["a/k8s/web1", "a/k8s/other", "a/k8s-two/web1", "a/k8s-two/db", "b/moby/db", "b/moby/xweb2"]
        {
            let (containerd, rest) = container.split_once('/').unwrap();
            std::fs::create_dir_all(root.path().join(containerd.repeat(12)).join(rest)).unwrap();
        }
        let found = |name: &str| match find(root.path(), name) {
            Ok(found) => found.name(),
            Err(Error::NoContainer { .. }) => "none".to_owned(),
            Err(Error::Ambiguous { fits, .. }) => fits.len().to_string(),
            Err(e) => panic!("{e}"),
        };
        for (name, wanted) in [
            ("oth", "k8s/other"),
            ("her", "none"),
            ("web2", "none"),
            ("xw", "moby/xweb2"),
            // The same id in two namespaces, of one containerd or of two.
            ("web1", "2"),
            ("we", "2"),
            ("db", "2"),
            ("k8s/web1", "k8s/web1"),
            ("k8s/we", "k8s/web1"),
            ("k8s-two/web1", "k8s-two/web1"),
            ("k8s-/web1", "none"),
            ("k8/other", "none"),
            ("k8s/db", "none"),
            ("moby/", "none"),
            ("", "none"),
        ] {
            assert_eq!(found(name), wanted, "{name:?}");
        }
    }
}
