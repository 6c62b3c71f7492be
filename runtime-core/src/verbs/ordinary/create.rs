//! Create of an ordinary container: plan -> (logger) -> root file system -> OCI runtime -> commit.
//!
//! Nothing of the plan depends on what the steps show, so it is durable before the first of them.

use std::{os::fd::AsFd, time::Instant};

use host_cgroup::{Hierarchies, Kernel, WholePlan};
use host_mount::{Mounted, Tree};
use record_store::Lock;
use rustix::process::{getpid, set_child_subreaper};

use crate::{
    CreateInput, Error, Runtime,
    config::Config,
    container::Container,
    contract::Keys,
    image, layout,
    oci::{self, OciOptions, OciRecord},
    plan::{OrdinaryPlan, Plan, What},
    record::{Record, RunDir},
    request::{Outline, Request, Told, group_of, told},
    steps::{CREATE, Cx, Held, OrdinaryWork, Work, ordinary_steps},
    verbs::create::{Made, commit},
};

/// What only an ordinary container's Create needs.
pub(in crate::verbs) struct OrdinaryInput {
    /// runc's options.
    pub options: OciOptions,
    /// Its root file system, which nobody sees yet; `None`: it is at its place already.
    pub tree: Option<Tree>,
}

impl Runtime {
    /// Reads the bundle and finds out what it is. Where the spec does not tell, the image does: it is looked at apart,
    /// so that nothing is made for it.
    pub(in crate::verbs) fn classify(
        &self,
        input: &CreateInput,
    ) -> Result<(Request, Option<OrdinaryInput>), Error> {
        let CreateInput { id, bundle, rootfs, stdio, .. } = input;
        let outline = Outline::read(bundle)?;
        let ours = || Ok((Request::read(id, bundle, rootfs.clone(), stdio.clone())?, None));
        let Told::Nothing(pods) = told(&outline, self.keys_of_pod(&outline, id)?.as_ref()) else {
            return ours();
        };
        let request = Request::ordinary(id, bundle, &outline, rootfs.clone(), stdio.clone())?;
        let (tree, is_guest) = if rootfs.is_empty() {
            let root = std::fs::File::open(&request.root).map_err(Error::file("open", &request.root))?;
            (None, image::is_guest(root.as_fd(), &pods)?)
        } else {
            let tree = Tree::mount(rootfs, &bundle.join(layout::ROOTFS))?;
            let is_guest = image::is_guest(tree.as_fd(), &pods)?;
            (Some(tree), is_guest)
        };
        if is_guest {
            return ours();
        }
        input.oci.check()?;
        if !pods.is_empty() {
            tracing::info!(id, "ordinary: its pod's annotations describe a guest, its image is none");
        }
        Ok((request, Some(OrdinaryInput { options: input.oci.clone(), tree })))
    }

    /// The keys that were said of the pod, if we have its sandbox.
    fn keys_of_pod(&self, outline: &Outline, id: &str) -> Result<Option<Keys>, Error> {
        let sandbox = self.get(&group_of(&outline.annotations, id)?).ok().filter(|c| c.is_sandbox());
        Ok(sandbox.map(|sandbox| sandbox.live().keys.clone()))
    }

    /// Makes the plan, runs the steps, commits.
    pub(in crate::verbs) fn make_ordinary(
        &self,
        container: &Container,
        request: &Request,
        input: OrdinaryInput,
        config: &Config,
        (record, dir, lock): (&mut Record, &RunDir, Lock),
        deadline: Instant,
    ) -> Result<Made, Error> {
        let OrdinaryInput { options, tree } = input;
        // The OCI runtime leaves the container's processes to whoever is above it.
        set_child_subreaper(Some(getpid())).map_err(Error::system("become the sub-reaper"))?;
        fault::point("plan.before")?;
        let oci = OciRecord::plan(request, &options, config, &self.namespace, dir)?;
        oci::check(&self.layout, &oci.program)?;
        let place = request.bundle.join(layout::ROOTFS);
        let rootfs = tree.as_ref().map(|tree| Mounted { id: tree.id(), place });
        let ordinary = OrdinaryPlan { oci, rootfs };
        let what = What::Ordinary(Box::new(ordinary.clone()));
        let plan = Plan { txid: record.txid.clone(), cgroup: None, what };
        dir.write_part(layout::PLAN, &plan)?;
        fault::point("plan.made")?;
        let work = OrdinaryWork {
            request,
            container,
            plan: &ordinary,
            options: &options,
            tree,
            deadline,
            made: None,
        };
        let mut cx = Cx::new(record, dir, Held::Once(lock), &self.notes, Work::Ordinary(Box::new(work)));
        let steps = ordinary_steps();
        let first = usize::from(container.live().stdio.logger.is_none());
        let result = saga::run(CREATE, &steps[first..], &mut cx);
        let made = match cx.work {
            Work::Ordinary(mut work) => work.made.take(),
            _ => None,
        };
        result?;
        let (oci, process) = made.ok_or_else(|| Error::NotFound { id: request.id.clone() })?;
        let whole = Hierarchies::detect()
            .and_then(|all| WholePlan::of_process(&Kernel, &all, process.pid().unsigned_abs()));
        match whole {
            Ok(whole) => container.live().whole = Some(whole),
            Err(e) => tracing::warn!(id = request.id, error = %e, "the container's cgroup is not known"),
        }
        // Still alive: then the namespaces that were joined meanwhile are its own.
        self.check_sandbox(request)?;
        tracing::debug!(id = request.id, txid = record.txid, plan = ?ordinary, "given to the OCI runtime");
        commit(container, record, dir, deadline)?;
        Ok(Made { process, words: None, gate: None, oci: Some(oci), plan })
    }
}
