//! The guests' command lines: from `process.args` and the network to the one line that a kernel takes.
//!
//! Every kind of guest has a parser of its own, so every kind has its own way to write an argument down; one file
//! each. What holds for all: the line goes to the monitor as one element of its argument list, verbatim, so no
//! argument can become an option of the monitor; a NUL, which would end the line, and a line that the kernel would
//! cut off are errors. Pure.

mod linux;
mod network;
mod unikraft;

use vmm_api::{GuestKind, GuestSpec, PlanError, kernel::Format};

/// A guest's command line and why it looks as it does.
#[derive(Debug)]
pub(crate) struct CommandLine {
    /// The line, without the terminating NUL.
    pub text: String,
    /// What the log should say about it.
    pub reasons: Vec<String>,
}

/// The length of the line, without the terminating NUL, for kernels that do not tell: x86 Linux is built with a
/// COMMAND_LINE_SIZE of 2048, a Unikraft kernel with room for 4096 bytes.
const USUAL_MAX: usize = 2047;

/// The most that is believed of a bzImage's header. The kernel takes an argument of 128 KiB to execve at most, and
/// its failure would be much harder to understand than [`PlanError::CommandLineTooLong`].
const MOST_MAX: usize = 0xffff;

/// Builds the command line of `guest`.
pub(crate) fn command_line(guest: &GuestSpec) -> Result<CommandLine, PlanError> {
    for (index, arg) in guest.args.iter().enumerate() {
        if arg.contains('\0') {
            return Err(argument(index, arg, "a kernel's command line ends at a NUL; leave it out"));
        }
    }
    let line = match guest.kind {
        GuestKind::Linux => linux::command_line(guest)?,
        GuestKind::Unikraft => unikraft::command_line(guest)?,
    };
    let max = match guest.kernel {
        Format::BzImage { cmdline_max } => usize::try_from(cmdline_max).unwrap_or(MOST_MAX).min(MOST_MAX),
        _ => USUAL_MAX,
    };
    if line.text.len() > max {
        return Err(PlanError::CommandLineTooLong { bytes: line.text.len(), max });
    }
    Ok(line)
}

fn argument(index: usize, value: &str, wanted: &'static str) -> PlanError {
    PlanError::Argument { index, value: value.to_owned(), wanted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_api::Accel;

    pub(super) fn guest(kind: GuestKind, kernel: Format, args: &[&str]) -> GuestSpec {
        GuestSpec {
            kind,
            kernel,
            initrd: kind == GuestKind::Linux,
            args: args.iter().map(|&a| a.to_owned()).collect(),
            memory_mib: 64,
            vcpus: 1,
            accel: Accel::Auto,
            data_path: None,
            network: None,
        }
    }

    #[test]
    fn a_nul_is_refused_wherever_it_stands() {
        for kind in [GuestKind::Linux, GuestKind::Unikraft] {
            for (index, args) in [["/a\0", "b"], ["/a", "b\0c"]].iter().enumerate() {
                let error = command_line(&guest(kind, Format::PvhElf, args)).unwrap_err();
                assert!(matches!(error, PlanError::Argument { index: i, .. } if i == index), "{error}");
            }
        }
    }

    #[test]
    fn the_longest_line_fits_and_one_byte_more_does_not() {
        let cases = [
            (GuestKind::Linux, Format::PvhElf, 2047),
            (GuestKind::Linux, Format::BzImage { cmdline_max: 255 }, 255),
            (GuestKind::Linux, Format::BzImage { cmdline_max: 4095 }, 4095),
            (GuestKind::Linux, Format::BzImage { cmdline_max: u32::MAX }, 65535),
            (GuestKind::Unikraft, Format::OtherElf, 2047),
            (GuestKind::Unikraft, Format::PvhElf, 2047),
        ];
        let address = ["10.88.0.5/24 via 10.88.0.1", "fd00::5/64 via fd00::1"];
        let networks = [None, Some(network::tests::network(Some(&"n".repeat(63)), &address))];
        for ((kind, kernel, limit), network) in
            cases.iter().flat_map(|case| networks.iter().map(|n| (*case, n)))
        {
            let line = |n: usize| {
                let mut guest = guest(kind, kernel, &["/a", &"x".repeat(n)]);
                guest.network = network.clone();
                command_line(&guest)
            };
            let frame = line(1).unwrap().text.len() - 1;
            assert_eq!(line(limit - frame).unwrap().text.len(), limit);
            match line(limit - frame + 1).unwrap_err() {
                PlanError::CommandLineTooLong { bytes, max } => assert_eq!((bytes, max), (limit + 1, limit)),
                other => panic!("{other}"),
            }
        }
    }
}
