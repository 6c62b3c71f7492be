//! Names that would lead elsewhere are refused at every door by which one comes in: flags, annotations, the Task service,
//! the daemons' own calls, folders on the disk. Those in a record are in `direct_handles.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{fs, process::Command};

use containerd_shim_protos::{
    api::{ConnectRequest, ConnectResponse},
    ttrpc::Code,
};
use urunc_tests::direct::{Bench, Failure, SOON, Spec, urunc};

/// Whom nobody is called.
fn hostile() -> Vec<String> {
    let names =
        ["../x", "..", ".", ".x", "a/b", "/x", "x\ny", "x\0y", "-x", "--id=x", "", " ", "x y", "\u{e9}"];
    names.map(str::to_owned).into_iter().chain(["x".repeat(4096), "x".repeat(256)]).collect()
}

/// Those that a command line can have.
fn hostile_words() -> Vec<String> {
    hostile().into_iter().filter(|name| !name.contains('\0')).collect()
}

/// Everything below the records' root.
fn tree(bench: &Bench) -> Vec<String> {
    let listed = Command::new("find").arg(&bench.root).output().unwrap();
    String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn flags() {
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.bundle("c1", &Spec::tiny("hang")).without_stdio();
    let before = tree(&bench);
    let txid = "0123456789ab";
    for action in ["start", "delete", "daemon", "gc"] {
        for name in ["-namespace", "-id", "-group", "-instance", "-txid"] {
            let of_our_own = !["-namespace", "-id"].contains(&name);
            if of_our_own && ["start", "delete"].contains(&action) {
                continue;
            }
            for value in hostile_words() {
                // What is not given at all is another matter.
                if of_our_own && value.is_empty() {
                    continue;
                }
                let mut command = bench.command("start", "c1", &bundle.path);
                let program = command.get_program().to_owned();
                let envs: Vec<_> =
                    command.get_envs().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect();
                command = Command::new(program);
                command.args(["-namespace", "n", "-address", bench.address(), "-id", "c1", "-txid", txid]);
                command
                    .args([name, &value, action])
                    .current_dir(&bundle.path)
                    .envs(envs)
                    .env_remove("NAMESPACE");
                let done = command.output().unwrap();
                assert_eq!(done.status.code(), Some(1), "{action} {name} {value:.20?}: {done:?}");
                let said = String::from_utf8_lossy(&done.stderr);
                assert!(
                    said.contains(name) && said.contains("not valid"),
                    "{action} {name} {value:.20?}: {said}"
                );
                assert!(done.stdout.is_empty(), "{action} {name} {value:.20?}");
            }
        }
    }
    assert_eq!(tree(&bench), before, "something was made");
    bundle.remove();
    bench.finish();
}

#[test]
fn annotations() {
    let Some(bench) = Bench::released() else { return };
    let first = bench.bundle("c0", &Spec::tiny("hang")).without_stdio();
    let shim = bench.start(&first);
    let before = tree(&bench);
    for key in ["io.kubernetes.cri.sandbox-id", "io.containerd.runc.v2.group"] {
        // An empty one is none.
        for group in hostile().into_iter().filter(|group| !group.is_empty()) {
            let bundle = bench.bundle("c1", &Spec::tiny("hang").annotation(key, &group)).without_stdio();
            let started = bench.run_start(&bundle, b"").wait();
            assert_eq!(started.code, Some(1), "{key} {group:.20?}");
            assert!(started.stderr.contains(key), "{key} {group:.20?}: {}", started.stderr);
            let failure = shim.client.create(&bundle).unwrap_err();
            assert_eq!(failure.code, Some(Code::INVALID_ARGUMENT), "{key} {group:.20?}: {failure:?}");
            assert!(failure.message.contains(key), "{key} {group:.20?}: {failure:?}");
            bench.delete(&bundle).deleted();
            bundle.remove();
        }
    }
    assert_eq!(tree(&bench), before, "something was made");
    shim.client.shutdown("c0");
    assert!(shim.daemon.ends_within(SOON));
    first.remove();
    bench.finish();
}

#[test]
fn calls() {
    let Some(bench) = Bench::released() else { return };
    let first = bench.bundle("c0", &Spec::tiny("hang")).without_stdio();
    let shim = bench.start(&first);
    shim.client.create(&first).unwrap();
    let before = tree(&bench);
    let client = &shim.client;
    for id in hostile() {
        let mut bundle = bench.bundle("c1", &Spec::tiny("hang").in_pod("c0")).without_stdio();
        id.clone_into(&mut bundle.id);
        let created = client.create(&bundle).unwrap_err();
        assert_eq!(created.code, Some(Code::INVALID_ARGUMENT), "Create {id:.20?}: {created:?}");
        bundle.remove();
        let unknown = |call: &str, failure: Failure| {
            let codes = [Some(Code::NOT_FOUND), Some(Code::INVALID_ARGUMENT)];
            assert!(codes.contains(&failure.code), "{call} {id:.20?}: {failure:?}");
        };
        unknown("State", client.state(&id).unwrap_err());
        unknown("Start", client.start(&id).unwrap_err());
        unknown("Wait", client.wait(&id).unwrap_err());
        unknown("Kill", client.kill(&id, 9).unwrap_err());
        unknown("Pids", client.pids(&id).unwrap_err());
        unknown("Delete", client.delete(&id).unwrap_err());
        assert_eq!(client.connect_task(&id).1, 0);
        client.shutdown(&id);
        // What daemons and actions say to each other.
        for call in ["Ping", "End"] {
            let request = ConnectRequest { id: id.clone(), ..ConnectRequest::default() };
            let answer =
                client.send_to::<ConnectResponse>("urunc.shim.v1.Daemon", call, &request, Some(SOON));
            let failure = answer.wait().unwrap_err();
            assert_eq!(failure.code, Some(Code::INVALID_ARGUMENT), "{call} {id:.20?}: {failure:?}");
        }
    }
    assert_eq!(tree(&bench), before, "something was made or removed");
    bench.end(&shim, first);
    bench.finish();
}

#[test]
fn folders() {
    let Some(bench) = Bench::released() else { return };
    let (bundle, program) = (bench.bundle("c1", &Spec::tiny("hang")).without_stdio(), urunc());
    let names: Vec<_> = hostile_words()
        .into_iter()
        .filter(|name| !name.is_empty() && name.len() < 256 && !name.contains('/') && !name.starts_with('.'))
        .collect();
    assert!(names.len() > 3);
    let ours = bench.folder();
    for name in &names {
        for folder in [ours.join(name).join("c1"), ours.join(&bench.namespace).join(name)] {
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("record.json"), "{").unwrap();
        }
    }
    let before = tree(&bench);
    for words in [&["list"][..], &["list", "--json"], &["gc", "--dry-run"], &["gc"]] {
        let done = Command::new(&program).args(words).arg("--root").arg(&bench.root).output().unwrap();
        assert_eq!(done.status.code(), Some(0), "{words:?}: {done:?}");
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(
            !said.contains("c1") && !said.contains("unreadable"),
            "{words:?} takes them for ours: {said}"
        );
    }
    assert_eq!(tree(&bench), before, "somebody else's folders were touched");
    fs::remove_dir_all(ours.join(&bench.namespace)).unwrap();
    names.iter().for_each(|name| fs::remove_dir_all(ours.join(name)).unwrap());
    bundle.remove();
    bench.finish();
}
