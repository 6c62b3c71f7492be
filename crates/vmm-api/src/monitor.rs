//! The traits of a monitor and of its control channel, and their errors.

use std::{
    os::{fd::BorrowedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    time::Instant,
};

use thiserror::Error;

use crate::{GuestEnd, GuestExit, GuestKind, GuestSpec, HostFacts, LaunchPlan, RawExit};

/// A monitor (VMM) that can run guests.
pub trait Monitor: Send + Sync {
    /// The value of `com.urunc.unikernel.hypervisor` that names it.
    fn name(&self) -> &'static str;

    /// The program's name, looked up in PATH unless the operator configured a path.
    fn program(&self) -> &'static str;

    /// What an operator does to get the program, e.g. `apt-get install qemu-system-x86`.
    fn remedy(&self) -> &'static str;

    /// The kinds of guest that it runs.
    fn guests(&self) -> &'static [GuestKind];

    /// The memory that the monitor itself may use beside guest RAM, in MiB.
    fn overhead_mib(&self) -> u64;

    /// Decides the whole command line. Pure: looks at nothing but its arguments.
    fn plan(&self, program: &Path, guest: &GuestSpec, host: HostFacts) -> Result<LaunchPlan, PlanError>;

    /// Takes our end of the control channel whose other end the monitor has as [`crate::CONTROL_FD`].
    fn control(&self, socket: UnixStream) -> Box<dyn Control>;

    /// The container's exit for a monitor that ended by itself while its guest was running (nobody killed it).
    /// `said`: what it said of its guest's end. `words`: the end of what it wrote to its stderr after the guest was let go.
    fn exit(&self, raw: RawExit, said: Option<GuestEnd>, words: &str) -> GuestExit;
}

/// The control channel of one running monitor. All calls block, at most until their deadline.
pub trait Control: Send {
    /// Waits until the monitor answers. The guest has not run an instruction yet.
    fn ready(&mut self, deadline: Instant) -> Result<Ready, ControlError>;

    /// Halts the guest. Its memory and its devices stay as they are.
    fn pause(&mut self, deadline: Instant) -> Result<(), ControlError>;

    /// Lets the guest run, or go on after a pause. A guest that ends at once is no error.
    fn go(&mut self, deadline: Instant) -> Result<(), ControlError>;

    /// Presses the guest's power button.
    fn power_button(&mut self, deadline: Instant) -> Result<(), ControlError>;

    /// Takes in what the monitor has said by itself, and forgets all of it but the guest's end. Never waits. To be
    /// called when [`Control::fd`] is readable, else that fills up; and once more when the monitor is dead.
    fn hear(&mut self) -> Option<GuestEnd>;

    /// What becomes readable when the monitor says something.
    fn fd(&self) -> BorrowedFd<'_>;
}

/// What a monitor says of itself once it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The accelerator that really runs: `kvm` or `tcg`.
    pub accel: String,
    /// The monitor's version, as it tells it.
    pub version: String,
}

/// Why no plan could be made. Each names what is wrong and what would be right.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The monitor does not run this kind of guest.
    #[error("unikernelType: {guest} does not run under {monitor}; it runs: {}", supported.join(", "))]
    UnsupportedGuest {
        /// The monitor's name.
        monitor: &'static str,
        /// The kind that was asked for.
        guest: &'static str,
        /// The kinds that it runs.
        supported: Vec<&'static str>,
    },
    /// The kernel file is of a format that this guest or monitor cannot boot.
    #[error("binary: the kernel is {found}; a {guest} guest under {monitor} needs {wanted}")]
    KernelFormat {
        /// The monitor's name.
        monitor: &'static str,
        /// The kind of guest.
        guest: &'static str,
        /// What the file is.
        found: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// The guest's command line is longer than its kernel takes.
    #[error(
        "process.args: the kernel command line would be {bytes} bytes long, the kernel takes at most {max}; shorten the arguments"
    )]
    CommandLineTooLong {
        /// Its length in bytes, without the terminating NUL.
        bytes: usize,
        /// The longest that fits, without the terminating NUL.
        max: usize,
    },
    /// A guest of this kind needs an argument of another shape.
    #[error("process.args[{index}]: {value:?}: {wanted}")]
    Argument {
        /// Which argument.
        index: usize,
        /// Its value.
        value: String,
        /// What would be right.
        wanted: &'static str,
    },
    /// The operator wants KVM and there is none.
    #[error("accel: kvm: /dev/kvm is not there; set accel to auto or tcg, or load the kvm module")]
    NoKvm,
    /// A path that the monitor's own option syntax cannot carry.
    #[error("{field}: {path:?} cannot be given to {monitor}; use a path without commas, newlines and NULs")]
    Path {
        /// The monitor's name.
        monitor: &'static str,
        /// Which path it is.
        field: &'static str,
        /// The path.
        path: PathBuf,
    },
}

/// Why a control channel did not do what it was asked.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The monitor closed the channel: it is dead or dying.
    #[error("the monitor closed its control channel")]
    Closed,
    /// The deadline passed.
    #[error("the monitor did not answer in time")]
    Timeout,
    /// The channel broke.
    #[error("the monitor's control channel broke")]
    Io(#[source] std::io::Error),
    /// The monitor refused a command.
    #[error("the monitor refused {command}: {answer}")]
    Refused {
        /// The command.
        command: &'static str,
        /// What the monitor said.
        answer: String,
    },
    /// The monitor said something that is not of its protocol.
    #[error("the monitor said something that is not of its protocol: {line:?}")]
    Protocol {
        /// What it said, shortened.
        line: String,
    },
}
