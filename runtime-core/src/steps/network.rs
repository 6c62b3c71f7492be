//! The guest's place in the pod's network: the ingress qdisc at the pod's interface, and the filter in it that ties the
//! tap to the interface.
//!
//! The tap itself, its own qdisc and its own filter are no steps: they are the launcher's, and end with it. What stands
//! at the pod's interface outlives it, for the namespace is the pod's. So it carries the transaction's id, and only what
//! carries it is removed; a qdisc and filters that were there stay, and so does our qdisc while somebody uses it.
//!
//! Forward work is done by the launcher, which is in the namespace; undo by a helper that enters it. A launcher that was
//! given up in the middle of its work would go on with it behind the undo, so it is killed first. A namespace that is gone
//! has taken all of it along.

use std::{path::PathBuf, time::Instant};

use host_net::{Mark, Txid, find};
use saga::{Failed, Presence, Step, Undone};

use super::{Cx, NetworkWork, Work, launcher::end_process};
use crate::{
    Error,
    launcher::{Helper, NetworkAct},
    record::NetworkRecord,
};

pub struct IngressStep;
pub struct RedirectStep;

impl Step<Cx<'_>> for IngressStep {
    fn name(&self) -> &'static str {
        "ingress"
    }

    fn intend(&self, cx: &mut Cx<'_>) -> Result<(), Error> {
        let Work::Network(work) = &cx.work else { return Ok(()) };
        cx.record.network = Some(NetworkRecord::intended(work.plan, work.path));
        Ok(())
    }

    fn forward(&self, cx: &mut Cx<'_>) -> Result<(), Failed<Error>> {
        let (Work::Network(work), Some(network)) = (&mut cx.work, &mut cx.record.network) else {
            return Ok(());
        };
        let act = NetworkAct::Ingress { index: network.index };
        let made = work.act(act).map_err(Failed::MaybePartial)?;
        network.ingress_made = made || work.plan.inherits_ingress;
        Ok(())
    }

    fn undo(&self, cx: &mut Cx<'_>, deadline: Instant) -> Result<Undone, Error> {
        let Some(network) = cx.record.network.as_ref().filter(|n| n.ingress_made) else {
            return Ok(Undone::WasAbsent);
        };
        let act = NetworkAct::RemoveIngress { index: network.index };
        silence(cx, deadline)?;
        Ok(if act_in(cx, act, deadline)? { Undone::Removed } else { Undone::WasAbsent })
    }

    /// What is there now is somebody else's, or he has a filter in it. With our own filter still in it, because its undo
    /// failed, it was not removed and must be tried again behind that.
    fn probe(&self, cx: &mut Cx<'_>) -> Result<Presence, Error> {
        if cx.record.network.as_ref().is_none_or(|network| !network.ingress_made) {
            return Ok(Presence::Absent);
        }
        is_tied(cx)
    }
}

impl Step<Cx<'_>> for RedirectStep {
    fn name(&self) -> &'static str {
        "redirect"
    }

    fn forward(&self, cx: &mut Cx<'_>) -> Result<(), Failed<Error>> {
        let (Work::Network(work), Some(network)) = (&mut cx.work, &mut cx.record.network) else {
            return Ok(());
        };
        let txid = Txid::try_from(cx.record.txid.as_str()).map_err(|e| Failed::NothingDone(e.into()))?;
        let act = NetworkAct::Tie {
            index: network.index,
            tap: work.plan.tap.clone(),
            mtu: work.plan.interface.mtu,
            mark: Mark { txid, ingress_made: network.ingress_made },
        };
        network.ingress_made |= work.act(act).map_err(Failed::MaybePartial)?;
        Ok(())
    }

    fn undo(&self, cx: &mut Cx<'_>, deadline: Instant) -> Result<Undone, Error> {
        let Some(network) = &cx.record.network else { return Ok(Undone::WasAbsent) };
        let act = NetworkAct::Untie { index: network.index, txid: txid(cx)? };
        silence(cx, deadline)?;
        Ok(if act_in(cx, act, deadline)? { Undone::Removed } else { Undone::WasAbsent })
    }

    fn probe(&self, cx: &mut Cx<'_>) -> Result<Presence, Error> {
        is_tied(cx)
    }
}

impl NetworkWork<'_> {
    fn act(&mut self, act: NetworkAct) -> Result<bool, Error> {
        self.gate.act(act, self.deadline, self.words)
    }
}

/// Makes sure that the launcher does nothing any more in the pod's network: it has answered all that it was asked, or it
/// is dead.
fn silence(cx: &Cx<'_>, deadline: Instant) -> Result<(), Error> {
    if cx.keeps_launcher { Ok(()) } else { end_process(cx.record, deadline).map(drop) }
}

/// Has a helper act in the transaction's network namespace; `false` where that is gone.
fn act_in(cx: &mut Cx<'_>, act: NetworkAct, deadline: Instant) -> Result<bool, Error> {
    let Some(network) = &cx.record.network else { return Ok(false) };
    let mut helper = match cx.helper.take() {
        Some(helper) => helper,
        None => {
            let launcher =
                cx.record.process.as_ref().map(|p| PathBuf::from(format!("/proc/{}/ns/net", p.pid)));
            let paths: Vec<PathBuf> = launcher.into_iter().chain(network.paths.iter().cloned()).collect();
            let Some(netns) = find(network.netns, &paths)? else { return Ok(false) };
            Helper::spawn(&cx.record.txid, &netns, deadline)?
        }
    };
    let done = helper.act(act, deadline)?;
    // One that failed is not asked again.
    cx.helper = Some(helper);
    Ok(done)
}

/// Whether the transaction's filter is at the pod's interface.
fn is_tied(cx: &mut Cx<'_>) -> Result<Presence, Error> {
    let Some(network) = &cx.record.network else { return Ok(Presence::Absent) };
    let act = NetworkAct::IsTied { index: network.index, txid: txid(cx)? };
    let tied = act_in(cx, act, Instant::now() + super::PROBE_WAIT)?;
    Ok(if tied { Presence::Present } else { Presence::Absent })
}

fn txid(cx: &Cx<'_>) -> Result<Txid, Error> {
    Ok(Txid::try_from(cx.record.txid.as_str())?)
}
