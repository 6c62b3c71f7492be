//! `delete`, the sweep and odd records: everything of ours goes, nobody else is touched, and what cannot be understood
//! is kept.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use containerd_shim_protos::api::Status;
use rustix::process::Signal;
use serde_json::{Value, json};
use urunc_tests::direct::{Bench, Proc, SOON, Spec, Survivor, eventually, eventually_some, leaves};

/// More than `delete` takes: containerd gives it 5 s.
const BUDGET: Duration = Duration::from_millis(4700);

#[test]
fn an_orphan_is_cleaned_up_and_its_end_is_told() {
    let Some(bench) = Bench::released() else { return };
    // Created only: killed by the clean-up.
    let (bundle, pid) = bench.orphaned("c1");
    let deleted = bench.delete(&bundle);
    assert_eq!((deleted.deleted().pid, deleted.deleted().exit_status), (pid, 137));
    assert_eq!(deleted.stderr, "", "what is in order needs no words");
    bundle.remove();
    bench.check();
    // Running.
    let (shim, bundle, pid) = bench.created("c1", &Spec::tiny("hang"));
    shim.client.start("c1").unwrap();
    shim.daemon.kill();
    let deleted = bench.delete(&bundle).deleted();
    assert_eq!((deleted.pid, deleted.exit_status), (pid, 137));
    bundle.remove();
    bench.check();
    // Stopped: its own exit, and when that was.
    let (shim, bundle, pid) = bench.created("c1", &Spec::tiny("exit=5"));
    shim.client.start("c1").unwrap();
    let answer = shim.client.send_wait("c1").wait().unwrap();
    eventually("the exit is recorded", || !bench.record("c1").unwrap()["exit"].is_null());
    shim.daemon.kill();
    let deleted = bench.delete(&bundle).deleted();
    assert_eq!((deleted.pid, deleted.exit_status, deleted.exited_at), (pid, 5, answer.exited_at));
    bundle.remove();
    bench.finish();
}

#[test]
fn a_daemon_that_lives_is_asked_to_end_the_container() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle, pid) = bench.created("c1", &Spec::tiny("hang"));
    let (_, other, _) = bench.created("c2", &Spec::tiny("hang").in_pod("c1"));
    shim.client.start("c1").unwrap();
    let guest = Proc::of(pid.cast_signed());
    let deleted = bench.delete(&bundle);
    assert_eq!((deleted.deleted().pid, deleted.deleted().exit_status), (pid, 137));
    assert!(deleted.took < BUDGET, "it took {:?}", deleted.took);
    assert!(!guest.is_alive());
    bench.events.expect("c1", &["create", "start", "exit", "delete"]);
    assert_eq!(shim.client.status("c2"), Ok(Status::CREATED), "the other one is as it was");
    assert!(!bench.run_directory("c1").exists());
    shim.client.delete("c2").unwrap();
    shim.daemon.signal(Signal::TERM);
    assert!(shim.daemon.ends_within(SOON));
    bench.delete(&other).deleted();
    bundle.remove();
    bench.finish();
}

#[test]
fn a_delete_during_create_cancels_it() {
    let Some(bench) = Bench::with_faults() else { return };
    let bundle = bench.bundle("c1", &Spec::tiny("hang")).without_stdio();
    let shim = bench.start(&bundle);
    for point in ["cgroup.after-acting", "launcher.root", "plan.before", "commit.before", "commit.after"] {
        bench.faults.set(&[&format!("{point}=hold"), "deadline.cancel=4000"]);
        let create = shim.client.send_create(&bundle, SOON);
        eventually("Create is at work", || bench.faults.has_fired(point));
        let delete = bench.run_delete(&bundle);
        eventually("it is cancelled", || bench.faults.has_fired("deadline.cancel"));
        bench.faults.set(&[]);
        let deleted = delete.wait();
        deleted.deleted();
        assert!(deleted.took < BUDGET, "{point}: it took {:?}", deleted.took);
        if point != "commit.after" {
            create.wait().expect_err("it was cancelled");
        }
        assert!(!bench.run_directory("c1").exists(), "{point}");
        assert!(bench.processes("c1").is_empty(), "{point}");
    }
    shim.daemon.signal(Signal::TERM);
    assert!(shim.daemon.ends_within(SOON));
    bundle.remove();
    bench.finish();
}

#[test]
fn deletes_at_once_agree() {
    let Some(bench) = Bench::released() else { return };
    for round in 0..12 {
        for situation in ["orphaned", "owned", "stopped"] {
            let (shim, bundle, pid) = bench.created("c1", &Spec::tiny("hang"));
            match situation {
                "orphaned" => shim.daemon.kill(),
                "owned" => {}
                _ => {
                    shim.client.kill("c1", 15).unwrap();
                    shim.client.wait("c1").unwrap();
                    shim.daemon.signal(Signal::TERM);
                    assert!(shim.daemon.ends_within(SOON));
                }
            }
            let first = bench.run_delete(&bundle);
            // Not always in step.
            std::thread::sleep(Duration::from_micros(round * 300));
            let runs = [first, bench.run_delete(&bundle), bench.run_delete(&bundle)];
            let status = if situation == "stopped" { 143 } else { 137 };
            let mut told = 0;
            for deleted in runs.map(urunc_tests::direct::Ran::wait) {
                assert_eq!(deleted.code, Some(0), "{situation}, round {round}: {}", deleted.stderr);
                let answer = deleted.deleted();
                // One that came when all was over knows nothing any more.
                if answer.pid != 0 {
                    assert_eq!((answer.pid, answer.exit_status), (pid, status));
                    told += 1;
                }
            }
            assert!(told > 0, "{situation}: nobody told the end");
            if situation == "owned" {
                shim.daemon.signal(Signal::TERM);
                assert!(shim.daemon.ends_within(SOON));
            }
            bundle.remove();
        }
        bench.check();
    }
    bench.finish();
}

#[test]
fn a_stopped_daemon_is_killed_by_its_recorded_identity() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle, pid) = bench.created("c1", &Spec::tiny("hang"));
    shim.client.start("c1").unwrap();
    let guest = Proc::of(pid.cast_signed());
    shim.daemon.stop();
    let deleted = bench.delete(&bundle);
    assert_eq!((deleted.deleted().pid, deleted.deleted().exit_status), (pid, 137));
    assert!(deleted.took < Duration::from_secs(4), "it took {:?}", deleted.took);
    assert!(!shim.daemon.is_alive() && !guest.is_alive());
    bundle.remove();
    bench.check();

    // An identity that is no longer the daemon's: nobody is killed for it, and `delete` says that it is not done.
    let (shim, bundle, _) = bench.created("c1", &Spec::tiny("hang"));
    shim.daemon.stop();
    bench.edit_pod_file("c1", |pod| pod["daemon"]["pid"] = bench.canary_pid().into());
    let deleted = bench.delete(&bundle);
    assert_ne!(deleted.code, Some(0), "its daemon lives");
    assert!(deleted.took < BUDGET, "it took {:?}", deleted.took);
    assert!(shim.daemon.is_alive());
    // What it could not finish goes on, detached, and ends when the daemon goes on.
    eventually("gc is at work", || !bench.actions("gc").is_empty());
    shim.daemon.signal(Signal::CONT);
    eventually("the container is ended", || bench.record("c1").is_none_or(|r| r["tombstone"] == true));
    shim.daemon.signal(Signal::TERM);
    assert!(shim.daemon.ends_within(SOON));
    eventually("gc has ended", || bench.actions("gc").is_empty());
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

#[test]
fn a_stopped_daemon_of_other_containers_is_left_alone() {
    let Some(bench) = Bench::released() else { return };
    let (shim, sandbox, _) = bench.created("pod", &Spec::tiny("hang").in_pod("pod"));
    let (_, member, _) = bench.created("c1", &Spec::tiny("hang").in_pod("pod"));
    shim.client.start("pod").unwrap();
    shim.daemon.stop();
    let deleted = bench.delete(&member);
    assert_ne!(deleted.code, Some(0));
    assert!(deleted.stderr.contains("other containers depend on it"), "{}", deleted.stderr);
    assert!(shim.daemon.is_alive(), "its death would end every guest of the pod");
    shim.daemon.signal(Signal::CONT);
    assert_eq!(shim.client.status("pod"), Ok(Status::RUNNING));
    eventually("the request that waited is served", || {
        bench.record("c1").is_none_or(|record| record["tombstone"] == true)
    });
    bench.delete(&member).deleted();
    // The sandbox ends the pod: its daemon may be killed.
    shim.daemon.stop();
    bench.delete(&sandbox).deleted();
    assert!(!shim.daemon.is_alive());
    eventually("gc has ended", || bench.actions("gc").is_empty());
    sandbox.remove();
    member.remove();
    bench.finish();
}

#[test]
fn the_sandbox_of_a_dead_daemon_takes_its_members_with_it() {
    let Some(bench) = Bench::released() else { return };
    let (shim, sandbox, _) = bench.created("pod", &Spec::tiny("hang").in_pod("pod"));
    let members: Vec<_> = ["c1", "c2"].map(|id| bench.created(id, &Spec::tiny("hang").in_pod("pod"))).into();
    let (_, stranger, _) = bench.created("other", &Spec::tiny("hang"));
    shim.daemon.kill();
    bench.delete(&sandbox).deleted();
    for (_, member, pid) in members {
        assert_eq!(bench.record(&member.id).expect("a tombstone")["tombstone"], true);
        assert_eq!(leaves(&bench.namespace, &member.id), Vec::<&Path>::new());
        let deleted = bench.delete(&member).deleted();
        assert_eq!((deleted.pid, deleted.exit_status), (pid, 137));
        member.remove();
    }
    sandbox.remove();
    // The pod of somebody else is as it was.
    let shim = bench.start(&stranger);
    assert_eq!(shim.client.status("other"), Ok(Status::CREATED));
    bench.end(&shim, stranger);
    shim.daemon.signal(Signal::TERM);
    assert!(shim.daemon.ends_within(SOON));
    bench.finish();
}

/// Each has its share of the 4 s.
#[test]
fn a_member_that_is_stuck_does_not_take_the_time_of_the_others() {
    let Some(bench) = Bench::released() else { return };
    let (shim, sandbox, _) = bench.created("pod", &Spec::tiny("hang").in_pod("pod"));
    let members: Vec<_> = ["c1", "c2"].map(|id| bench.created(id, &Spec::tiny("hang").in_pod("pod"))).into();
    let locks = ["c1", "c2"].map(|id| fs::File::open(bench.run_directory(id).join("lock")).unwrap());
    shim.daemon.kill();
    rustix::fs::flock(&locks[0], rustix::fs::FlockOperation::LockExclusive).unwrap();
    let began = Instant::now();
    let delete = bench.run_delete(&sandbox);
    let is_unwound = |id: &str| bench.record(id).is_some_and(|record| record["tombstone"] == true);
    eventually("the other one's end", || is_unwound("c2"));
    assert!(began.elapsed() < BUDGET / 2, "it took {:?}", began.elapsed());
    assert!(!is_unwound("c1"));
    drop(locks);
    delete.wait().deleted();
    assert!(began.elapsed() < BUDGET, "it took {:?}", began.elapsed());
    eventually("gc has ended", || bench.actions("gc").is_empty());
    for (_, member, _) in members {
        bench.delete(&member).deleted();
        member.remove();
    }
    sandbox.remove();
    bench.finish();
}

#[test]
fn the_working_directory_tells_which_container_is_meant() {
    let Some(bench) = Bench::released() else { return };
    // An id that never was.
    let bundle = bench.bundle("never", &Spec::tiny("hang"));
    let deleted = bench.delete(&bundle);
    assert_eq!((deleted.deleted().pid, deleted.deleted().exit_status), (0, 137));
    bundle.remove();
    bench.check();

    // A late `delete` of an older container of the same id: its bundle is another one, at whatever path.
    let (shim, bundle, _) = bench.created("c1", &Spec::tiny("hang"));
    shim.client.start("c1").unwrap();
    let older = bench.scratch().join("older");
    fs::create_dir(&older).unwrap();
    let late = bench.command("delete", "c1", &bundle.path).current_dir(&older).output().unwrap();
    assert!(late.status.success() && !late.stdout.is_empty(), "{late:?}");
    assert_eq!(shim.client.status("c1"), Ok(Status::RUNNING), "the newer one is not touched");
    assert_eq!(bench.record("c1").unwrap()["tombstone"], false);

    // A working directory that was removed is still that of its container.
    let mut script = Command::new("sh");
    let delete = bench.command("delete", "c1", &bundle.path);
    script
        .args(["-c", "rm -rf \"$PWD\"; exec \"$@\"", "sh"])
        .arg(delete.get_program())
        .args(delete.get_args());
    script.current_dir(&bundle.path).envs(delete.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let output = script.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!bundle.path.exists() && !bench.run_directory("c1").exists());
    shim.daemon.signal(Signal::TERM);
    assert!(shim.daemon.ends_within(SOON));
    bundle.remove();
    bench.finish();
}

#[test]
fn a_record_of_another_boot_loses_its_files_only() {
    let Some(bench) = Bench::released() else { return };
    let (bundle, _) = bench.orphaned("c1");
    let record = bench.record("c1").unwrap();
    bench.delete(&bundle).deleted();
    // The same numbers mean other processes now.
    bench.put_record("c1", &record);
    bench.edit_record("c1", |record| {
        let boot = "11111111-2222-3333-4444-555555555555";
        record["boot_id"] = boot.into();
        record["process"] = json!({
            "boot_id": boot, "pid": bench.canary_pid(), "start_time": start_time(bench.canary_pid()),
        });
    });
    bench.delete(&bundle).deleted();
    assert!(!bench.run_directory("c1").exists());
    bench.check();

    // And for a Create of the same id.
    let mut record = record;
    record["boot_id"] = "11111111-2222-3333-4444-555555555555".into();
    bench.put_record("c1", &record);
    bundle.remove();
    bench.run("c1", 6);
    bench.finish();
}

/// Field 22 of stat.
fn start_time(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(19).unwrap().parse().unwrap()
}

#[test]
fn a_record_of_a_newer_schema_is_kept_and_its_processes_are_ended() {
    let Some(bench) = Bench::released() else { return };
    let (bundle, _) = bench.orphaned("c1");
    let survivor = Survivor::new(&bench, "c1");
    bench.edit_record("c1", |record| {
        record["schema"] = 99.into();
        record["state"] = "levitating".into();
    });
    let path = bench.run_directory("c1").join("record.json");
    let before = fs::read(&path).unwrap();
    let deleted = bench.delete(&bundle);
    assert_ne!(deleted.code, Some(0));
    assert!(deleted.stderr.contains("schema 99"), "{}", deleted.stderr);
    assert!(deleted.took < BUDGET);
    assert!(survivor.was_killed());
    assert_eq!(leaves(&bench.namespace, "c1"), Vec::<&Path>::new());
    assert_eq!(fs::read(&path).unwrap(), before, "it is kept as it was");
    // A Create of the same id sets it aside.
    bundle.remove();
    let (shim, bundle, _) = bench.created("c1", &Spec::tiny("hang"));
    let aside = bench.run_directory("c1").join("record.json.unreadable");
    assert_eq!(fs::read(&aside).unwrap(), before);
    bench.end(&shim, bundle);
    assert_eq!(fs::read(&aside).unwrap(), before, "still kept when the newer container is gone");
    fs::remove_file(&aside).unwrap();
    fs::remove_dir_all(bench.folder().join(&bench.namespace)).ok();
    bench.finish();
}

/// One bit of a digit of the pid is another one.
fn with_another_pid(record: &str) -> String {
    let mut bytes = record.as_bytes().to_vec();
    bytes[record.find("\"pid\":").unwrap() + "\"pid\":1".len()] ^= 1;
    let other = String::from_utf8(bytes).unwrap();
    assert!(serde_json::from_str::<Value>(&other).is_ok(), "it is JSON all the same: {other}");
    other
}

#[test]
fn a_record_that_cannot_be_read_is_set_aside_and_its_processes_are_ended() {
    let Some(bench) = Bench::released() else { return };
    // Torn, emptied, of another program; and with one bit flipped: then it names another process.
    let garbage = ["", "{", "[]", "{\"schema\": 1}", "\u{0}\u{0}\u{0}\u{0}"];
    for garbage in garbage.map(Some).into_iter().chain([None]) {
        let (bundle, _) = bench.orphaned("c1");
        let survivor = Survivor::new(&bench, "c1");
        let directory = bench.run_directory("c1");
        let whole = fs::read_to_string(directory.join("record.json")).unwrap();
        let garbage = garbage.map_or_else(|| with_another_pid(&whole), str::to_owned);
        fs::write(directory.join("record.json"), &garbage).unwrap();
        // containerd asks once: what is undone keeps no id.
        let deleted = bench.delete(&bundle);
        assert_eq!((deleted.deleted().pid, deleted.deleted().exit_status), (0, 137), "{garbage:?}");
        assert!(deleted.stderr.contains("cannot be read"), "{garbage:?}: {}", deleted.stderr);
        assert!(survivor.was_killed(), "{garbage:?}");
        assert_eq!(leaves(&bench.namespace, "c1"), Vec::<&Path>::new());
        // Nothing else of it stays.
        let kept: Vec<_> = fs::read_dir(&directory).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(kept, ["record.json.unreadable"], "{garbage:?}");
        assert_eq!(fs::read_to_string(directory.join(&kept[0])).unwrap(), garbage);
        // It blocks nobody: another `delete`, a Create of the same id.
        bench.delete(&bundle).deleted();
        bundle.remove();
        bench.run("c1", 4);
        fs::remove_dir_all(bench.folder().join(&bench.namespace)).ok();
        bench.check();
    }
    bench.finish();
}

#[test]
fn what_stands_in_the_place_of_a_record_holds_up_nobody() {
    let Some(bench) = Bench::released() else { return };
    for kind in ["FIFO", "folder", "link"] {
        let (bundle, _) = bench.orphaned("c1");
        let survivor = Survivor::new(&bench, "c1");
        let record = bench.run_directory("c1").join("record.json");
        fs::remove_file(&record).unwrap();
        match kind {
            "FIFO" => mkfifo(&record),
            "folder" => fs::create_dir(&record).unwrap(),
            _ => std::os::unix::fs::symlink("/etc/hostname", &record).unwrap(),
        }
        let deleted = bench.delete(&bundle);
        assert_eq!(deleted.deleted().exit_status, 137, "{kind}");
        assert!(deleted.stderr.contains("no regular file"), "{kind}: {}", deleted.stderr);
        assert!(deleted.took < BUDGET && survivor.was_killed(), "{kind}");
        assert_eq!(leaves(&bench.namespace, "c1"), Vec::<&Path>::new());
        bench.delete(&bundle).deleted();
        bundle.remove();
        let aside = record.with_extension("json.unreadable");
        fs::remove_file(&aside).or_else(|_| fs::remove_dir(&aside)).unwrap();
        bench.run("c1", 4);
        bench.check();
    }
    for name in ["plan.json", "lock"] {
        let (bundle, _) = bench.orphaned("c1");
        let place = bench.run_directory("c1").join(name);
        fs::remove_file(&place).unwrap();
        fs::create_dir(&place).unwrap();
        bench.delete(&bundle).deleted();
        bundle.remove();
        fs::remove_dir(place.with_file_name(format!("{name}.unreadable"))).unwrap();
        bench.run("c1", 5);
        bench.check();
    }
    bench.finish();
}

fn mkfifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
}

#[test]
fn a_delete_of_nothing_needs_no_folder() {
    let Some(mut bench) = Bench::released() else { return };
    // Where nothing can be made, nothing was.
    bench.set_variable("URUNC_ROOT", "/proc/sys/urunc");
    let bundle = bench.bundle("c1", &Spec::tiny("hang"));
    let deleted = bench.delete(&bundle);
    assert_eq!((deleted.deleted().exit_status, deleted.stderr.as_str()), (137, ""));
    bundle.remove();
    bench.finish();
}

#[test]
fn a_tombstone_that_cannot_be_written_keeps_neither_daemon_nor_id() {
    let Some(bench) = Bench::with_faults() else { return };
    for daemon in ["lives", "is dead"] {
        let (shim, bundle, pid) = bench.created("c1", &Spec::tiny("hang"));
        shim.client.start("c1").unwrap();
        if daemon == "is dead" {
            shim.daemon.kill();
        }
        bench.faults.set(&["record.write=error"]);
        let deleted = bench.delete(&bundle);
        assert_eq!((deleted.deleted().pid, deleted.deleted().exit_status), (pid, 137), "the daemon {daemon}");
        assert!(bench.faults.has_fired("record.write"));
        bundle.remove();
        if daemon == "lives" {
            shim.client.shutdown("c1");
            assert!(shim.daemon.ends_within(SOON), "its daemon stays");
        }
        bench.faults.set(&[]);
        bench.check();
        bench.run("c1", 6);
    }
    bench.finish();
}

#[test]
fn a_run_directory_without_a_record_means_that_nothing_happened() {
    let Some(bench) = Bench::released() else { return };
    for files in
        [&[][..], &["lock"], &["lock", "tx-0123456789ab"], &["lock", ".record.json.new", "plan.json"]]
    {
        let bundle = bench.bundle("c1", &Spec::tiny("hang"));
        let make = || {
            fs::create_dir_all(bench.run_directory("c1")).unwrap();
            for file in files {
                fs::write(bench.run_directory("c1").join(file), "{").unwrap();
            }
        };
        make();
        assert_eq!(bench.delete(&bundle).deleted().exit_status, 137);
        assert!(!bench.run_directory("c1").exists(), "{files:?}");
        make();
        bundle.remove();
        bench.run("c1", 2);
        bench.check();
    }
    bench.finish();
}

#[test]
fn a_record_that_names_a_process_that_cannot_be_ours_signals_nobody() {
    let Some(bench) = Bench::released() else { return };
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned();
    for pid in [1, 0, -1, -2, i64::from(bench.canary_pid()), i64::from(std::process::id())] {
        // The canary's number with another start time: the number was used again.
        let process = json!({"boot_id": boot, "pid": pid, "start_time": 4711});
        for verb in ["delete", "create"] {
            let (bundle, _) = bench.orphaned("c1");
            let survivor = Survivor::new(&bench, "c1");
            bench.edit_record("c1", |record| record["process"] = process.clone());
            if verb == "delete" {
                let deleted = bench.delete(&bundle);
                assert_eq!(deleted.code, Some(0), "pid {pid}: {}", deleted.stderr);
                assert!(survivor.was_killed(), "whoever is in our leaf is ours");
                bundle.remove();
            } else {
                bundle.remove();
                bench.run("c1", 3);
                assert!(survivor.was_killed(), "whoever is in our leaf is ours");
            }
            bench.check();
        }
    }
    // Its own number, start time and all.
    let (bundle, _) = bench.orphaned("c1");
    let delete = bench.command("delete", "c1", &bundle.path);
    let record = bench.run_directory("c1").join("record.json");
    let own = r#"
        start=$(cut -d' ' -f22 /proc/$$/stat)
        tail=$(tail -c +78 "$1" | sed "s/\"pid\":[0-9]*,\"start_time\":[0-9]*/\"pid\":$$,\"start_time\":$start/")
        sum=$(printf '%s\n' "$tail" | sha256sum | cut -d' ' -f1)
        printf '{"sha256":"%s",%s\n' "$sum" "$tail" >"$1"
        shift
        exec "$@""#;
    let mut script = Command::new("sh");
    script.args(["-c", own, "sh"]).arg(&record).arg(delete.get_program()).args(delete.get_args());
    script.current_dir(&bundle.path).envs(delete.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let output = script.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    bundle.remove();
    bench.finish();
}

#[test]
fn a_delete_that_was_killed_at_any_point_is_made_up_for_by_the_next_one() {
    let Some(bench) = Bench::with_faults() else { return };
    let (bundle, _) = bench.orphaned("dry");
    bench.faults.set(&["*=trace"]);
    bench.delete(&bundle).deleted();
    let passed: Vec<String> = bench.faults.fired().into_iter().map(|f| f.name).collect();
    bench.faults.set(&[]);
    bundle.remove();
    assert!(
        passed.iter().any(|p| p == "launcher.undo") && passed.iter().any(|p| p == "record.torn"),
        "{passed:?}"
    );
    for (n, point) in passed.iter().enumerate() {
        let passage = passed[..=n].iter().filter(|p| *p == point).count();
        let (bundle, pid) = bench.orphaned("c1");
        let survivor = Survivor::new(&bench, "c1");
        bench.faults.set(&[&format!("{point}#{passage}=kill")]);
        let killed = bench.delete(&bundle);
        assert_eq!(killed.code, None, "{point}#{passage}: {killed:?}");
        bench.faults.set(&[]);
        if let Ok(text) = fs::read(bench.run_directory("c1").join("record.json")) {
            urunc_tests::direct::check_record(&text).unwrap_or_else(|e| panic!("{point}#{passage}: {e}"));
        }
        let deleted = bench.delete(&bundle).deleted();
        assert_eq!((deleted.pid, deleted.exit_status), (pid, 137), "{point}#{passage}");
        assert!(survivor.was_killed());
        bundle.remove();
        bench.check();
    }
    bench.finish();
}

/// Also where there was no room for the one that does it at first.
#[test]
fn what_delete_cannot_finish_goes_on_without_it() {
    let Some(bench) = Bench::with_faults() else { return };
    for more in [&[][..], &["standby.spawn#once=error"]] {
        let (bundle, pid) = bench.orphaned("c1");
        bench.faults.set(&[&["cgroup.undo=error"], more].concat());
        let deleted = bench.delete(&bundle);
        assert_ne!(deleted.code, Some(0));
        assert!(deleted.stderr.contains("injected fault at cgroup.undo"), "{}", deleted.stderr);
        assert_eq!(deleted.answer().exit_status, 137, "it tells what it knows all the same");
        assert!(more.is_empty() || bench.faults.has_fired("standby.spawn"));
        // While gc tries, it says "unwinding" for as long as the disk takes to write it.
        eventually("it is blocked", || bench.record("c1").unwrap()["state"] == "unwind-blocked");
        let gc = eventually_some("a detached gc", || bench.actions("gc").pop());
        for fd in 0..3 {
            assert_eq!(fs::read_link(format!("/proc/{}/fd/{fd}", gc.pid())).unwrap(), Path::new("/dev/null"));
        }
        bench.faults.set(&[]);
        assert!(gc.ends_within(SOON), "gc ends with its work");
        assert_eq!(leaves(&bench.namespace, "c1"), Vec::<&Path>::new());
        // Whoever asks next is told.
        let deleted = bench.delete(&bundle).deleted();
        assert_eq!((deleted.pid, deleted.exit_status), (pid, 137));
        bundle.remove();
        bench.check();
    }
    bench.finish();
}

/// containerd calls it once, whatever becomes of it.
#[test]
fn what_a_killed_delete_had_begun_goes_on_without_it() {
    let Some(bench) = Bench::with_faults() else { return };
    for what in ["a whole record", "a garbled one", "none"] {
        let (bundle, pid) = bench.orphaned("c1");
        eventually("the daemon's own has gone", || bench.actions("gc").is_empty());
        let survivor = Survivor::new(&bench, "c1");
        let record = bench.run_directory("c1").join("record.json");
        match what {
            "a garbled one" => fs::write(&record, "{").unwrap(),
            "none" => fs::remove_file(&record).unwrap(),
            _ => {}
        }
        bench.faults.set(&["launcher.undo=delay:20000"]);
        let delete = bench.run_delete(&bundle);
        eventually("it is in the middle of it", || bench.faults.has_fired("launcher.undo"));
        bench.faults.set(&[]);
        assert!(Proc::of(survivor.pid()).is_alive() && bench.actions("gc").len() == 1, "{what}");
        delete.process().kill();
        assert_eq!(delete.wait().code, None);
        eventually("gc does the rest", || bench.actions("gc").is_empty());
        assert!(survivor.was_killed(), "{what}");
        assert_eq!(leaves(&bench.namespace, "c1"), Vec::<&Path>::new(), "{what}");
        assert!(!bench.socket("c1").exists() && !bench.pod_file("c1").exists(), "{what}");
        // Its end is still there to be told, as far as it was known.
        let known = if what == "a whole record" { pid } else { 0 };
        assert_eq!(bench.delete(&bundle).deleted().pid, known, "{what}");
        bundle.remove();
        fs::remove_dir_all(bench.folder().join(&bench.namespace)).ok();
        bench.check();
    }
    bench.finish();
}

/// Whoever goes on with it does as it would have done.
#[test]
fn a_stopped_daemon_does_not_outlive_a_delete_that_is_killed() {
    let Some(bench) = Bench::released() else { return };
    for what in ["a whole record", "a garbled one"] {
        let (shim, bundle, pid) = bench.created("c1", &Spec::tiny("hang"));
        shim.client.start("c1").unwrap();
        eventually("the daemon's own has gone", || bench.actions("gc").is_empty());
        let guest = Proc::of(pid.cast_signed());
        if what == "a garbled one" {
            fs::write(bench.run_directory("c1").join("record.json"), "{").unwrap();
        }
        shim.daemon.stop();
        let delete = bench.run_delete(&bundle);
        eventually("somebody stands by", || !bench.actions("gc").is_empty());
        delete.process().kill();
        assert_eq!(delete.wait().code, None);
        eventually("gc does the rest", || !shim.daemon.is_alive() && !guest.is_alive());
        eventually("gc has ended", || bench.actions("gc").is_empty());
        assert_eq!(leaves(&bench.namespace, "c1"), Vec::<&Path>::new(), "{what}");
        bench.delete(&bundle).deleted();
        bundle.remove();
        fs::remove_dir_all(bench.folder().join(&bench.namespace)).ok();
        bench.check();
    }
    bench.finish();
}

/// An undo that blocks in the kernel looks at no deadline. containerd kills `delete` after 5 s, and asks no more.
#[test]
fn a_delete_that_hangs_answers_in_time_and_goes_on_without_it() {
    let Some(bench) = Bench::with_faults() else { return };
    let (bundle, pid) = bench.orphaned("c1");
    bench.faults.set(&["cgroup.undo=delay:6000"]);
    let began = Instant::now();
    let both = [bench.run_delete(&bundle), bench.run_delete(&bundle)].map(|ran| ran.wait());
    assert!(began.elapsed() < Duration::from_millis(4900), "{:?}", began.elapsed());
    for deleted in &both {
        assert_ne!(deleted.code, Some(0));
        assert_eq!(deleted.answer().exit_status, 137, "it tells what it knows all the same");
    }
    bench.faults.set(&[]);
    eventually("gc does the rest", || leaves(&bench.namespace, "c1").is_empty());
    let deleted = bench.delete(&bundle).deleted();
    assert_eq!((deleted.pid, deleted.exit_status), (pid, 137));
    bundle.remove();
    bench.finish();
}

#[test]
fn a_daemon_tries_again_what_it_could_not_undo() {
    let Some(bench) = Bench::with_faults() else { return };
    let (shim, bundle, _) = bench.created("c1", &Spec::tiny("hang"));
    bench.faults.set(&["cgroup.undo=error"]);
    let failure = shim.client.delete("c1").unwrap_err();
    assert!(failure.message.contains("injected fault at cgroup.undo"), "{failure:?}");
    assert_eq!(bench.record("c1").unwrap()["state"], "unwind-blocked");
    shim.client.shutdown("c1");
    assert!(shim.daemon.is_alive(), "a daemon with a blocked record stays");
    bench.faults.set(&[]);
    eventually("it is tried again", || bench.record("c1").is_some_and(|r| r["tombstone"] == true));
    assert_eq!(leaves(&bench.namespace, "c1"), Vec::<&Path>::new());
    bench.delete(&bundle).deleted();
    shim.client.shutdown("c1");
    assert!(shim.daemon.ends_within(SOON));
    bundle.remove();

    // A Create that could not be undone: the same.
    let bundle = bench.bundle("c2", &Spec::tiny("hang")).without_stdio();
    let shim = bench.start(&bundle);
    bench.faults.set(&["plan.made=error", "launcher.undo=error"]);
    let failure = shim.client.create(&bundle).unwrap_err();
    assert!(failure.message.contains("launcher failed"), "{failure:?}");
    assert!(failure.message.contains("blocked: cgroup"), "what a process holds is not touched: {failure:?}");
    bench.faults.set(&[]);
    eventually("it is tried again", || bench.record("c2").is_none_or(|r| r["tombstone"] == true));
    bench.delete(&bundle).deleted();
    shim.client.shutdown("c2");
    assert!(shim.daemon.ends_within(SOON));
    bundle.remove();
    bench.finish();
}

#[test]
fn a_sweep_leaves_tombstones_for_the_deletes_that_come() {
    let Some(bench) = Bench::released() else { return };
    let (killed, pid) = bench.orphaned("killed");
    let (shim, stopped, _) = bench.created("stopped", &Spec::tiny("exit=9"));
    shim.client.start("stopped").unwrap();
    assert_eq!(shim.client.wait("stopped"), Ok(9));
    eventually("the exit is recorded", || !bench.record("stopped").unwrap()["exit"].is_null());
    shim.daemon.kill();
    // One whose bundle is gone: nobody will ask.
    let (gone, _) = bench.orphaned("gone");
    gone.remove();
    // Records that nobody understands, and one of a daemon that lives.
    fs::create_dir_all(bench.run_directory("empty")).unwrap();
    let (living, kept, kept_pid) = bench.created("kept", &Spec::tiny("hang"));

    let (shim, bundle, _) = bench.created("sweeper", &Spec::tiny("hang"));
    eventually("the sweep", || {
        let buried = |id| bench.record(id).is_some_and(|r| r["tombstone"] == true);
        buried("killed") && buried("stopped") && !bench.run_directory("gone").exists()
    });
    eventually("the empty one is gone", || !bench.run_directory("empty").exists());
    for id in ["killed", "stopped", "gone"] {
        assert_eq!(leaves(&bench.namespace, id), Vec::<&Path>::new(), "{id}");
    }
    eventually("sockets of dead daemons are gone", || {
        !bench.socket("killed").exists() && !bench.socket("gone").exists()
    });
    assert_eq!(living.client.status("kept"), Ok(Status::CREATED));
    assert!(Proc::of(kept_pid.cast_signed()).is_alive());

    let late = bench.delete(&killed).deleted();
    assert_eq!((late.pid, late.exit_status), (pid, 137));
    assert_eq!(bench.delete(&stopped).deleted().exit_status, 9);
    killed.remove();
    stopped.remove();
    bench.end(&shim, bundle);
    bench.end(&living, kept);
    bench.finish();
}

#[test]
fn a_sweep_does_not_touch_what_it_does_not_understand_while_a_daemon_lives() {
    let Some(bench) = Bench::released() else { return };
    // A newer version of us has a container that runs, and then an older one creates something.
    let (newer, bundle, pid) = bench.created("newer", &Spec::tiny("hang"));
    newer.client.start("newer").unwrap();
    bench.edit_record("newer", |record| record["schema"] = 99.into());
    let (torn, other, torn_pid) = bench.created("torn", &Spec::tiny("hang"));
    fs::write(bench.run_directory("torn").join("record.json"), "{").unwrap();
    // A third one sweeps, and does what it can: the tombstone of this one tells when it is done.
    let (swept, _) = bench.orphaned("zz-last");
    let (shim, sweeper, _) = bench.created("sweeper", &Spec::tiny("hang"));
    eventually("the sweep", || bench.record("zz-last").is_some_and(|r| r["tombstone"] == true));
    assert!(
        Proc::find(pid.cast_signed()).is_some_and(|p| p.is_alive()),
        "a guest of a newer version was killed"
    );
    assert_eq!(newer.client.status("newer"), Ok(Status::RUNNING));
    assert!(
        Proc::find(torn_pid.cast_signed()).is_some_and(|p| p.is_alive()),
        "a guest of a living daemon was killed"
    );
    assert_eq!(torn.client.status("torn"), Ok(Status::CREATED));

    bench.edit_record("newer", |record| record["schema"] = 1.into());
    bench.delete(&swept).deleted();
    swept.remove();
    bench.end(&newer, bundle);
    bench.end(&torn, other);
    bench.end(&shim, sweeper);
    bench.finish();
}

#[test]
fn a_create_of_an_id_that_another_daemon_holds_is_refused() {
    let Some(bench) = Bench::released() else { return };
    let (shim, bundle, _) = bench.created("c1", &Spec::tiny("hang"));
    // By mistake of somebody: the same id in another pod.
    let other = bench.bundle("c2", &Spec::tiny("hang")).without_stdio();
    let second = bench.start(&other);
    let mut same = bench.bundle("c3", &Spec::tiny("hang").in_pod("c2")).without_stdio();
    "c1".clone_into(&mut same.id);
    let failure = second.client.create(&same).unwrap_err();
    assert_eq!(failure.code, Some(containerd_shim_protos::ttrpc::Code::ALREADY_EXISTS), "{failure:?}");
    assert_eq!(shim.client.status("c1"), Ok(Status::CREATED));
    // And taken over when the other daemon is dead.
    shim.daemon.kill();
    second.client.create(&same).unwrap();
    // The late `delete` of the first one means another bundle.
    bench.delete(&bundle).deleted();
    assert_eq!(second.client.status("c1"), Ok(Status::CREATED));
    second.client.delete("c1").unwrap();
    second.client.shutdown("c2");
    assert!(second.daemon.ends_within(SOON));
    bench.delete(&other).deleted();
    bundle.remove();
    bench.finish();
}

#[test]
fn a_delete_ends_in_time_whatever_holds_it() {
    let Some(bench) = Bench::with_faults() else { return };
    // Somebody holds the record lock.
    let (bundle, _) = bench.orphaned("c1");
    let lock = fs::File::open(bench.run_directory("c1").join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let began = Instant::now();
    let deleted = bench.delete(&bundle);
    assert_ne!(deleted.code, Some(0));
    assert!(began.elapsed() < BUDGET, "it took {:?}", began.elapsed());
    drop(lock);
    eventually("gc finishes it", || bench.actions("gc").is_empty());
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

#[test]
fn a_daemon_that_is_just_dying_is_waited_for() {
    let Some(bench) = Bench::released() else { return };
    // As containerd does it: `delete` of every container, at once, as soon as the connection breaks.
    for round in 0..15 {
        let (shim, sandbox, _) = bench.created("pod", &Spec::tiny("hang").in_pod("pod"));
        let (_, member, _) = bench.created("c1", &Spec::tiny("hang").in_pod("pod"));
        shim.client.start("pod").unwrap();
        shim.daemon.signal(Signal::KILL);
        let runs = [bench.run_delete(&member), bench.run_delete(&sandbox)];
        for deleted in runs.map(urunc_tests::direct::Ran::wait) {
            assert_eq!(deleted.deleted().exit_status, 137, "round {round}: {}", deleted.stderr);
        }
        sandbox.remove();
        member.remove();
        bench.check();
    }
    // One that takes its time: its memory is freed before its files, on a busy machine a long while before. Its owner
    // lock is held here in its place.
    let (shim, sandbox, _) = bench.created("pod", &Spec::tiny("hang").in_pod("pod"));
    let (_, member, _) = bench.created("c1", &Spec::tiny("hang").in_pod("pod"));
    let owner = bench.record("c1").unwrap()["owner"].as_str().unwrap().to_owned();
    shim.daemon.kill();
    let lock = fs::File::open(bench.folder().join(".owners").join(owner)).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let delete = bench.run_delete(&member);
    std::thread::sleep(Duration::from_millis(150));
    drop(lock);
    delete.wait().deleted();
    bench.delete(&sandbox).deleted();
    sandbox.remove();
    member.remove();
    bench.finish();
}
