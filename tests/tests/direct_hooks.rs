//! Hooks: what they are told, where they stand in a container's life, and that one that fails, hangs or is cut off
//! leaves nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use containerd_shim_protos::ttrpc::Code;
use serde_json::{Value, json};
use urunc_tests::direct::{Bench, Proc, SOON, Spec, eventually, unseal};

/// A shell as a hook.
fn hook(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
}

/// The same that may take so many seconds.
fn hook_within(seconds: u32, script: &str) -> Value {
    let mut hook = hook(script);
    hook["timeout"] = seconds.into();
    hook
}

/// The tiny guest with these hooks.
fn spec(hooks: &Value) -> Spec {
    Spec::tiny("hang").edit(|s| s["hooks"] = hooks.clone())
}

/// A file of the test, and a script that adds a line to it.
fn line(bench: &Bench, name: &str, line: &str) -> (PathBuf, String) {
    let path = bench.scratch().join(name);
    let script = format!("echo {line} >> {}", path.display());
    (path, script)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// An argument of `sleep` that no other process has in its command line: more than an hour.
fn mark(kind: u32) -> String {
    format!("36{kind}0.{:07}", std::process::id())
}

/// The processes whose command line has this in it.
fn processes(part: &str) -> Vec<Proc> {
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let named = |pid: &i32| {
        *pid > 1
            && String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default())
                .contains(part)
    };
    pids.filter(named).filter_map(Proc::find).collect()
}

#[test]
fn each_hook_is_told_the_state_in_its_place() {
    let Some(bench) = Bench::released() else { return };
    let (order, first) = line(&bench, "order", "prestart");
    let (_, second) = line(&bench, "order", "createRuntime");
    let (_, last) = line(&bench, "order", "poststop");
    let keep = |name: &str| format!("cat > {}", bench.scratch().join(name).display());
    let netns = bench.scratch().join("netns");
    let look = format!(
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); readlink /proc/$pid/ns/net > {}",
        netns.display()
    );
    let with_env = json!({
        "path": "/bin/sh", "args": ["my-name", "-c", format!("echo $0 $A $HOME >> {}; pwd >> {}", order.display(), order.display())],
        "env": ["A=b=c", "PATH=/usr/bin:/bin"],
    });
    let hooks = json!({
        "prestart": [hook(&format!("{first}; {}", keep("prestart")))],
        "createRuntime": [hook(&second), hook(&look), with_env],
        "poststop": [hook(&format!("{last}; {}", keep("poststop")))],
    });
    let (shim, bundle, pid) = bench.created("c1", &spec(&hooks));
    let told = |name: &str| serde_json::from_str::<Value>(&read(&bench.scratch().join(name))).unwrap();
    let mut expected = json!({
        "ociVersion": "1.1.0", "id": "c1", "status": "creating", "pid": pid, "bundle": bundle.path,
        "annotations": {
            "com.urunc.unikernel.unikernelType": "unikraft",
            "com.urunc.unikernel.binary": "/kernel",
        },
    });
    assert_eq!(told("prestart"), expected);
    let words = format!("prestart\ncreateRuntime\nmy-name b=c\n{}\n", bundle.path.display());
    assert_eq!(read(&order), words);
    // The hook has seen the task's own network, which is there from then on.
    let own = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_eq!(read(&netns).trim(), own.to_str().unwrap());
    assert_ne!(own, fs::read_link("/proc/self/ns/net").unwrap());
    assert_eq!(bench.record("c1").unwrap()["journal"][2]["step"], "hooks");

    shim.client.start("c1").unwrap();
    assert_eq!(fs::read_link(format!("/proc/{pid}/ns/net")).unwrap(), own);
    shim.client.kill("c1", 9).unwrap();
    shim.client.wait("c1").unwrap();
    assert_eq!(read(&order), words, "poststop belongs to Delete");
    shim.client.delete("c1").unwrap();
    expected["status"] = "stopped".into();
    expected.as_object_mut().unwrap().remove("pid");
    assert_eq!(told("poststop"), expected);
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    assert_eq!(read(&order), format!("{words}poststop\n"), "once");
    bundle.remove();
    bench.finish();
}

/// As nerdctl does it.
#[test]
fn a_guest_takes_the_interface_that_a_hook_has_made() {
    let Some(bench) = Bench::released() else { return };
    let wire = "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); exec nsenter -t $pid -n sh -ec '
        ip link add pod0 mtu 1450 type veth peer name outside; ip link set outside up; ip link set pod0 up
        ip addr add 10.244.7.9/24 dev pod0; ip route add default via 10.244.7.1'";
    let (shim, bundle, _) = bench.created("c1", &spec(&json!({"createRuntime": [hook(wire)]})));
    let plan = unseal(&fs::read(bench.run_directory("c1").join("plan.json")).unwrap()).unwrap();
    let interface = &plan["what"]["guest"]["network"]["known"]["interface"];
    assert_eq!((&interface["name"], &interface["mtu"]), (&"pod0".into(), &1450.into()), "{plan}");
    shim.client.start("c1").unwrap();
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn a_hook_that_fails_fails_create_with_its_last_words() {
    let Some(bench) = Bench::released() else { return };
    let (after, wait) = line(&bench, "after", "createRuntime");
    let (stopped, stop) = line(&bench, "stopped", "poststop");
    let failing = "echo one >&2; echo 'no such bridge' >&2; exit 3";
    let hooks = json!({
        "prestart": [hook("true"), hook(failing)], "createRuntime": [hook(&wait)],
        "poststop": [hook("echo loud >&2; exit 1"), hook(&stop)],
    });
    let bundle = bench.bundle("c1", &spec(&hooks)).without_stdio();
    let shim = bench.start(&bundle);
    let failure = shim.client.create(&bundle).unwrap_err();
    for words in [
        "hooks.prestart[1]: /bin/sh ended with exit status 3: no such bridge",
        "undone: hooks, launcher, cgroup",
    ] {
        assert!(failure.message.contains(words), "{failure:?}");
    }
    assert!(!after.exists(), "the next hook was run all the same");
    assert_eq!(read(&stopped), "poststop\n");
    assert!(!bench.run_directory("c1").exists());
    // One that fails in the undo holds up nobody, and is told in the log.
    bundle.wait_for_log("hooks.poststop[0]: /bin/sh ended with exit status 1: loud");

    for (hook, words) in [
        (json!({"path": "/nowhere/hook"}), "hooks.prestart[0]: /nowhere/hook cannot be started"),
        (hook("kill -9 $$"), "was killed by signal 9"),
    ] {
        let spec = spec(&json!({"prestart": [hook]})).in_pod("c1");
        let other = bench.bundle("c2", &spec).without_stdio();
        let failure = shim.client.create(&other).unwrap_err();
        assert!(failure.message.contains(words), "{failure:?}");
        other.remove();
    }
    for (hook, words) in [
        (json!({"path": "bin/hook"}), "hooks.prestart[0].path: \"bin/hook\" is not absolute"),
        (hook_within(0, "true"), "hooks.prestart[0].timeout: \"0\" is no time"),
    ] {
        let spec = spec(&json!({"prestart": [hook]})).in_pod("c1");
        let other = bench.bundle("c2", &spec).without_stdio();
        let failure = shim.client.create(&other).unwrap_err();
        assert_eq!(failure.code, Some(Code::INVALID_ARGUMENT));
        assert!(failure.message.contains(words), "{failure:?}");
        other.remove();
    }
    shim.client.shutdown("c1");
    bundle.remove();
    bench.finish();
}

/// With what it has started, which is in no cgroup of ours.
#[test]
fn a_hook_that_hangs_is_ended_at_its_deadline() {
    let Some(bench) = Bench::released() else { return };
    let mark = mark(1);
    let hang = format!("sleep {mark} & sleep {mark}");
    let bundle = bench.bundle("c1", &spec(&json!({"prestart": [hook_within(1, &hang)]}))).without_stdio();
    let shim = bench.start(&bundle);
    let failure = shim.client.create(&bundle).unwrap_err();
    assert!(failure.message.contains("did not end within 1.0 s and was killed"), "{failure:?}");
    assert_eq!(processes(&mark).len(), 0, "what the hook started lives");

    // In the undo it is a warning.
    let hooks = json!({"poststop": [hook_within(1, &hang)]});
    let other = bench.bundle("c2", &spec(&hooks).in_pod("c1")).without_stdio();
    shim.client.create(&other).unwrap();
    shim.client.delete("c2").unwrap();
    bundle.wait_for_log("did not end within 1.0 s");
    assert_eq!(processes(&mark).len(), 0, "what the hook started lives");
    other.remove();

    // Neither a hook that says much and reads nothing, nor one whose child keeps its stderr, holds us up.
    let (said, say) = line(&bench, "said", "done");
    let loud = format!("head -c 1000000 /dev/zero | tr '\\0' x >&2; {say}");
    let left = self::mark(3);
    let quiet = format!("sleep {left} <&- >&- & true");
    let other = bench
        .bundle("c3", &spec(&json!({"prestart": [hook(&loud), hook(&quiet)]})).in_pod("c1"))
        .without_stdio();
    let began = Instant::now();
    shim.client.create(&other).unwrap();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(read(&said), "done\n");
    shim.client.delete("c3").unwrap();
    other.remove();
    // That child was left on purpose.
    eventually("the quiet child is left alone", || processes(&left).len() == 1);
    processes(&left).iter().for_each(Proc::kill);
    shim.client.shutdown("c1");
    bundle.remove();
    bench.finish();
}

#[test]
fn a_create_that_is_cancelled_does_not_wait_for_its_hook() {
    let Some(bench) = Bench::released() else { return };
    let (begun, begin) = line(&bench, "begun", "x");
    let (stopped, stop) = line(&bench, "stopped", "poststop");
    let hooks = json!({"prestart": [hook(&format!("{begin}; sleep 60"))], "poststop": [hook(&stop)]});
    let bundle = bench.bundle("c1", &spec(&hooks)).without_stdio();
    let shim = bench.start(&bundle);
    let create = shim.client.send_create(&bundle, Duration::from_secs(30));
    eventually("the hook runs", || begun.exists());
    let began = Instant::now();
    assert_eq!(shim.client.delete("c1").unwrap_err().code, Some(Code::NOT_FOUND));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    create.wait().expect_err("it was cancelled");
    assert_eq!(read(&stopped), "poststop\n");
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

/// The daemon is killed in the middle of a hook; whoever cleans up ends it, and what it has started, and runs poststop
/// once.
#[test]
fn a_hook_that_is_cut_off_is_no_orphan() {
    let Some(bench) = Bench::released() else { return };
    let mark = mark(2);
    let (stopped, stop) = line(&bench, "stopped", "poststop");
    let hooks =
        json!({"prestart": [hook(&format!("sleep {mark} & sleep {mark}; true"))], "poststop": [hook(&stop)]});
    let bundle = bench.bundle("c1", &spec(&hooks)).without_stdio();
    let shim = bench.start(&bundle);
    let create = shim.client.send_create(&bundle, Duration::from_secs(30));
    // The shell, whose command line has it too, and its two children.
    eventually("the hook runs", || processes(&mark).len() == 3);
    shim.daemon.kill();
    create.wait().expect_err("the daemon is dead");
    assert!(shim.daemon.ends_within(SOON));
    bench.delete(&bundle).deleted();
    eventually("what the hook started is dead", || processes(&mark).is_empty());
    bench.delete(&bundle).deleted();
    assert_eq!(read(&stopped), "poststop\n");
    bundle.remove();
    bench.finish();
}

/// A daemon that is killed when its poststop hooks are half done; and one whose record is lost.
#[test]
fn poststop_runs_once_whoever_cleans_up() {
    let Some(bench) = Bench::with_faults() else { return };
    let (stopped, first) = line(&bench, "stopped", "first");
    let (_, second) = line(&bench, "stopped", "second");
    let hooks = json!({"poststop": [hook(&first), hook(&second)]});
    for (fault, expected) in [
        // Killed before the second one was run, and after both were.
        ("hook.running#2=kill", "first\nsecond\n"),
        ("hooks.undone=kill", "first\nsecond\n"),
        // By the `delete` action alone.
        ("", "first\nsecond\n"),
    ] {
        let (shim, bundle, _) = bench.created("c1", &spec(&hooks));
        if fault.is_empty() {
            shim.daemon.kill();
        } else {
            bench.faults.set(&[fault]);
            shim.client.delete("c1").expect_err("the daemon is killed");
        }
        assert!(shim.daemon.ends_within(SOON));
        bench.faults.set(&[]);
        bench.delete(&bundle).deleted();
        let mut lines: Vec<String> = read(&stopped).lines().map(str::to_owned).collect();
        // The second had begun when the daemon was killed: then it may have come to its line, and is run again.
        lines.dedup();
        assert_eq!(lines.join("\n") + "\n", expected, "{fault}");
        bundle.remove();
        fs::remove_file(&stopped).unwrap();
    }

    let (shim, bundle, _) = bench.created("c1", &spec(&hooks));
    shim.daemon.kill();
    assert!(shim.daemon.ends_within(SOON));
    fs::write(bench.run_directory("c1").join("record.json"), "nonsense").unwrap();
    bench.delete(&bundle);
    assert_eq!(read(&stopped), "first\nsecond\n", "a record that cannot be read");
    fs::remove_dir_all(bench.run_directory("c1").parent().unwrap()).unwrap();
    bench.delete(&bundle).deleted();
    assert_eq!(read(&stopped), "first\nsecond\n");
    bundle.remove();
    bench.finish();
}
