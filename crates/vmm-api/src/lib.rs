//! What `runtime-core` and the backend of a monitor (VMM) say to each other.
//!
//! Plain data and two traits. `runtime-core` sees every monitor through them and through nothing else; a backend
//! never kills, never waits for a death and never cleans up: those are generic over the process's identity, so a
//! backend cannot get them wrong. [`Monitor::plan`] is pure: it decides the whole command line and touches nothing.

mod exit;
pub mod kernel;
mod monitor;
mod network;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use exit::{GuestEnd, GuestExit, RawExit, Reason};
pub use monitor::{Control, ControlError, Monitor, PlanError, Ready};
pub use network::{GuestAddress, GuestNetwork, Mac, NotAMac};

/// Where the guest's kernel stands in the monitor's private root.
pub const KERNEL_PATH: &str = "/guest/kernel";
/// Where the guest's initrd stands in the monitor's private root.
pub const INITRD_PATH: &str = "/guest/initrd";
/// The monitor's fd of its control channel (a connected unix stream socket). 0, 1 and 2 are its stdio: the guest's
/// serial console reads 0 and writes 1, what the monitor itself says goes to 2.
pub const CONTROL_FD: i32 = 3;
/// The monitor's fd of its tap, if the guest has a network: one queue, with IFF_VNET_HDR.
pub const TAP_FD: i32 = 4;

/// The kinds of guest that can be named in `com.urunc.unikernel.unikernelType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuestKind {
    /// A Linux kernel with an optional initrd.
    Linux,
    /// A Unikraft unikernel: a kernel and nothing else.
    Unikraft,
}

impl GuestKind {
    /// The value of `unikernelType` that names this kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Unikraft => "unikraft",
        }
    }
}

/// Which accelerator the operator wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// KVM with TCG as its fall-back where the CPU shows vmx or svm, else TCG alone.
    #[default]
    Auto,
    /// KVM or nothing.
    Kvm,
    /// TCG alone.
    Tcg,
}

/// What is known of the host when a plan is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// The CPU's flags show `vmx` or `svm`: hardware virtualization, not a software KVM.
    pub hardware_virt: bool,
    /// `/dev/kvm` is there.
    pub kvm: bool,
}

/// The guest that a monitor shall run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestSpec {
    /// What kind of guest it is.
    pub kind: GuestKind,
    /// What its kernel file is; the file stands at [`KERNEL_PATH`].
    pub kernel: kernel::Format,
    /// Whether an initrd stands at [`INITRD_PATH`].
    pub initrd: bool,
    /// `process.args` of the OCI spec.
    pub args: Vec<String>,
    /// Guest RAM in MiB.
    pub memory_mib: u64,
    /// Number of vCPUs, at least 1.
    pub vcpus: u32,
    /// The accelerator that the operator wants.
    pub accel: Accel,
    /// Where the monitor's firmware is, if the operator put it elsewhere; valid in the private root, too.
    #[serde(default)]
    pub data_path: Option<PathBuf>,
    /// Its network interface, whose tap is the monitor's [`TAP_FD`]; `None`: it has none.
    #[serde(default)]
    pub network: Option<GuestNetwork>,
}

/// How a monitor is executed, decided up front and complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchPlan {
    /// The monitor's binary, an absolute path of the host that is also valid in the private root.
    pub program: PathBuf,
    /// Its arguments, without argv\[0\].
    pub args: Vec<String>,
    /// Its environment, `KEY=VALUE`.
    pub env: Vec<String>,
    /// The device nodes below `/dev` that it needs, beside `null` and `urandom`, e.g. `kvm`.
    pub devices: Vec<String>,
    /// Whether the guest hears an ACPI power button.
    pub power_button: bool,
    /// Why machine, accelerator and the like were chosen: one sentence each, for the log and `inspect`.
    pub reasons: Vec<String>,
}
