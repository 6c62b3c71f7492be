//! From QEMU's end to the container's.
//!
//! A guest that writes v to isa-debug-exit makes QEMU exit with `(v << 1) | 1`, so odd codes carry the guest's own
//! status, 0 to 127. 1 is ambiguous: the guest's status 0 or QEMU's own failure, about which QEMU has written to its
//! stderr. 0 is a power-off, a reset (because of `-no-reboot`) or the answer to a signal; which one QEMU has said by
//! QMP, and of a reset in software on its stderr, whether it was a triple fault.

use vmm_api::{GuestEnd, GuestExit, RawExit, Reason};

/// What a container's init that reboots ends with elsewhere: in a pid namespace the kernel sends it SIGHUP (reboot(2)).
const RESET: u32 = 129;
/// QEMU ends in the same way on INT, HUP and TERM, and does not say which; TERM is what people send.
const TERMINATED: u32 = 143;
/// What Linux' own shells and init systems have for a panic: none. This one is sysexits' "software error".
const PANICKED: u32 = 70;

/// sysexits' "operating system error".
const FAULTED: u32 = 71;

/// What QEMU says on its stderr then (`qmp` asks it to).
const TRIPLE_FAULT: &str = "Triple fault";

pub(super) fn of(raw: RawExit, said: Option<GuestEnd>, words: &str) -> GuestExit {
    let exit = |status, reason| GuestExit { status, reason };
    // An exit code is the low byte of what the process said.
    match (raw, said) {
        (RawExit::Signal(_), _) => raw.plain(),
        (RawExit::Code(1), _) if !words.is_empty() => exit(1, Reason::MonitorFailed),
        (RawExit::Code(code), _) if code % 2 != 0 => {
            exit((code.unsigned_abs() & 0xff) >> 1, Reason::GuestStatus)
        }
        (RawExit::Code(0), Some(GuestEnd::PowerOff)) => exit(0, Reason::PowerOff),
        (RawExit::Code(0), Some(GuestEnd::Reset)) if words.lines().any(|line| line == TRIPLE_FAULT) => {
            exit(FAULTED, Reason::TripleFault)
        }
        (RawExit::Code(0), Some(GuestEnd::Reset)) => exit(RESET, Reason::Reset),
        (RawExit::Code(0), Some(GuestEnd::Panic)) => exit(PANICKED, Reason::Panic),
        (RawExit::Code(0), Some(GuestEnd::Signal)) => exit(TERMINATED, Reason::Signal),
        (RawExit::Code(0), None) => exit(0, Reason::Unknown),
        (RawExit::Code(_), _) => raw.plain(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_table() {
        let table = [
            (RawExit::Code(0), Some(GuestEnd::PowerOff), "", 0, Reason::PowerOff),
            (RawExit::Code(0), Some(GuestEnd::PowerOff), "a complaint", 0, Reason::PowerOff),
            (RawExit::Code(0), Some(GuestEnd::Reset), "", 129, Reason::Reset),
            (RawExit::Code(0), Some(GuestEnd::Reset), "a complaint", 129, Reason::Reset),
            (RawExit::Code(0), Some(GuestEnd::Reset), "Triple fault\n", 71, Reason::TripleFault),
            (RawExit::Code(0), Some(GuestEnd::Panic), "", 70, Reason::Panic),
            (RawExit::Code(0), Some(GuestEnd::Signal), "a complaint", 143, Reason::Signal),
            (RawExit::Code(0), None, "", 0, Reason::Unknown),
            (RawExit::Code(1), None, "", 0, Reason::GuestStatus),
            (RawExit::Code(1), None, "a complaint", 1, Reason::MonitorFailed),
            (RawExit::Code(2), None, "", 2, Reason::MonitorFailed),
            (RawExit::Code(3), None, "", 1, Reason::GuestStatus),
            (RawExit::Code(3), None, "a complaint", 1, Reason::GuestStatus),
            (RawExit::Code(15), None, "", 7, Reason::GuestStatus),
            (RawExit::Code(33), None, "a complaint", 16, Reason::GuestStatus),
            (RawExit::Code(254), None, "", 254, Reason::MonitorFailed),
            (RawExit::Code(255), None, "", 127, Reason::GuestStatus),
            (RawExit::Signal(6), None, "a complaint", 134, Reason::MonitorCrashed),
            (RawExit::Signal(11), Some(GuestEnd::Reset), "a complaint", 139, Reason::MonitorCrashed),
            (RawExit::Signal(9), None, "", 137, Reason::Signal),
        ];
        for (raw, said, words, status, reason) in table {
            assert_eq!(of(raw, said, words), GuestExit { status, reason }, "{raw:?} {said:?} {words:?}");
        }
    }
}
