//! Makes one case happen, goes on as containerd would, and looks at what is left. Panics if anything is not as it must
//! be.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use crate::direct::{Bench, Bundle, Failure, SOON, Shim, Spec, eventually};

use super::{Case, Fault, Next, Point, Undo};

/// The deadline of a verb in which somebody hangs, in milliseconds.
const DEADLINE: u64 = 1000;
/// How long somebody hangs at least.
const HANG: Duration = Duration::from_millis(1200);
/// What is said where nobody came to the point.
pub(super) const NOT_REACHED: &str = "somebody is at";
/// The id of every case's container.
const ID: &str = "c1";

impl Case {
    /// Runs it; `undone`: something must be undone, so its undo's fault must fire.
    #[track_caller]
    pub fn run(&self, undone: bool) {
        let Some(bench) = Bench::with_faults() else { return };
        let network = bench.empty_network();
        let bundle = self.verb.bundle(&bench, &network, ID);
        let shim = bench.start(&bundle);
        let clean = self.verb.prepare(&shim.client, &bundle, &network);

        let answer = self.strike(&bench, &shim, &bundle);
        // From here on only the undo's faults are in the way.
        self.leave_the_undos_faults(&bench);
        if self.verb.keeps_running() && shim.daemon.is_alive() {
            runs_on(&bench, &shim, answer.is_ok());
        }
        match self.next {
            Next::Nothing => {
                bundle.remove();
                let anew = self.create_anew(&bench);
                bench.delete(&anew).deleted();
                anew.remove();
            }
            // Nobody asks once more for anything: whatever this leaves is left.
            Next::Rpc | Next::Delete => {
                if self.next == Next::Rpc {
                    delete_by_rpc(&shim, answer.is_ok() || self.verb.keeps_running());
                }
                self.delete_action(&bench, &bundle);
                bundle.remove();
            }
        }
        if let Some((place, action)) = self.undo.strikes().filter(|_| undone) {
            let fired = bench.faults.fired();
            let struck = fired.iter().any(|f| f.name.ends_with(place) && f.action == action);
            assert!(struck, "the undo's fault did not fire: {fired:?}");
        }
        bench.faults.set(&[]);
        if shim.daemon.is_alive() {
            shim.client.shutdown(ID);
        }
        eventually("no daemon of it is left", || bench.daemons().is_empty());
        bench.check_network(&network, &clean);
        bench.check();
        bench.run(ID, 7);
        bench.finish();
    }

    /// Calls the verb and has the fault strike in it.
    #[track_caller]
    fn strike(&self, bench: &Bench, shim: &Shim, bundle: &Bundle) -> Result<(), Failure> {
        let Point { name, in_daemon, .. } = &self.point;
        let action = match (self.fault, in_daemon) {
            (Fault::Error, _) => "error",
            (Fault::Panic, _) => "panic",
            (Fault::Kill, true) => "kill",
            (Fault::Kill, false) | (Fault::Hang, _) => "hold",
        };
        let mut faults = vec![format!("{}={action}", self.point)];
        if self.fault == Fault::Hang {
            faults.push(format!("{}={DEADLINE}", self.verb.deadline()));
        }
        faults.extend(self.undo.faults(name));
        bench.faults.set(&faults.iter().map(String::as_str).collect::<Vec<_>>());
        let call = self.verb.call(&shim.client, bundle);
        let struck = || bench.faults.fired().iter().any(|f| f.name == *name && f.action == action);
        if action == "hold" {
            eventually(&format!("{NOT_REACHED} {}", self.point), struck);
            if self.fault == Fault::Hang {
                sleep(HANG);
                self.leave_the_undos_faults(bench);
            } else {
                shim.daemon.kill();
            }
        }
        let answer = call.wait();
        let fired = bench.faults.fired();
        let there = fired.iter().find(|f| f.name == *name && f.action == action);
        let there = there.unwrap_or_else(|| panic!("the fault did not fire; what did: {fired:?}"));
        assert_eq!(
            there.pid == shim.daemon.pid(),
            *in_daemon,
            "the fault fired in another process: {there:?}"
        );
        if self.fault == Fault::Kill || self.fault == Fault::Panic {
            assert!(shim.daemon.ends_within(SOON), "the daemon lives");
        }
        answer
    }

    /// The point's own fault is over, and what had fired is remembered.
    fn leave_the_undos_faults(&self, bench: &Bench) {
        let faults = self.undo.faults(&self.point.name);
        bench.faults.change(&faults.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// The `delete` action. containerd asks once, and keeps the id blocked if it fails; only one that was killed comes again,
    /// with containerd's restart.
    #[track_caller]
    fn delete_action(&self, bench: &Bench, bundle: &Bundle) {
        let first = bench.delete(bundle);
        if first.code != Some(0) {
            assert_eq!(self.undo, Undo::Killed, "delete failed: {}", first.stderr);
            eventually("delete succeeds", || bench.delete(bundle).code == Some(0));
        }
    }

    /// Creates the id anew, with the daemon that is there or a new one. Faults that strike once may be in its way, and
    /// what is blocked is tried again by its daemon after a moment.
    #[track_caller]
    fn create_anew(&self, bench: &Bench) -> Bundle {
        let deadline = Instant::now() + SOON;
        loop {
            let bundle = match self.verb.is_ordinary() {
                true => bench.ordinary(ID, &Spec::ordinary(&["/bin/sleep", "1000"])),
                false => bench.bundle(ID, &Spec::tiny("hang")),
            };
            let bundle = bundle.without_stdio();
            let failure = match try_create(bench, &bundle) {
                Ok(shim) => {
                    delete_by_rpc(&shim, true);
                    return bundle;
                }
                Err(failure) => failure,
            };
            assert_ne!(self.undo, Undo::Works, "the id cannot be created anew: {failure}");
            assert!(Instant::now() < deadline, "the id cannot be created anew: {failure}");
            if self.undo == Undo::DiskFull {
                // Now there is room again.
                bench.faults.change(&[]);
            }
            bundle.remove();
            sleep(Duration::from_millis(20));
        }
    }
}

/// It runs as before, and what was executed in it is there or is not, as was answered.
#[track_caller]
fn runs_on(bench: &Bench, shim: &Shim, executed: bool) {
    assert_eq!(shim.client.status(ID), Ok(containerd_shim_protos::api::Status::RUNNING));
    let expected = 1 + usize::from(executed);
    eventually(&format!("{expected} processes are in it"), || bench.members(ID).len() == expected);
}

/// `start` and Create.
fn try_create(bench: &Bench, bundle: &Bundle) -> Result<Shim, String> {
    let started = bench.run_start(bundle, b"").wait();
    if started.code != Some(0) {
        return Err(format!("start failed: {}", started.stderr));
    }
    let shim = bench.connect(&started.text());
    match shim.client.create(bundle) {
        Ok(_) => Ok(shim),
        Err(failure) => {
            if shim.daemon.is_alive() {
                shim.client.shutdown(ID);
            }
            Err(format!("{failure:?}"))
        }
    }
}

/// Delete as containerd calls it; a container that was made is killed before. What is blocked is tried again by the
/// daemon itself.
#[track_caller]
fn delete_by_rpc(shim: &Shim, made: bool) {
    let client = &shim.client;
    if made {
        client.kill(ID, 9).ok();
    }
    eventually("the container is deleted", || match client.delete(ID) {
        Ok(_) => true,
        // The daemon is dead: what is left is the `delete` action's.
        Err(Failure { code: None, .. }) => true,
        Err(failure) => failure.code == Some(containerd_shim_protos::ttrpc::Code::NOT_FOUND),
    });
    if shim.daemon.is_alive() {
        client.shutdown(ID);
    }
}
