//! QEMU's command line. Pure.
//!
//! Every value is one element of the argument list. The elements that hold the caller's data are numbers or the value
//! of `-append`, which QEMU takes verbatim (it is not one of its comma-separated option strings); the paths are fixed
//! ones of the private root. QEMU needs no environment, no /proc and no /sys.

use std::path::Path;

use vmm_api::{
    Accel, CONTROL_FD, GuestKind, GuestNetwork, GuestSpec, HostFacts, INITRD_PATH, KERNEL_PATH, LaunchPlan,
    PlanError, TAP_FD, kernel::Format,
};

use crate::guest;

pub(super) const NAME: &str = "qemu";

/// TCG with a bound on its buffer of translated code. Its default is 1 GiB: a guest of 256 MiB that ran much code made
/// a QEMU of 1.6 GiB, far beyond any container's limit. Booting Debian's kernel fills 41 MiB; with 64 neither that
/// boot nor Python and its modules after it are slower than without a bound, with 32 the latter take 1.5 times as
/// long.
const TCG: &str = "tcg,tb-size=64";

/// What QEMU 7.2 needs beside guest RAM, measured as the peak of its cgroup with all RAM touched and the code buffer
/// full, 256 MiB to 8 GiB of RAM: 118 MiB of anonymous memory with one vCPU, 132 with four, whatever the RAM (the
/// buffer, QEMU's heap, 14 MiB of kernel file); page tables of 0.2 % of the RAM; and 22 MiB of its program and
/// libraries unless another QEMU has them in memory. So 140 to 170 MiB. The rest is for TCG's TLB, which grows
/// with the pages that a guest uses in no order: 50 MiB for 2 GiB of them; a guest that uses more so under TCG needs
/// a larger, configured overhead. Under KVM 42 MiB were seen.
pub(super) const OVERHEAD_MIB: u64 = 192;

/// Without AHCI and its option ROM a q35 is 11 ms faster at the guest's first instruction (61 to 51); nothing here
/// has a SATA disk.
const Q35: &str = "q35,sata=off";
const MICROVM: &str = "microvm";

/// QEMU's seccomp filter. It works without /proc, and its cost drowns in the noise (26.2 and 26.4 ms, n = 40).
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

pub(super) fn plan(program: &Path, guest: &GuestSpec, host: HostFacts) -> Result<LaunchPlan, PlanError> {
    let (machine, why_machine) = machine(guest)?;
    let (accels, why_accel) = accel(guest.accel, host)?;
    let line = guest::command_line(guest)?;

    // -no-reboot: a reset ends QEMU. -S: the guest waits for `cont`. signal=off: the console's ^C is for the guest.
    let mut args: Vec<String> =
        ["-nodefaults", "-no-user-config", "-no-reboot", "-S"].map(str::to_owned).into();
    let mut option = |name: &str, value: &str| args.extend([name.to_owned(), value.to_owned()]);
    if let Some(data) = &guest.data_path {
        let path = data.to_str().ok_or_else(|| PlanError::Path {
            monitor: NAME,
            field: "monitors.qemu.data_path",
            path: data.clone(),
        })?;
        option("-L", path);
    }
    option("-display", "none");
    option("-sandbox", SANDBOX);
    option("-machine", machine);
    for accel in accels {
        option("-accel", accel);
    }
    option("-cpu", "max");
    option("-smp", &guest.vcpus.to_string());
    option("-m", &format!("{}M", guest.memory_mib));
    option("-chardev", "stdio,id=console,signal=off");
    option("-serial", "chardev:console");
    option("-chardev", &format!("socket,id=qmp,fd={CONTROL_FD}"));
    option("-mon", "chardev=qmp,mode=control");
    option("-device", "isa-debug-exit,iobase=0xf4,iosize=4");
    if let Some(network) = &guest.network {
        // Of the other options none is legal beside fd=. vhost would need /dev/vhost-net.
        option("-netdev", &format!("tap,id=net0,fd={TAP_FD},vhost=off"));
        let (bus, end) = if machine == MICROVM { ("device", "") } else { ("pci", ",romfile=") };
        if machine == MICROVM {
            // Else it is the virtio of before 2016, which guests made for microVMs do not know.
            option("-global", "virtio-mmio.force-legacy=false");
        }
        option("-device", &format!("virtio-net-{bus},netdev=net0,mac={}{}{end}", network.mac, mtu(network)));
    }
    option("-kernel", KERNEL_PATH);
    if guest.initrd {
        option("-initrd", INITRD_PATH);
    }
    option("-append", &line.text);

    let mut reasons = vec![why_machine.to_owned(), why_accel.to_owned()];
    if guest.network.is_some() && machine == MICROVM {
        reasons.push("network: virtio-mmio, which the guest must find by ACPI".to_owned());
    }
    reasons.extend(line.reasons);
    Ok(LaunchPlan {
        program: program.to_owned(),
        args,
        env: Vec::new(),
        devices: if accels.contains(&"kvm") { vec!["kvm".to_owned()] } else { Vec::new() },
        power_button: guest.kind == GuestKind::Linux,
        reasons,
    })
}

/// The machine for the guest's kernel, and why.
fn machine(guest: &GuestSpec) -> Result<(&'static str, &'static str), PlanError> {
    let wanted = match (guest.kind, guest.kernel) {
        (GuestKind::Linux, Format::BzImage { .. } | Format::PvhElf) => {
            // Under TCG a vmlinux hangs on a microvm at random: it finds no timer to calibrate its TSC against.
            return Ok((Q35, "machine q35: Linux needs its timers (HPET, ACPI PM)"));
        }
        (GuestKind::Unikraft, Format::PvhElf) => {
            return Ok((MICROVM, "machine microvm: the kernel has a PVH entry point, so no PC is needed"));
        }
        (GuestKind::Unikraft, Format::OtherElf) => {
            return Ok((Q35, "machine q35: the kernel has no PVH entry point, so it is booted by multiboot"));
        }
        (GuestKind::Linux, _) => "a bzImage or an ELF file with a PVH entry point (vmlinux)",
        (GuestKind::Unikraft, _) => "an ELF file (multiboot or PVH)",
    };
    Err(PlanError::KernelFormat {
        monitor: NAME,
        guest: guest.kind.as_str(),
        found: guest.kernel.describe(),
        wanted,
    })
}

/// The part of the network device's options that tells the guest its MTU. What the device cannot tell (16 bits; Linux
/// refuses a device with less than 68) is no MTU of an Ethernet interface.
fn mtu(network: &GuestNetwork) -> String {
    if (68..=0xffff).contains(&network.mtu) { format!(",host_mtu={}", network.mtu) } else { String::new() }
}

/// The values of `-accel`, tried in this order, and why.
fn accel(wanted: Accel, host: HostFacts) -> Result<(&'static [&'static str], &'static str), PlanError> {
    Ok(match wanted {
        Accel::Tcg => (&[TCG], "accelerator tcg: configured"),
        Accel::Kvm if !host.kvm => return Err(PlanError::NoKvm),
        Accel::Kvm => (&["kvm"], "accelerator kvm: configured"),
        Accel::Auto if !host.kvm => (&[TCG], "accelerator tcg: the host has no /dev/kvm"),
        // A KVM without vmx or svm emulates instructions, and not all of them: few guests run.
        Accel::Auto if !host.hardware_virt => (&[TCG], "accelerator tcg: the CPU shows neither vmx nor svm"),
        Accel::Auto => {
            (&["kvm", TCG], "accelerator kvm, tcg if that fails: the host has hardware virtualization")
        }
    })
}

#[cfg(test)]
mod tests;
