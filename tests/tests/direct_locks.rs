//! Two who want the same id at the same moment: one has it, and the other harms nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{thread, time::Duration};

use containerd_shim_protos::{api::Status, ttrpc::Code};
use urunc_tests::direct::{Bench, Bundle, Proc, SOON, Shim, Spec};

const ROUNDS: u64 = 12;

/// A daemon of a pod that has no container yet.
fn daemon(bench: &Bench, pod: &str) -> (Shim, Bundle) {
    let bundle = bench.bundle(pod, &Spec::tiny("hang")).without_stdio();
    (bench.start(&bundle), bundle)
}

/// A bundle of its own for the container `c1` in a pod.
fn same(bench: &Bench, name: &str, pod: &str) -> Bundle {
    let mut bundle = bench.bundle(name, &Spec::tiny("hang").in_pod(pod)).without_stdio();
    "c1".clone_into(&mut bundle.id);
    bundle
}

#[test]
fn of_two_creates_of_one_id_in_two_daemons_one_wins() {
    let Some(bench) = Bench::released() else { return };
    let (daemons, sandboxes): (Vec<_>, Vec<_>) =
        ["p1", "p2"].map(|pod| daemon(&bench, pod)).into_iter().unzip();
    let mut wins = [0, 0];
    for round in 0..ROUNDS {
        let bundles = [same(&bench, "b1", "p1"), same(&bench, "b2", "p2")];
        let first = usize::try_from(round % 2).unwrap();
        let order = [first, 1 - first];
        // From both at once to one a little later.
        let pending = order.map(|n| {
            let pending = daemons[n].client.send_create(&bundles[n], SOON);
            thread::sleep(Duration::from_micros(round / 2 * 400));
            (n, pending)
        });
        let (mut winner, mut losers) = (None, vec![]);
        for (n, pending) in pending {
            match pending.wait() {
                Ok(created) => assert!(winner.replace((n, created.pid)).is_none(), "round {round}: both won"),
                Err(failure) => losers.push(failure),
            }
        }
        let (winner, pid) = winner.unwrap_or_else(|| panic!("round {round}: nobody won: {losers:?}"));
        assert_eq!(losers[0].code, Some(Code::ALREADY_EXISTS), "round {round}: {losers:?}");
        wins[winner] += 1;
        // Untouched: it is there, and works.
        let client = &daemons[winner].client;
        assert_eq!(client.status("c1"), Ok(Status::CREATED), "round {round}");
        let record = bench.record("c1").unwrap();
        assert_eq!(
            (record["state"].as_str(), record["process"]["pid"].as_u64()),
            (Some("created"), Some(pid.into()))
        );
        assert_eq!(record["bundle_path"].as_str(), bundles[winner].path.to_str());
        assert!(Proc::of(pid.cast_signed()).is_alive());
        client.start("c1").unwrap();
        assert_eq!(daemons[1 - winner].client.status("c1").unwrap_err().code, Some(Code::NOT_FOUND));
        // containerd's last word on the other one: another bundle than the recorded.
        bench.delete(&bundles[1 - winner]).deleted();
        assert_eq!(client.status("c1"), Ok(Status::RUNNING), "round {round}");
        client.kill("c1", 9).unwrap();
        client.wait("c1").unwrap();
        client.delete("c1").unwrap();
        bundles.into_iter().for_each(Bundle::remove);
    }
    eprintln!("wins: {wins:?}");
    for (shim, bundle) in daemons.iter().zip(sandboxes) {
        shim.client.shutdown(&bundle.id);
        assert!(shim.daemon.ends_within(SOON));
        bundle.remove();
    }
    bench.finish();
}

#[test]
fn a_create_and_the_delete_of_an_earlier_container_of_its_id_do_not_meet() {
    let Some(bench) = Bench::released() else { return };
    let (shim, sandbox) = daemon(&bench, "p1");
    for round in 0..ROUNDS {
        // A dead daemon's container.
        let (dead, old) = daemon(&bench, "old");
        let earlier = same(&bench, "b1", "old");
        let pid = dead.client.create(&earlier).unwrap();
        dead.daemon.kill();
        let anew = same(&bench, "b2", "p1");
        let deleting = bench.run_delete(&earlier);
        // An action needs some milliseconds to come to it.
        thread::sleep(Duration::from_millis(round));
        let created = shim.client.create(&anew).unwrap_or_else(|e| panic!("round {round}: {e:?}"));
        let deleted = deleting.wait().deleted();
        // It was faster than the Create, or finds another bundle.
        assert!([0, pid].contains(&deleted.pid), "round {round}: {deleted:?}");
        assert_eq!(shim.client.status("c1"), Ok(Status::CREATED), "round {round}");
        assert!(Proc::of(created.cast_signed()).is_alive(), "round {round}");
        assert_eq!(bench.record("c1").unwrap()["process"]["pid"], created, "round {round}");
        shim.client.delete("c1").unwrap();
        bench.delete(&anew).deleted();
        [earlier, anew, old].into_iter().for_each(Bundle::remove);
    }
    shim.client.shutdown("p1");
    assert!(shim.daemon.ends_within(SOON));
    sandbox.remove();
    bench.finish();
}
