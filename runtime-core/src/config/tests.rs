use std::{collections::HashMap, fs, path::Path};

use super::*;

/// The configuration by this file and this environment.
fn config(text: &str, variables: &[(&str, &str)]) -> Result<Config, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    fs::write(&path, text).unwrap();
    let mut env: HashMap<&str, OsString> = variables.iter().map(|(k, v)| (*k, OsString::from(v))).collect();
    env.insert(FILE_VARIABLE, path.into());
    Config::from(Path::new("/"), &|name| env.get(name).cloned(), &mut Err)
}

/// What is said of a file, without the folder.
fn complaint(text: &str) -> String {
    let chain = config(text, &[]).unwrap_err().chain();
    chain.rsplit_once('/').map_or(chain.clone(), |(_, rest)| rest.to_owned())
}

#[test]
fn what_is_wrong_is_named_by_file_line_and_key() {
    for (text, wanted) in [
        (
            "\n[runtime]\nrot = \"/x\"\n",
            "c.toml:3: runtime.rot: is not known; `urunc config show` lists what is",
        ),
        ("[monitor.qemu]\n", "c.toml:1: monitor: is not known; `urunc config show` lists what is"),
        (
            "[monitors.qemu]\ndefault_vcpus = \"2\"",
            "c.toml:2: monitors.qemu.default_vcpus: the text \"2\" is given; give a whole number from 0 to 255",
        ),
        (
            "[monitors.qemu]\ndefault_memory_mb = -1",
            "c.toml:2: monitors.qemu.default_memory_mb: the number -1 is given; give a whole number from 0 to 16777216",
        ),
        // Quoted, it is one name: no table.
        (
            "\n\"runtime.root\" = \"/x\"",
            "c.toml:2: \"runtime.root\": is not known; `urunc config show` lists what is",
        ),
        (
            "[monitors]\n\"qemu.path\" = \"/x\"",
            "c.toml:2: monitors.\"qemu.path\": is not known; `urunc config show` lists what is",
        ),
        ("runtime = 3", "c.toml:1: runtime: is a table: write [runtime]"),
        (
            "[log]\nlevel = true",
            "c.toml:2: log.level: the boolean true is given; give off, error, warn, info, debug, trace",
        ),
        (
            "[log]\nlevel = \"loud\"",
            "c.toml:2: log.level: the text \"loud\" is given; give off, error, warn, info, debug, trace",
        ),
        (
            "[runtime]\nroot = \"run\"",
            "c.toml:2: runtime.root: the text \"run\" is given; give an absolute path",
        ),
        (
            "[runtime]\nvAccel = true",
            "c.toml:2: runtime.vAccel: is not supported yet: leave it out, or set it to false",
        ),
        (
            "[monitors.hvt]\npaths = \"/x\"",
            "c.toml:2: monitors.hvt.paths: is not known; `urunc config show` lists what is",
        ),
    ] {
        assert!(complaint(text).ends_with(wanted), "{text:?}: {}", complaint(text));
    }
    let broken = complaint("[log]\nlevel = \n");
    assert!(broken.starts_with("c.toml:2: is not TOML: "), "{broken}");
    for (text, wanted) in [
        ("[log]\nlevel = \"info\"\nlevel = \"info\"\n", "c.toml:3: log.level"),
        ("[runtime]\n[log] # x\n  level = \"info\"\n\n  level = \"info\"", "c.toml:5: log.level"),
        ("[monitors.qemu]\n[monitors.qemu]\n", "c.toml:2: monitors.qemu"),
        ("monitors.qemu.path = \"/x\"\nmonitors.qemu.path = \"/x\"", "c.toml:2: monitors.qemu.path"),
        ("[monitors]\nqemu.path = \"/x\"\nqemu.path = \"/x\"", "c.toml:3: monitors.qemu.path"),
        ("[monitors]\nqemu = { path = \"/x\", path = \"/x\" }", "c.toml:2: monitors.qemu.path"),
        ("log = 1\n[log]\n", "c.toml:2: log"),
        ("[runtime]\naccel=\"\"\"\n[monitors.qemu]\n\"\"\"\naccel=\"tcg\"", "c.toml:5: runtime.accel"),
        ("[runtime]\naccel='''\nx = '''\naccel=\"tcg\"\naccel=1", "c.toml:4: runtime.accel"),
        ("[log]\nlevel=[\n[1]]\nlevel=1", "c.toml:4: log.level"),
        ("[log]\na={b={c=1, \"c\"=2}}", "c.toml:2: log.a.b.\"c\""),
    ] {
        let twice = complaint(text);
        assert!(twice.starts_with(&format!("{wanted}: is not TOML: duplicate key")), "{twice}");
    }
}

#[test]
fn the_environment_wins_over_the_file_and_options_win_over_both() {
    let text = "[runtime]\nroot = \"/a\"\naccel = \"tcg\"\ngrace_seconds = 7\n[log]\nlevel = \"DEBUG\"";
    let config = config(text, &[("URUNC_ROOT", "/b"), ("URUNC_LOG", "")]).unwrap();
    assert_eq!((config.root.as_path(), config.accel), (Path::new("/b"), Accel::Tcg));
    assert_eq!(config.grace, Some(Duration::from_secs(7)));
    assert_eq!(config.log_level(), "debug");
    assert_eq!(config.get("runtime.root").origin, Origin::Environment("URUNC_ROOT"));
    assert!(matches!(config.get("runtime.accel").origin, Origin::File(_, 3)));
    assert_eq!(config.get("monitors.qemu.default_vcpus").value, Value::Number(1));

    let body = |text: &str| config.with(&Options::Body(text.to_owned()));
    let with = body("[runtime]\naccel = \"kvm\"\n[monitors.qemu]\ndefault_vcpus = 3\n").unwrap();
    assert_eq!((with.accel, with.get("monitors.qemu.default_vcpus").value), (Accel::Kvm, Value::Number(3)));
    assert_eq!(with.get("runtime.accel").origin, Origin::Options(2));
    // containerd 2 sends its whole table.
    body("TypeUrl = 'x'\nConfigPath = ''\n[runtime]\naccel = 'kvm'").unwrap();
    let e = config.with(&Options::Path("/dev/zero".into())).unwrap_err();
    assert!(
        e.chain().contains("ConfigPath: ") && e.kind() == crate::Kind::FailedPrecondition,
        "{}",
        e.chain()
    );
    // 0 is the default, as in the Go urunc.
    assert_eq!(body("[runtime]\ngrace_seconds = 0").unwrap().grace, None);
    body("[runtime]\nroot = \"/b\"").unwrap();
    let e = body("\n[runtime]\nroot = \"/c\"").unwrap_err().chain();
    assert!(
        e.starts_with("runtime options (ConfigBody), line 3: runtime.root: the runtime options say"),
        "{e}"
    );
    assert!(e.contains("the shim has \"/b\" (environment URUNC_ROOT)"), "{e}");
    let e = config.with(&Options::Path("/nowhere/urunc.toml".into())).unwrap_err().chain();
    assert_eq!(
        e,
        "runtime options: ConfigPath: /nowhere/urunc.toml is not there; make it, or name another file"
    );
}

#[test]
fn a_file_of_the_go_urunc_is_understood() {
    let config = config(
        "[runtime]\nlibcontainer = false\n[log]\nlevel = \"warn\"\nsyslog = false\n\
         [timestamps]\nenabled = false\ndestination = \"/var/log/urunc/timestamps.log\"\n\
         [monitors.qemu]\ndefault_memory_mb = 128\ndefault_vcpus = 2\npath = \"\"\ndata_path = \"/opt/q\"\nvhost = false\n\
         [monitors.hvt]\ndefault_memory_mb = 64\n[extra_binaries.virtiofsd]\npath = \"/usr/libexec/virtiofsd\"\n",
        &[],
    )
    .unwrap();
    assert_eq!(config.get("monitors.qemu.default_memory_mb").value, Value::Number(128));
    let unused: Vec<&str> = config.unused().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        unused,
        ["extra_binaries.virtiofsd.path", "monitors.hvt.default_memory_mb", "timestamps.destination"]
    );
}

#[test]
fn clean_up_finds_its_root_whatever_else_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    fs::write(&path, "[runtime]\nroot = \"/a\"\nnonsense = 1\n").unwrap();
    let env = |name: &str| (name == FILE_VARIABLE).then(|| path.clone().into_os_string());
    let mut forgive = |_| Ok(());
    assert_eq!(Config::from(Path::new("/"), &env, &mut forgive).unwrap().root, Path::new("/a"));
    let named = |name: &str| (name == FILE_VARIABLE).then(|| OsString::from("/nowhere/c.toml"));
    let e = Config::from(Path::new("/"), &named, &mut Err).unwrap_err().chain();
    assert_eq!(e, "URUNC_CONFIG_FILE: /nowhere/c.toml is not there; make it, or name another file");
}
