//! Where the console goes: a file, a logger, a terminal.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use urunc_tests::{
    direct::skip,
    harness::{BOOT, Image, SOON, Test, Version, on_terminal, tiny},
};

/// `ctr run --log-uri file://...`
pub fn a_log_file_gets_the_output(version: Version) {
    Test::with(version, &[Image::Tiny], |containerd| {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("logs/of/file.log");
        let uri = format!("file://{}", log.display());
        containerd.run_with(&["--log-uri", &uri], Image::Tiny, "file", &tiny(&["exit=3"])).expect(3);
        assert_eq!(fs::read_to_string(&log).unwrap(), "tiny: tiny -- exit=3\n");
    });
}

/// `ctr run --log-uri binary://...`
pub fn a_logger_gets_the_output(version: Version) {
    Test::with(version, &[Image::Tiny], |containerd| {
        let folder = tempfile::tempdir().unwrap();
        let (program, log) = (folder.path().join("logger"), folder.path().join("log"));
        let script = "#!/bin/sh\nexec 5>&-\n{ echo \"$CONTAINER_ID $1\"; cat <&3; echo end; } >\"$2\"\n";
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        let uri = format!("binary://{}?to={}", program.display(), log.display());
        containerd.run_with(&["--log-uri", &uri], Image::Tiny, "logger", &tiny(&["exit=3"])).expect(3);
        // Delete has waited for it.
        assert_eq!(fs::read_to_string(&log).unwrap(), "logger to\ntiny: tiny -- exit=3\nend\n");
    });
}

/// `ctr run -t`, under a terminal of util-linux's `script`.
pub fn a_terminal_shows_the_output_and_ends_with_the_guest(version: Version) {
    let has_script = Command::new("script").arg("--version").stdout(Stdio::null()).status();
    if !has_script.is_ok_and(|status| status.success()) {
        return skip("there is no script(1)");
    }
    Test::with(version, &[Image::Tiny], |containerd| {
        let run = containerd.run_command(
            &["--rm", "-t"],
            Image::Tiny.name(),
            "tty",
            &tiny(&["out=30000", "exit=3"]),
        );
        let done = on_terminal(&run).wait(BOOT).expect(3);
        // ctr has its own terminal translate the ends of lines.
        let text = done.text().replace("\r\n", "\n");
        let body = text.split_once("tiny: tiny -- out=30000 exit=3\n").map_or("", |(_, body)| body);
        assert!(body.starts_with("00000000 abc") && !body.contains('\r'), "{done}");
        assert_eq!(body.trim_end().len(), 30_000, "{done}");
    });
}

/// `ctr run -d -t`, and two `ctr task attach`, one after the other.
pub fn a_client_attaches_after_another_one(version: Version) {
    Test::with(version, &[Image::Tiny], |containerd| {
        let flags = ["-d", "-t"];
        let run = containerd.run_command(&flags, Image::Tiny.name(), "tty", &tiny(&["echo", "exit=3"]));
        on_terminal(&run).wait(SOON).expect(0);
        let attach = || on_terminal(&containerd.ctr(&["task", "attach", "tty"]));
        let mut first = attach();
        first.type_in("one\n");
        first.wait_for("one", SOON);
        // As when its terminal is closed.
        first.kill();
        let mut second = attach();
        second.type_in("two\nquit\n");
        second.wait_for("two", SOON);
        second.wait(SOON).expect(3);
        // It has deleted the task.
        containerd.forget("tty");
    });
}
