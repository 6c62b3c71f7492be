//! AppArmor, where the host has it.

use std::{fs, path::Path};

use serde_json::json;
use urunc_tests::{
    direct::skip,
    harness::{Container, Handler, Image, Node, Pod, SOON, Setup, Version},
};

/// containerd's own profile, for whoever asks for the runtime's default.
const PROFILE: &str = "cri-containerd.apparmor.d";
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";

/// A sidecar and what is executed in it are confined as under runc's handler.
pub fn a_sidecar_is_confined_by_the_default_profile(version: Version) {
    if let Some(why) = obstacle() {
        skip(&why);
        return;
    }
    let was_there = is_loaded();
    Node::with(version, &Setup::of(&[Image::Busybox]), |node| {
        let configuration = node.containerd().scratch().join("c0/config.toml");
        let text = fs::read_to_string(&configuration).unwrap();
        let on = text.replace("disable_apparmor = true", "disable_apparmor = false");
        assert_ne!(on, text);
        fs::write(&configuration, on).unwrap();
        node.restart();
        for (handler, attempt) in [(Handler::Runc, 0), (Handler::Urunc, 1)] {
            let pod = node.runp(&Pod::new("confined").handler(handler));
            let script = "cat /proc/self/attr/current; sleep 1000";
            let container =
                Container::new("confined", Image::Busybox, &["sh", "-c", script]).attempt(attempt);
            let member = node.run(&pod, &container.security("apparmor", json!({"profile_type": 0})));
            let confined = format!("{PROFILE} (enforce)");
            node.wait_for(&member, &confined, SOON);
            let executed = node.call(&["exec", "-s", &member.id, "cat", "/proc/self/attr/current"]).expect(0);
            assert_eq!(executed.text().trim(), confined);
            node.rmp_force(&pod);
        }
    });
    // containerd has loaded it, and keeps it.
    if !was_there && is_loaded() {
        fs::write("/sys/kernel/security/apparmor/.remove", PROFILE).unwrap();
    }
}

fn is_loaded() -> bool {
    let profiles = fs::read_to_string(PROFILES).unwrap_or_default();
    profiles.lines().any(|line| line.split(' ').next() == Some(PROFILE))
}

/// Why containerd does not use it here: it looks for the same.
fn obstacle() -> Option<String> {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    let why = if !enabled.starts_with('Y') {
        "the kernel has it not, or has it off"
    } else if !Path::new(PROFILES).exists() {
        "securityfs is not mounted"
    } else if !Path::new("/sbin/apparmor_parser").exists() {
        "there is no /sbin/apparmor_parser"
    } else if std::env::var_os("container").is_some_and(|name| !name.is_empty()) {
        "containerd leaves it alone inside of a container"
    } else {
        return None;
    };
    Some(format!("AppArmor: {why}"))
}
