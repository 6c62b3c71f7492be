//! The OCI runtime hangs, and the container is to go: nobody waits for the runtime.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use containerd_shim_protos::{
    api::{Empty, PauseRequest, UpdateTaskRequest},
    ttrpc::Code,
};
use protobuf::well_known_types::any::Any;
use serde_json::json;
use urunc_tests::direct::{
    A_WHILE, Bench, Bundle, Client, Executed, Proc, SOON, Spec, double, eventually, hanging, hangs,
    hierarchies,
};

/// How long containerd waits for a Delete of its own before it gives up: 5 s, on a machine as usual.
const PATIENCE: Duration = Duration::from_secs(SOON.as_secs() / 2);
/// How long a call may take whose OCI runtime hangs: longer than any of these tests.
const LONG: Duration = Duration::from_secs(60);

/// Deletes it as containerd does, and then there is nothing of it: not the container, nor who has hung.
#[track_caller]
fn goes_soon(bench: &Bench, client: &Client, bundle: &Bundle, hung: &Proc) {
    let id = &bundle.id;
    let cgroups: Vec<PathBuf> = hierarchies().iter().map(|h| h.join(&bench.namespace).join(id)).collect();
    let began = Instant::now();
    match client.delete(id) {
        Ok(_) => {}
        Err(failure) => assert_eq!(failure.code, Some(Code::NOT_FOUND), "{failure:?}"),
    }
    assert!(began.elapsed() < PATIENCE + A_WHILE, "Delete took {:?}", began.elapsed());
    assert!(!hung.is_alive(), "the OCI runtime hangs on");
    assert!(bench.members(id).is_empty(), "processes are left");
    assert!(cgroups.iter().all(|path| !path.exists()), "cgroups are left");
    assert!(!bench.is_mounted(bundle), "its root file system is mounted");
    assert!(!bench.run_directory(id).exists(), "its run directory is left");
}

#[test]
fn a_create_that_hangs_is_given_up() {
    let Some(mut bench) = Bench::released() else { return };
    let program = double(&bench, "create", &hangs(&bench));
    bench.set_variable("URUNC_OCI_RUNTIME", &program);
    let bundle = bench.ordinary("c1", &Spec::busybox("exec sleep 1000")).without_stdio();
    let shim = bench.start(&bundle);
    let create = shim.client.send_create(&bundle, LONG);
    let hung = hanging(&bench);
    goes_soon(&bench, &shim.client, &bundle, &hung);
    create.wait().unwrap_err();
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.check();

    // It hangs when all is made but its end: the container's init is there.
    double(&bench, "nothing", ":");
    let reached = bench.scratch().join("hook");
    let script = format!(
        "echo $$ >{0}.new; mv {0}.new {0}; while [ -d /proc/$PPID ]; do sleep 0.02; done",
        reached.display()
    );
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    let spec = Spec::busybox("exec sleep 1000").edit(|s| s["hooks"] = json!({"createRuntime": hook}));
    let bundle = bench.ordinary("c1", &spec).without_stdio();
    let shim = bench.start(&bundle);
    let create = shim.client.send_create(&bundle, LONG);
    eventually("the hook is reached", || reached.exists());
    let init = bench.members("c1").pop().expect("its init");
    goes_soon(&bench, &shim.client, &bundle, &init);
    create.wait().unwrap_err();
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

#[test]
fn a_start_that_hangs_keeps_no_container() {
    let Some(mut bench) = Bench::released() else { return };
    let program = double(&bench, "start", &hangs(&bench));
    bench.set_variable("URUNC_OCI_RUNTIME", &program);
    let bundle = bench.ordinary("c1", &Spec::busybox("exec sleep 1000")).without_stdio();
    let shim = bench.start(&bundle);
    shim.client.create(&bundle).unwrap();
    let start = shim.client.send_start("c1");
    let hung = hanging(&bench);
    // It is not deleted while it starts: as CRI does, it is killed before.
    let began = Instant::now();
    shim.client.kill("c1", 9).unwrap();
    let waited = shim.client.send_wait("c1").within(PATIENCE);
    assert_eq!(waited.expect("its end is told").map(|r| r.exit_status), Ok(137));
    goes_soon(&bench, &shim.client, &bundle, &hung);
    assert!(began.elapsed() < PATIENCE + A_WHILE, "it took {:?}", began.elapsed());
    start.wait().unwrap_err();
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

#[test]
fn an_exec_that_hangs_keeps_no_container() {
    let Some(mut bench) = Bench::released() else { return };
    let program = double(&bench, "exec", &hangs(&bench));
    bench.set_variable("URUNC_OCI_RUNTIME", &program);
    let bundle = bench.ordinary("c1", &Spec::busybox("exec sleep 1000")).without_stdio();
    let (shim, _) = bench.running(&bundle);
    let exec = Executed::new(&bundle, "e1", &["/bin/sleep", "1000"]);
    shim.client.exec(&exec).unwrap();
    let waiting = shim.client.send_wait_exec("c1", "e1");
    let starting = shim.client.send_start_exec(&exec);
    let hung = hanging(&bench);
    // Others are not kept: what has nothing to do with it goes on.
    double(&bench, "nothing", ":");
    let other = Executed::new(&bundle, "e2", &["/bin/true"]);
    shim.client.execute(&other);
    assert_eq!(shim.client.wait_exec(&other), Ok(0));
    shim.client.delete_exec(&other).unwrap();
    drop(other);
    let began = Instant::now();
    shim.client.kill("c1", 9).unwrap();
    let waited = shim.client.send_wait("c1").within(PATIENCE);
    assert_eq!(waited.expect("its end is told").map(|r| r.exit_status), Ok(137));
    goes_soon(&bench, &shim.client, &bundle, &hung);
    assert!(began.elapsed() < PATIENCE + A_WHILE, "it took {:?}", began.elapsed());
    starting.within(SOON).expect("its Start is answered").unwrap_err();
    waiting.within(SOON).expect("who waits for it is answered").ok();
    drop(exec);
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}

/// containerd has waited long enough, and executes `delete`.
#[test]
fn the_delete_of_its_id_gives_up_a_create_that_hangs() {
    let Some(mut bench) = Bench::released() else { return };
    let program = double(&bench, "create", &hangs(&bench));
    bench.set_variable("URUNC_OCI_RUNTIME", &program);
    let bundle = bench.ordinary("c1", &Spec::busybox("exec sleep 1000")).without_stdio();
    let shim = bench.start(&bundle);
    let create = shim.client.send_create(&bundle, LONG);
    let hung = hanging(&bench);
    let began = Instant::now();
    bench.delete(&bundle).deleted();
    assert!(began.elapsed() < PATIENCE + A_WHILE, "it took {:?}", began.elapsed());
    create.wait().unwrap_err();
    assert!(!hung.is_alive() && !bench.is_mounted(&bundle) && !bench.run_directory("c1").exists());
    shim.client.shutdown("c1");
    bundle.remove();
    bench.finish();
}

#[test]
fn a_pause_or_an_update_that_hangs_keeps_no_container() {
    let Some(mut bench) = Bench::released() else { return };
    for verb in ["Pause", "Update"] {
        let program = double(&bench, &verb.to_lowercase(), &hangs(&bench));
        bench.set_variable("URUNC_OCI_RUNTIME", &program);
        let bundle = bench.ordinary("c1", &Spec::busybox("exec sleep 1000")).without_stdio();
        let (shim, _) = bench.running(&bundle);
        let at_work = match verb {
            "Pause" => {
                let pause = PauseRequest { id: "c1".to_owned(), ..PauseRequest::default() };
                shim.client.send::<Empty>(verb, &pause)
            }
            _ => {
                let resources = Any {
                    type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".to_owned(),
                    value: json!({"pids": {"limit": 60}}).to_string().into_bytes(),
                    ..Any::default()
                };
                let update = UpdateTaskRequest {
                    id: "c1".to_owned(),
                    resources: Some(resources).into(),
                    ..UpdateTaskRequest::default()
                };
                shim.client.send::<Empty>(verb, &update)
            }
        };
        let hung = hanging(&bench);
        shim.client.kill("c1", 9).unwrap();
        let waited = shim.client.send_wait("c1").within(PATIENCE);
        assert_eq!(waited.expect("its end is told").map(|r| r.exit_status), Ok(137), "{verb}");
        goes_soon(&bench, &shim.client, &bundle, &hung);
        at_work.wait().unwrap_err();
        shim.client.shutdown("c1");
        bench.delete(&bundle).deleted();
        bundle.remove();
    }
    bench.finish();
}
