//! From QEMU's exit code to the container's exit status.
//!
//! A guest that writes v to isa-debug-exit makes QEMU exit with `(v << 1) | 1`, so odd codes carry the guest's own
//! status, 0 to 127. 0 is a power-off or, because of `-no-reboot`, a reset (a kernel panic is a reset, too; the code
//! does not tell them apart). 1 is ambiguous: the guest's status 0 or QEMU's own failure, about which QEMU has
//! written to its stderr.

use vmm_api::RawExit;

pub(super) fn status(raw: RawExit, complained: bool) -> u32 {
    match raw {
        RawExit::Code(1) if complained => 1,
        // An exit code is the low byte of what the process said.
        RawExit::Code(code) => {
            let code = code.unsigned_abs() & 0xff;
            if code % 2 == 1 { code >> 1 } else { code }
        }
        RawExit::Signal(signal) => 128 + signal.unsigned_abs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_table() {
        let table = [
            (RawExit::Code(0), false, 0),
            (RawExit::Code(0), true, 0),
            (RawExit::Code(1), false, 0),
            (RawExit::Code(1), true, 1),
            (RawExit::Code(2), false, 2),
            (RawExit::Code(3), false, 1),
            (RawExit::Code(3), true, 1),
            (RawExit::Code(15), false, 7),
            (RawExit::Code(33), true, 16),
            (RawExit::Code(254), false, 254),
            (RawExit::Code(255), false, 127),
            (RawExit::Signal(6), true, 134),
            (RawExit::Signal(9), false, 137),
        ];
        for (raw, complained, wanted) in table {
            assert_eq!(status(raw, complained), wanted, "{raw:?} {complained}");
        }
    }
}
