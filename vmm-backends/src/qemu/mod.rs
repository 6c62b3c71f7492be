//! QEMU for x86-64 (`qemu-system-x86_64`), spoken to by QMP.
//!
//! [`args`] decides its command line, [`qmp`] is its control channel, [`exit`] reads its exit code. It starts stopped
//! (`-S`) with QMP on an inherited socket: it answers before the guest runs, and the end of the socket is the end of
//! QEMU. A guest ends with a status of its own by writing it to port 0xf4 (isa-debug-exit).

mod args;
mod exit;
mod qmp;

use std::{os::unix::net::UnixStream, path::Path};

use vmm_api::{
    Control, GuestEnd, GuestExit, GuestKind, GuestSpec, HostFacts, LaunchPlan, Monitor, PlanError, RawExit,
};

/// The monitor `qemu`.
pub(crate) struct Qemu;

impl Monitor for Qemu {
    fn name(&self) -> &'static str {
        args::NAME
    }

    fn program(&self) -> &'static str {
        "qemu-system-x86_64"
    }

    fn remedy(&self) -> &'static str {
        "apt-get install qemu-system-x86"
    }

    fn guests(&self) -> &'static [GuestKind] {
        &[GuestKind::Linux, GuestKind::Unikraft]
    }

    fn overhead_mib(&self) -> u64 {
        args::OVERHEAD_MIB
    }

    fn plan(&self, program: &Path, guest: &GuestSpec, host: HostFacts) -> Result<LaunchPlan, PlanError> {
        args::plan(program, guest, host)
    }

    fn control(&self, socket: UnixStream) -> Box<dyn Control> {
        Box::new(qmp::Qmp::new(socket))
    }

    fn exit(&self, raw: RawExit, said: Option<GuestEnd>, words: &str) -> GuestExit {
        exit::of(raw, said, words)
    }
}
