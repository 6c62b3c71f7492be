use vmm_api::{GuestAddress, Mac};

use super::*;

const NOTHING: HostFacts = HostFacts { hardware_virt: false, kvm: false };
const EMULATED: HostFacts = HostFacts { hardware_virt: false, kvm: true };
const REAL: HostFacts = HostFacts { hardware_virt: true, kvm: true };
const BZIMAGE: Format = Format::BzImage { cmdline_max: 2047 };

fn guest(kind: GuestKind, kernel: Format, initrd: bool, args: &[&str], accel: Accel) -> GuestSpec {
    let args = args.iter().map(|&a| a.to_owned()).collect();
    GuestSpec { kind, kernel, initrd, args, memory_mib: 256, vcpus: 2, accel, data_path: None, network: None }
}

fn planned(guest: &GuestSpec, host: HostFacts) -> LaunchPlan {
    plan(Path::new("/usr/bin/qemu-system-x86_64"), guest, host).unwrap()
}

/// The whole list for one machine, accelerators and end.
fn golden(machine: &str, accels: &[&str], end: &[&str]) -> Vec<String> {
    let start = [
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-S",
        "-display",
        "none",
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-machine",
        machine,
    ];
    let middle = [
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "256M",
        "-chardev",
        "stdio,id=console,signal=off",
        "-serial",
        "chardev:console",
        "-chardev",
        "socket,id=qmp,fd=3",
        "-mon",
        "chardev=qmp,mode=control",
        "-device",
        "isa-debug-exit,iobase=0xf4,iosize=4",
        "-kernel",
        "/guest/kernel",
    ];
    [&start, accels, &middle, end].concat().into_iter().map(str::to_owned).collect()
}

const JUST_TCG: [&str; 2] = ["-accel", "tcg,tb-size=64"];
const JUST_KVM: [&str; 2] = ["-accel", "kvm"];
const BOTH: [&str; 4] = ["-accel", "kvm", "-accel", "tcg,tb-size=64"];

#[test]
fn every_guest_on_every_machine() {
    let linux = ["-initrd", "/guest/initrd", "-append", "console=ttyS0 panic=-1 rdinit=/init -- a,b \"c d\""];
    let unikraft = ["-append", "app -- a,b 'c d'"];
    let cases = [
        (GuestKind::Linux, BZIMAGE, "/init", "q35,sata=off", &linux[..]),
        (GuestKind::Linux, Format::PvhElf, "/init", "q35,sata=off", &linux),
        (GuestKind::Unikraft, Format::PvhElf, "app", "microvm", &unikraft),
        (GuestKind::Unikraft, Format::OtherElf, "app", "q35,sata=off", &unikraft),
    ];
    for (kind, kernel, first, machine, end) in cases {
        let args = [first, "a,b", "c d"];
        for (accel, host, accels) in [
            (Accel::Auto, NOTHING, &JUST_TCG[..]),
            (Accel::Auto, EMULATED, &JUST_TCG),
            (Accel::Auto, REAL, &BOTH),
            (Accel::Auto, HostFacts { hardware_virt: true, kvm: false }, &JUST_TCG),
            (Accel::Tcg, REAL, &JUST_TCG),
            (Accel::Kvm, REAL, &JUST_KVM),
            (Accel::Kvm, EMULATED, &JUST_KVM),
        ] {
            let plan = planned(&guest(kind, kernel, kind == GuestKind::Linux, &args, accel), host);
            assert_eq!(plan.args, golden(machine, accels, end), "{kind:?} {kernel:?} {accel:?} {host:?}");
            assert_eq!(plan.devices, if accels == JUST_TCG { vec![] } else { vec!["kvm"] });
            assert_eq!(plan.power_button, kind == GuestKind::Linux);
            assert_eq!(plan.program, Path::new("/usr/bin/qemu-system-x86_64"));
            assert_eq!(plan.reasons.len(), 2, "{:?}", plan.reasons);
        }
    }
}

#[test]
fn guests_without_initrd_and_without_arguments() {
    let args = planned(&guest(GuestKind::Linux, BZIMAGE, false, &[], Accel::Tcg), NOTHING).args;
    assert_eq!(args, golden("q35,sata=off", &JUST_TCG, &["-append", "console=ttyS0 panic=-1"]));
    let args = planned(&guest(GuestKind::Unikraft, Format::PvhElf, true, &[], Accel::Tcg), NOTHING).args;
    assert_eq!(args, golden("microvm", &JUST_TCG, &["-initrd", "/guest/initrd", "-append", ""]));
}

#[test]
fn a_network_is_a_tap_and_a_device_and_words_for_the_guest() {
    let address =
        |ip: [u8; 4]| GuestAddress { ip: ip.into(), prefix_len: 24, gateway: Some([10, 88, 0, 1].into()) };
    let network = |mtu, addresses| GuestNetwork {
        mac: Mac([0x02, 0x42, 0xac, 0x11, 0x00, 0xfe]),
        mtu,
        hostname: Some("web-0".to_owned()),
        addresses,
    };
    let netdev = ["-netdev", "tap,id=net0,fd=4,vhost=off"];
    let pci = "virtio-net-pci,netdev=net0,mac=02:42:ac:11:00:fe,host_mtu=1450,romfile=";
    let mmio = "virtio-net-device,netdev=net0,mac=02:42:ac:11:00:fe,host_mtu=1450";
    let pci = [&netdev[..], &["-device", pci]].concat();
    let mmio = [&netdev[..], &["-global", "virtio-mmio.force-legacy=false", "-device", mmio]].concat();
    let linux = "console=ttyS0 panic=-1 ip=10.88.0.5::10.88.0.1:255.255.255.0:web-0:eth0:off init=/app -- x";
    let unikraft = "/app netdev.ip=10.88.0.5/24:10.88.0.1:::web-0 -- x";
    for (kind, kernel, device, line, reasons) in [
        (GuestKind::Linux, BZIMAGE, &pci, linux, 2),
        (GuestKind::Linux, Format::PvhElf, &pci, linux, 2),
        (GuestKind::Unikraft, Format::OtherElf, &pci, unikraft, 2),
        (GuestKind::Unikraft, Format::PvhElf, &mmio, unikraft, 3),
    ] {
        let mut guest = guest(kind, kernel, false, &["/app", "x"], Accel::Tcg);
        let mut wanted = planned(&guest, NOTHING).args;
        let at = wanted.iter().position(|arg| arg == "-kernel").unwrap();
        wanted.splice(at..at, device.iter().map(|&arg| arg.to_owned()));
        *wanted.last_mut().unwrap() = line.to_owned();
        guest.network = Some(network(1450, vec![address([10, 88, 0, 5])]));
        let plan = planned(&guest, NOTHING);
        assert_eq!(plan.args, wanted);
        assert_eq!(plan.reasons.len(), reasons, "{:?}", plan.reasons);
    }
    for (mtu, said) in [(0, ""), (67, ""), (68, ",host_mtu=68"), (65535, ",host_mtu=65535"), (65536, "")] {
        let mut guest = guest(GuestKind::Linux, BZIMAGE, false, &[], Accel::Tcg);
        guest.network = Some(network(mtu, vec![]));
        let device = format!("virtio-net-pci,netdev=net0,mac=02:42:ac:11:00:fe{said},romfile=");
        assert!(planned(&guest, NOTHING).args.contains(&device));
    }
}

#[test]
fn an_argument_never_becomes_an_option() {
    let hostile = ["-hda", "/etc/shadow,format=raw", "\n-monitor\nstdio", "-append"];
    for (kind, first) in [(GuestKind::Linux, "/-kernel"), (GuestKind::Unikraft, "-kernel")] {
        let args = [&[first], &hostile[..]].concat();
        let with = planned(&guest(kind, Format::PvhElf, false, &args, Accel::Tcg), NOTHING).args;
        let without = planned(&guest(kind, Format::PvhElf, false, &[], Accel::Tcg), NOTHING).args;
        assert_eq!(with.len(), without.len());
        assert_eq!(with[..with.len() - 1], without[..without.len() - 1]);
    }
}

#[test]
fn kvm_without_kvm_is_refused() {
    let guest = guest(GuestKind::Unikraft, Format::PvhElf, false, &[], Accel::Kvm);
    assert!(matches!(plan(Path::new("/q"), &guest, NOTHING), Err(PlanError::NoKvm)));
}

#[test]
fn kernels_of_the_wrong_format_are_refused_by_name() {
    let refused = |kind, kernel| {
        let guest = guest(kind, kernel, false, &[], Accel::Auto);
        plan(Path::new("/q"), &guest, NOTHING).unwrap_err().to_string()
    };
    assert_eq!(
        refused(GuestKind::Linux, Format::OtherElf),
        "binary: the kernel is an ELF file without a PVH entry point; a linux guest under qemu needs a bzImage or an \
         ELF file with a PVH entry point (vmlinux)"
    );
    assert_eq!(
        refused(GuestKind::Unikraft, BZIMAGE),
        "binary: the kernel is a Linux bzImage; a unikraft guest under qemu needs an ELF file (multiboot or PVH)"
    );
    for kind in [GuestKind::Linux, GuestKind::Unikraft] {
        assert!(refused(kind, Format::Unknown).contains("neither"));
    }
}

#[test]
fn the_log_hears_of_encoded_arguments() {
    let plan = planned(&guest(GuestKind::Linux, BZIMAGE, true, &["/init", "\""], Accel::Tcg), NOTHING);
    assert!(plan.reasons[2].contains("process.args[1]") && plan.reasons[2].contains("urunc.args="));
}
