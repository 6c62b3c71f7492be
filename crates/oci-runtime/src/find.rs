//! Which program is the OCI runtime.

use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::Error;

/// What is looked for when nothing is configured, in this order.
const KNOWN: [&str; 2] = ["runc", "crun"];

/// The program: the configured one, a path or a name to be looked up in PATH, else the first of runc and crun that
/// PATH has. Whether it is one that can be used says [`probe`](crate::probe).
pub fn find(configured: Option<&Path>) -> Result<PathBuf, Error> {
    find_in(configured, &env::var_os("PATH").unwrap_or_default())
}

fn find_in(configured: Option<&Path>, search: &OsStr) -> Result<PathBuf, Error> {
    let not_found = |wanted: String, searched: String| Error::NotFound { wanted, searched };
    if let Some(path) = configured.filter(|p| p.components().count() > 1) {
        let folder = path.parent().unwrap_or(path).display().to_string();
        return match path.is_absolute() && is_program(path) {
            true => Ok(path.to_owned()),
            false => Err(not_found(format!("the program {}", path.display()), folder)),
        };
    }
    let names: Vec<&OsStr> = configured.map_or(KNOWN.map(OsStr::new).to_vec(), |name| vec![name.as_os_str()]);
    let folders = || env::split_paths(search).filter(|folder| folder.is_absolute());
    let found = names.iter().find_map(|name| folders().map(|f| f.join(name)).find(|path| is_program(path)));
    found.ok_or_else(|| {
        let names: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
        not_found(names.join(" or "), search.to_string_lossy().into_owned())
    })
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(programs: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in programs {
            fs::write(dir.path().join(name), "").unwrap();
            fs::set_permissions(dir.path().join(name), PermissionsExt::from_mode(0o755)).unwrap();
        }
        dir
    }

    #[test]
    fn runc_is_first_wherever_it_is() {
        let (a, b) = (place(&["crun"]), place(&["runc", "crun", "other"]));
        fs::write(a.path().join("runc"), "no program").unwrap();
        let search = env::join_paths([Path::new("relative"), a.path(), b.path()]).unwrap();
        let find = |name: Option<&str>| find_in(name.map(Path::new), &search).ok();
        assert_eq!(find(None), Some(b.path().join("runc")));
        assert_eq!(find(Some("crun")), Some(a.path().join("crun")));
        assert_eq!(find(Some("other")), Some(b.path().join("other")));
        assert_eq!(find_in(None, a.path().as_os_str()).ok(), Some(a.path().join("crun")));
        assert_eq!(find(b.path().join("other").to_str()), Some(b.path().join("other")));
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = place(&[]);
        let said = |name: Option<&Path>| find_in(name, dir.path().as_os_str()).unwrap_err().to_string();
        let text = said(None);
        assert!(text.contains("runc or crun not found in") && text.contains("install one"), "{text}");
        assert!(text.contains(&*dir.path().to_string_lossy()), "{text}");
        assert!(said(Some(Path::new("nvidia"))).contains("nvidia not found"));
        assert!(said(Some(Path::new("/nowhere/runc"))).contains("the program /nowhere/runc not found"));
        // Relative to what? The folder that a daemon happens to be in is nobody's choice.
        assert!(said(Some(Path::new("bin/runc"))).contains("bin/runc not found"));
    }
}
