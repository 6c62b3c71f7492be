//! The client against scripted peers on a socketpair.

use std::{
    io::{BufRead, BufReader, Write},
    thread,
};

use super::*;

const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}"#;

/// Runs `script` as the peer and `call` as the client.
fn against<T>(
    script: impl FnOnce(UnixStream) + Send + 'static,
    call: impl FnOnce(&mut Qmp) -> Result<T, ControlError>,
) -> Result<T, ControlError> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let peer = thread::spawn(move || script(theirs));
    let mut qmp = Qmp::new(ours);
    let result = call(&mut qmp);
    drop(qmp);
    peer.join().unwrap();
    result
}

fn soon(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

/// Greets, then answers the commands one after the other: with `answers`, where ID is the command's id.
fn scripted(answers: &'static [&'static str]) -> impl FnOnce(UnixStream) + Send + 'static {
    move |socket| {
        writeln!(&socket, "{GREETING}\r").unwrap();
        let mut commands = BufReader::new(&socket).lines();
        for answer in answers {
            let command: serde_json::Value =
                serde_json::from_str(&commands.next().unwrap().unwrap()).unwrap();
            let id = command["id"].to_string();
            for line in answer.split('\n') {
                writeln!(&socket, "{}\r", line.replace("ID", &id)).unwrap();
            }
        }
        // Until the client hangs up.
        while let Some(Ok(_)) = commands.next() {}
    }
}

const TWO_PROCESSORS: &str = r#"{"return": [{"cpu-index": 0}, {"cpu-index": 1}], "id": ID}"#;
const DONE: &str = r#"{"return": {}, "id": ID}"#;

#[test]
fn it_greets_asks_and_commands_past_events() {
    let script = scripted(&[
        DONE,
        "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"NIC_RX\"}\n{\"return\": {\"enabled\": false, \"present\": true}, \"id\": ID}",
        TWO_PROCESSORS,
        "{\"event\": \"RESUME\"}\n{\"return\": {}, \"id\": ID}\n{\"event\": \"STOP\"}",
        DONE,
    ]);
    against(script, |qmp| {
        let ready = qmp.ready(soon(5000))?;
        assert_eq!(ready, Ready { accel: "tcg".to_owned(), version: "7.2.22".to_owned() });
        qmp.go(soon(5000))?;
        qmp.power_button(soon(5000))
    })
    .unwrap();
}

#[test]
fn in_software_with_one_processor_triple_faults_are_to_be_told() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut commands = BufReader::new(theirs.try_clone().unwrap()).lines();
    let peer = thread::spawn(move || {
        writeln!(&theirs, "{GREETING}\r").unwrap();
        for (n, answer) in [r#"{}"#, r#"{"enabled": false}"#, r#"[{"cpu-index": 0}]"#].iter().enumerate() {
            commands.next().unwrap().unwrap();
            writeln!(&theirs, "{{\"return\": {answer}, \"id\": {}}}\r", n + 1).unwrap();
        }
        commands.next().unwrap().unwrap()
    });
    assert_eq!(Qmp::new(ours).ready(soon(5000)).unwrap().accel, "tcg");
    let command: serde_json::Value = serde_json::from_str(&peer.join().unwrap()).unwrap();
    assert_eq!(command["execute"], "human-monitor-command");
    assert_eq!(command["arguments"], serde_json::json!({"command-line": "log cpu_reset"}));
}

#[test]
fn kvm_is_recognized() {
    let script = scripted(&[DONE, r#"{"return": {"enabled": true, "present": true}, "id": ID}"#]);
    assert_eq!(against(script, |qmp| qmp.ready(soon(5000))).unwrap().accel, "kvm");
}

#[test]
fn the_commands_are_what_qemu_expects() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    writeln!(&theirs, "{{\"return\": {{}}, \"id\": 1}}").unwrap();
    Qmp::new(ours).go(soon(5000)).unwrap();
    let mut line = String::new();
    BufReader::new(theirs).read_line(&mut line).unwrap();
    assert_eq!(line, "{\"execute\":\"cont\",\"id\":1}\n");
}

#[test]
fn an_error_is_a_refusal() {
    for answer in [
        r#"{"error": {"class": "GenericError", "desc": "no"}, "id": ID}"#,
        // QEMU knows no id of what it could not parse.
        r#"{"error": {"class": "GenericError", "desc": "no"}}"#,
    ] {
        let script: &'static [&'static str] = Box::leak(Box::new([answer]));
        match against(scripted(script), |qmp| qmp.ready(soon(5000))).unwrap_err() {
            ControlError::Refused { command, answer } => {
                assert_eq!((command, answer.as_str()), ("qmp_capabilities", "GenericError: no"));
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_late_answer_is_not_taken_for_the_next_ones() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut qmp = Qmp::new(ours);
    assert!(matches!(qmp.go(soon(30)), Err(ControlError::Timeout)));
    writeln!(&theirs, r#"{{"return": {{}}, "id": 1}}"#).unwrap();
    assert!(matches!(qmp.power_button(soon(30)), Err(ControlError::Timeout)));
    writeln!(&theirs, r#"{{"error": {{"class": "C", "desc": "late"}}, "id": 2}}"#).unwrap();
    writeln!(&theirs, r#"{{"return": {{}}, "id": 3}}"#).unwrap();
    qmp.power_button(soon(5000)).unwrap();
}

#[test]
fn the_end_is_the_end_whenever_it_comes() {
    let closed = |r| matches!(r, Err(ControlError::Closed));
    assert!(closed(against(drop, |qmp| qmp.ready(soon(5000)))));
    let half = |socket: UnixStream| write!(&socket, "{{\"QMP\": ").unwrap();
    assert!(closed(against(half, |qmp| qmp.ready(soon(5000)))));
    // Our command is unread: the connection is reset. And after that: the pipe is broken.
    let greets_only = |socket: UnixStream| {
        writeln!(&socket, "{GREETING}").unwrap();
        thread::sleep(Duration::from_millis(50));
    };
    let again = |qmp: &mut Qmp| {
        assert!(closed(qmp.ready(soon(5000))));
        assert!(matches!(qmp.go(soon(5000)), Err(ControlError::Closed)));
        qmp.ready(soon(5000))
    };
    assert!(closed(against(greets_only, again)));
}

#[test]
fn a_guest_that_is_over_before_its_go_is_answered_has_gone() {
    let script = |socket: UnixStream| {
        BufReader::new(&socket).lines().next().unwrap().unwrap();
        writeln!(&socket, "{{\"event\": \"RESUME\"}}").unwrap();
    };
    against(script, |qmp| qmp.go(soon(5000))).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    assert!(matches!(Qmp::new(ours).go(soon(5000)), Err(ControlError::Closed)));
}

#[test]
fn what_is_not_of_the_protocol_is_shown() {
    for line in ["SSH-2.0-OpenSSH", "{}", "[]", "\"\"", "{\"QMP\": 1}", "{\"QMP\": {\"version\": {}}}"] {
        let script = move |socket: UnixStream| writeln!(&socket, "{line}").unwrap();
        match against(script, |qmp| qmp.ready(soon(5000))).unwrap_err() {
            ControlError::Protocol { line: shown } => assert_eq!(shown, line),
            other => panic!("{line}: {other}"),
        }
    }
    let script = scripted(&[DONE, r#"{"return": [], "id": ID}"#]);
    assert!(matches!(against(script, |qmp| qmp.ready(soon(5000))), Err(ControlError::Protocol { .. })));
}

#[test]
fn an_endless_line_is_cut_off() {
    let script = |mut socket: UnixStream| {
        let chunk = [0xffu8; 65536];
        while socket.write_all(&chunk).is_ok() {}
    };
    match against(script, |qmp| qmp.ready(soon(20_000))).unwrap_err() {
        ControlError::Protocol { line } => assert!(line.len() <= 600, "{}", line.len()),
        other => panic!("{other}"),
    }
}

/// The call fails with Timeout at its deadline, not before and not much later.
fn times_out(script: impl FnOnce(UnixStream) + Send + 'static) {
    against(script, |qmp| {
        let start = Instant::now();
        let error = qmp.ready(soon(200)).unwrap_err();
        let took = start.elapsed();
        assert!(matches!(error, ControlError::Timeout), "{error}");
        assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(10), "{took:?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_deadline_holds_whatever_the_peer_does() {
    // Silent.
    times_out(|socket| while let Some(Ok(_)) = BufReader::new(&socket).lines().next() {});
    // One byte every 10 ms: each would do for a plain read timeout.
    times_out(|mut socket| {
        for byte in GREETING.bytes().cycle() {
            if socket.write_all(&[byte]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
    });
    // Events without end instead of an answer.
    times_out(|mut socket| {
        writeln!(socket, "{GREETING}").unwrap();
        while writeln!(socket, "{{\"event\": \"NIC_RX\"}}").is_ok() {}
    });
    // Stopped, and the socket's buffer is full.
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    while (&ours).write(&[0; 4096]).is_ok() {}
    let mut qmp = Qmp::new(ours);
    assert!(matches!(qmp.go(soon(100)), Err(ControlError::Timeout)));
    // Passed already.
    assert!(matches!(qmp.go(Instant::now()), Err(ControlError::Timeout)));
    drop(theirs);
}

#[test]
fn an_end_that_comes_together_with_an_answer_is_heard() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let end = r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}"#;
    write!(&theirs, "{{\"return\": {{}}, \"id\": 1}}\r\n{end}\r\n").unwrap();
    drop(theirs);
    let mut qmp = Qmp::new(ours);
    // A guest that is over at once: QEMU is gone when the command is sent, or just behind it.
    qmp.last_id = 1;
    qmp.answer("cont", 1, soon(5000)).unwrap();
    assert_eq!(qmp.hear(), Some(GuestEnd::Reset));
}

#[test]
fn of_what_is_said_unasked_the_guests_end_is_kept() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut qmp = Qmp::new(ours);
    assert_eq!(qmp.hear(), None);
    // In pieces, among others, and behind what is no JSON.
    for piece in [
        "{\"event\": \"RTC_CHANGE\", \"data\": {\"offset\": 1}}\r\nwhat?\r\n{\"event\": \"SHUTDOWN\", ",
        "\"data\": {\"guest\": true, \"reason\": \"guest-reset\"}}\r\n{\"event\": \"STOP\"}\r\n",
    ] {
        assert_eq!(qmp.hear(), None);
        write!(&theirs, "{piece}").unwrap();
    }
    assert_eq!(qmp.hear(), Some(GuestEnd::Reset));
    // While an answer is waited for, and when QEMU is gone.
    let shutdown = r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#;
    writeln!(&theirs, "{shutdown}\r\n{{\"return\": {{}}, \"id\": 1}}\r").unwrap();
    qmp.pause(soon(5000)).unwrap();
    drop(theirs);
    assert_eq!(qmp.hear(), Some(GuestEnd::PowerOff));
}

#[test]
fn a_peer_that_talks_without_end_is_heard_for_a_moment_only() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut qmp = Qmp::new(ours);
    let talk = thread::spawn(move || while (&theirs).write_all(&[b'x'; 4096]).is_ok() {});
    for _ in 0..4 {
        qmp.hear();
        assert!(qmp.received.len() <= LONGEST_LINE + 4096);
    }
    drop(qmp);
    talk.join().unwrap();
}
