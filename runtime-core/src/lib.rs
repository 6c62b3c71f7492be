//! What a container is and how it lives: request, plan, steps, verbs, recovery. Knows OCI, knows no ttrpc.
//!
//! Everything here blocks: the shim runs each verb on its blocking pool. Only the launcher's spawn is handed to the
//! main thread ([`launcher::Spawn`]).
//!
//! | folder or file | what |
//! | --- | --- |
//! | `request`, `contract`, `image` | what spec, annotations and the image ask for |
//! | `plan` | every decision, made up front, durable before it is acted upon |
//! | `preview` | the plan of an image without a container |
//! | `launcher/` | the gated re-exec: the process that becomes the monitor |
//! | `hooks/` | programs of the host that a spec names |
//! | `network`, `share`, `oom` | what a pod's containers share: its interface, its overhead, the sandbox's score |
//! | `stdio/` | FIFOs, files, loggers, terminals: what the monitor's stdin and stdout are |
//! | `oci/` | what ordinary containers are given to: the host's OCI runtime |
//! | `exec` | a process that is executed in one of them |
//! | `steps/` | one resource per file: forward, undo, probe |
//! | `verbs/` | what containerd asks for, one verb per file, and the exit |
//! | `record`, `layout`, `owner`, `pod` | what is on disk, and whose it is |
//! | `derive` | what a record does not say, from what else is there |
//! | `recover`, `sweep` | the same unwind, by whoever finds a record whose owner is gone |

pub mod config;
pub mod container;
mod contract;
mod derive;
mod error;
pub mod events;
pub mod exec;
#[cfg(test)]
mod fixture;
mod hooks;
mod image;
pub mod last_words;
pub mod launcher;
pub mod layout;
pub mod lifecycle;
mod network;
pub mod oci;
mod oom;
pub mod owner;
pub mod plan;
pub mod pod;
pub mod preview;
pub mod record;
pub mod recover;
pub mod request;
mod runtime;
mod share;
pub mod stdio;
mod steps;
pub mod sweep;
mod verbs;

pub use error::{Error, Kind};
/// What is answered to Stats.
pub use host_cgroup::{Counter, CpuStats, DeviceIo, IoStats, MemoryStats, PidsStats, Pressure, Stall, Stats};
pub use runtime::{CreateInput, Runtime};
/// Why a container has ended.
pub use vmm_api::Reason;
