//! containerd, and whether its CRI plug-in has the runtime: what counts is what containerd reads, its `config.toml` and
//! what that imports. `ctr`, nerdctl and Docker need no configuration.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{
    Host, Row,
    programs::{installed, version},
};

const FILE: &str = "/etc/containerd/config.toml";
const RUNTIME: &str = "io.containerd.urunc.v2";
/// The names of the CRI plug-in that has the runtimes: since 2.0, before, and before 1.3.
const CRI: [&str; 3] = ["io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "cri"];
/// How many files are read at most.
const MOST: usize = 64;

/// What one file says.
#[derive(Default)]
struct Said {
    imports: Vec<String>,
    disabled: bool,
    runtime: bool,
}

/// containerd.
pub fn containerd(host: &Host<'_>) -> Row {
    let Some(program) = installed(host, "containerd") else {
        return Row::missing("containerd", "containerd is not installed", "apt-get install containerd");
    };
    let found = format!("{}{}", program.display(), version(host, &program));
    let note = |problem: String, remedy: &str| {
        Row::note("containerd", format!("{found}; {problem}, which only Kubernetes needs"), remedy)
    };
    let mut files = vec![PathBuf::from(FILE)];
    let (mut disabled, mut runtime) = (None, None);
    let mut next = 0;
    while next < files.len() && next < MOST {
        let file = files[next].clone();
        next += 1;
        let Ok(text) = fs::read_to_string(host.path(&file)) else { continue };
        let said = match Said::of(&text) {
            Ok(said) => said,
            Err(problem) => {
                let found = format!("{found}; {} is not TOML ({problem})", file.display());
                return Row::missing("containerd", found, "mend the file: containerd does not start with it");
            }
        };
        for pattern in &said.imports {
            let pattern = file.parent().unwrap_or(Path::new("/")).join(pattern);
            let new: Vec<PathBuf> =
                matching(host, &pattern).into_iter().filter(|f| !files.contains(f)).collect();
            files.extend(new);
        }
        disabled = disabled.or(said.disabled.then(|| file.clone()));
        runtime = runtime.or(said.runtime.then_some(file));
    }
    let aside = || {
        ["/etc/containerd/conf.d", "/etc/containerd/config.d"].into_iter().find_map(|folder| {
            let there = matching(host, &Path::new(folder).join("*.toml"));
            let has_it = |file: &PathBuf| {
                fs::read_to_string(host.path(file))
                    .is_ok_and(|text| Said::of(&text).is_ok_and(|said| said.runtime))
            };
            there.into_iter().find(|file| !files.contains(file) && has_it(file))
        })
    };
    match (runtime, disabled) {
        (Some(_), Some(disabled)) => note(
            format!("its CRI plug-in is disabled in {}", disabled.display()),
            "take cri out of disabled_plugins, and restart containerd",
        ),
        (Some(file), None) => Row::ok("containerd", format!("{found}; {} has the runtime", file.display())),
        (None, disabled) => {
            let off = disabled.map(|file| format!(", and its CRI plug-in is disabled in {}", file.display()));
            let off = off.unwrap_or_default();
            match aside() {
                Some(file) => note(
                    format!("{} has the runtime, but {FILE} does not import it{off}", file.display()),
                    &format!("imports = [{file:?}] at the beginning of {FILE}, and restart containerd"),
                ),
                None => note(
                    format!("its configuration does not name {RUNTIME}{off}"),
                    "deploy/containerd has what to add",
                ),
            }
        }
    }
}

impl Said {
    fn of(text: &str) -> Result<Self, String> {
        let table = DeTable::parse(text).map_err(|e| e.message().trim().to_owned())?;
        let table = table.get_ref();
        let runtimes = CRI.iter().filter_map(|cri| {
            let plugin = inner(inner(table, "plugins")?, cri)?;
            inner(inner(plugin, "containerd")?, "runtimes")
        });
        let is_ours = |runtime: &DeValue<'_>| {
            runtime.as_table().and_then(|t| t.get("runtime_type")?.get_ref().as_str()) == Some(RUNTIME)
        };
        Ok(Self {
            imports: texts(table, "imports"),
            disabled: texts(table, "disabled_plugins").iter().any(|name| CRI.contains(&name.as_str())),
            runtime: runtimes.flat_map(|table| table.values()).any(|runtime| is_ours(runtime.get_ref())),
        })
    }
}

fn inner<'a, 'i>(table: &'a DeTable<'i>, name: &str) -> Option<&'a DeTable<'i>> {
    table.get(name)?.get_ref().as_table()
}

fn texts(table: &DeTable<'_>, name: &str) -> Vec<String> {
    let array = table.get(name).and_then(|value| value.get_ref().as_array());
    let values = array.into_iter().flat_map(|array| array.iter());
    values.filter_map(|value| value.get_ref().as_str().map(str::to_owned)).collect()
}

/// The files of a host that fit a pattern, whose last name may have stars.
fn matching(host: &Host<'_>, pattern: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (pattern.parent(), pattern.file_name().and_then(OsStr::to_str)) else {
        return vec![];
    };
    let entries = fs::read_dir(host.path(folder)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut files: Vec<PathBuf> = names.filter(|n| fits(n, name)).map(|n| folder.join(n)).collect();
    files.sort();
    files
}

fn fits(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| fits(&rest[at..], after))
        }),
    }
}
