//! Containers that share a cgroup: each is its own, however the other one ends. containerd gives each a path of its own;
//! others need not, and a path may lie in that of another container.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::fs;

use containerd_shim_protos::api::Status;
use urunc_tests::direct::{
    A_WHILE, Bench, Bundle, Executed, Proc, SOON, Shim, Spec, eventually, hierarchies,
};

const SLEEPS: &str = "sleep 1000 & echo ready; exec sleep 1001";

/// With this path below the bench's own.
fn at(bench: &Bench, path: &str, spec: Spec) -> Spec {
    let path = format!("/{}/{path}", bench.namespace);
    spec.edit(|s| s["linux"]["cgroupsPath"] = path.into())
}

/// The processes in a cgroup and below it.
fn members(bench: &Bench, path: &str) -> Vec<i32> {
    fn below(folder: &std::path::Path, pids: &mut Vec<i32>) {
        let procs = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        pids.extend(procs.lines().filter_map(|pid| pid.parse::<i32>().ok()));
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter(|e| e.path().is_dir()).for_each(|e| below(&e.path(), pids));
    }
    let mut pids = vec![];
    hierarchies().iter().for_each(|h| below(&h.join(&bench.namespace).join(path), &mut pids));
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// A container that runs, by its own daemon.
struct Runs {
    shim: Shim,
    bundle: Bundle,
    init: Proc,
}

impl Runs {
    /// `None`: the OCI runtime refuses it (runc 1.2 and later: such a path is somebody else's).
    fn try_new(bench: &Bench, id: &str, path: &str) -> Option<Self> {
        let bundle = bench.ordinary(id, &at(bench, path, Spec::busybox(SLEEPS)));
        let shim = bench.start(&bundle);
        match shim.client.create(&bundle) {
            Ok(pid) => {
                shim.client.start(id).unwrap();
                bundle.output.as_ref().unwrap().wait_for("ready");
                Some(Self { shim, bundle, init: Proc::of(pid.cast_signed()) })
            }
            Err(failure) => {
                assert!(failure.message.contains("cgroup"), "{failure:?}");
                shim.client.shutdown(id);
                bench.delete(&bundle).deleted();
                bundle.remove();
                None
            }
        }
    }

    fn new(bench: &Bench, id: &str, path: &str) -> Self {
        Self::try_new(bench, id, path).expect("the OCI runtime takes it")
    }

    /// It runs, and answers.
    #[track_caller]
    fn goes_on(&self, exec_id: &str) {
        let (id, client) = (&self.bundle.id, &self.shim.client);
        assert!(self.init.is_alive(), "{id} was killed");
        assert_eq!(client.status(id), Ok(Status::RUNNING));
        let exec = Executed::new(&self.bundle, exec_id, &["/bin/sh", "-c", "ps | grep -c 'sleep 100[0]'"]);
        client.execute(&exec);
        // Its other process, too.
        assert_eq!(client.wait_exec(&exec), Ok(0), "{}", exec.output.to_end());
        client.delete_exec(&exec).unwrap();
    }
}

/// A guest in a leaf below a path.
fn guest(bench: &Bench, path: &str) -> (Shim, Bundle, Proc) {
    let bundle = bench.bundle("guest", &at(bench, path, Spec::tiny("hang"))).without_stdio();
    let shim = bench.start(&bundle);
    let pid = shim.client.create(&bundle).unwrap();
    shim.client.start("guest").unwrap();
    (shim, bundle, Proc::of(pid.cast_signed()))
}

/// `first` has made the path `one`; a second container is there or below it, and a guest. However the first one goes,
/// the others do not notice.
fn the_first_one_goes(bench: &Bench, path_of_second: &str) {
    for how in ["by itself", "kill all", "delete", "daemon"] {
        let first = Runs::new(bench, "first", "one");
        let Some(second) = Runs::try_new(bench, "second", path_of_second) else {
            bench.end(&first.shim, first.bundle);
            return;
        };
        let (guests_shim, guests_bundle, guest) = guest(bench, "one");
        let client = &first.shim.client;
        assert!(members(bench, "one").len() >= 5, "{:?}", members(bench, "one"));
        let others = |exec_id: &str| {
            second.goes_on(exec_id);
            assert!(guest.is_alive(), "{how}: the guest was killed");
            assert_eq!(guests_shim.client.status("guest"), Ok(Status::RUNNING));
        };
        match how {
            "by itself" => first.init.kill(),
            "kill all" => client.kill_all("first", 9).unwrap(),
            "delete" => {
                bench.delete(&first.bundle).deleted();
            }
            _ => {
                first.shim.daemon.kill();
                bench.delete(&first.bundle).deleted();
            }
        }
        if how != "daemon" && how != "delete" {
            assert_eq!(client.wait("first"), Ok(137));
        }
        assert!(first.init.ends_within(SOON));
        others("ended");
        // What is told of the end may come with more.
        std::thread::sleep(A_WHILE);
        others("a-while-later");
        match how {
            "daemon" => first.bundle.remove(),
            "delete" => {
                client.shutdown("first");
                first.bundle.remove();
            }
            _ => bench.end(&first.shim, first.bundle),
        }
        others("deleted");
        bench.end(&guests_shim, guests_bundle);
        second.goes_on("the-last");
        bench.end(&second.shim, second.bundle);
        eventually("the cgroup is empty", || members(bench, "one").is_empty());
        bench.check();
    }
}

#[test]
fn two_with_the_same_path_are_not_each_others() {
    let Some(bench) = Bench::released() else { return };
    the_first_one_goes(&bench, "one");
    bench.finish();
}

#[test]
fn one_below_another_is_not_the_others() {
    let Some(bench) = Bench::released() else { return };
    the_first_one_goes(&bench, "one/below");
    bench.finish();
}

/// Who came second has not made the path, and is as little the first one's end.
#[test]
fn the_second_one_goes() {
    let Some(bench) = Bench::released() else { return };
    for path in ["one", "one/below"] {
        for how in ["kill all", "daemon"] {
            let first = Runs::new(&bench, "first", "one");
            let Some(second) = Runs::try_new(&bench, "second", path) else {
                bench.end(&first.shim, first.bundle);
                continue;
            };
            if how == "daemon" {
                second.shim.daemon.kill();
                bench.delete(&second.bundle).deleted();
                second.bundle.remove();
            } else {
                second.shim.client.kill_all("second", 9).unwrap();
                assert_eq!(second.shim.client.wait("second"), Ok(137));
                bench.end(&second.shim, second.bundle);
            }
            assert!(second.init.ends_within(SOON));
            first.goes_on("later");
            bench.end(&first.shim, first.bundle);
            bench.check();
        }
    }
    bench.finish();
}
