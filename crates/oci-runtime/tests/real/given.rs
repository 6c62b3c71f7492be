//! What a runtime inherits.

use std::{env, process::Command};

use oci_runtime::{Cancel, Runtime};

use crate::ground::{double, soon};

/// Runs itself once more with an environment that a service manager gives; what the double saw is on its stdout.
#[test]
fn no_descriptor_and_nothing_of_a_service_manager() {
    const INNER: &str = "OCI_RUNTIME_TEST_INNER";
    if env::var_os(INNER).is_some() {
        let root = env::temp_dir();
        let runtime =
            Runtime { program: double("spy.sh"), root, systemd_cgroup: false, cancel: Cancel::default() };
        println!("{}", runtime.features(soon()).unwrap());
        return;
    }
    let name = "given::no_descriptor_and_nothing_of_a_service_manager";
    // And with a descriptor that it does not know of, and a daemon's umask.
    let output = Command::new("/bin/sh")
        .args(["-c", "umask 077; exec 9</dev/zero; exec \"$@\"", "sh"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .envs([(INNER, "1"), ("NOTIFY_SOCKET", "/x"), ("LISTEN_FDS", "3"), ("KEPT", "kept")])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("KEPT=kept"), "{said}");
    assert!(!said.contains("NOTIFY_SOCKET") && !said.contains("LISTEN_FDS"), "{said}");
    // The shell has opened its script under a number of its own.
    let fds = said.lines().filter_map(|line| line.split_once(" -> ")).map(|(_, to)| to);
    let given: Vec<&str> = fds.filter(|to| !to.ends_with("spy.sh")).collect();
    assert_eq!(given.len(), 3, "{said}");
    assert!(given[0] == "/dev/null" && given[1].contains("memfd:oci-runtime"), "{said}");
    assert!(said.contains("cwd /\n") && said.contains("umask 0022\n"), "{said}");
}
