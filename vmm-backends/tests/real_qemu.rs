//! The backend against a real QEMU: what is planned boots, answers, runs, and ends as it should.
//!
//! The only thing that differs from a container is where the files are: /guest/kernel and /guest/initrd are replaced
//! by their paths. Kernels are tests/guests/tiny, a multiboot kernel of a few instructions, and for the network
//! Debian's with tests/guests/linux. Without QEMU, gcc, root or what `make deps` makes a test says `skipped: ...` and
//! returns.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the whole crate is tests")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, TcpStream},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    ioctl::{Updater, ioctl},
    thread::UnshareFlags,
};
use vmm_api::{
    Accel, CONTROL_FD, Control, ControlError, GuestAddress, GuestExit, GuestKind, GuestNetwork, GuestSpec,
    HostFacts, INITRD_PATH, KERNEL_PATH, LaunchPlan, Mac, Monitor, RawExit, Reason, TAP_FD, kernel::Format,
};

fn qemu() -> Box<dyn Monitor> {
    vmm_backends::find_monitor("qemu").unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Whether PATH has the program; says that the test is skipped if not.
fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

fn succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The tests' tiny guest, built into `folder`.
fn tiny(folder: &Path) -> PathBuf {
    let kernel = folder.join("tiny.elf");
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests/tiny/build.sh");
    succeeds(Command::new(build).arg(&kernel));
    assert_eq!(Format::probe(&fs::File::open(&kernel).unwrap()).unwrap(), Format::PvhElf);
    kernel
}

fn spec(kind: GuestKind, kernel: Format, args: &[&str]) -> GuestSpec {
    let args = args.iter().map(|&a| a.to_owned()).collect();
    GuestSpec {
        kind,
        kernel,
        initrd: false,
        args,
        memory_mib: 64,
        vcpus: 1,
        accel: Accel::Tcg,
        data_path: None,
        network: None,
    }
}

/// This host, as a plan sees it.
fn host() -> HostFacts {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap();
    let hardware_virt = flags.split_ascii_whitespace().any(|flag| flag == "vmx" || flag == "svm");
    HostFacts { hardware_virt, kvm: Path::new("/dev/kvm").exists() }
}

fn plan(guest: &GuestSpec) -> LaunchPlan {
    qemu().plan(Path::new("qemu-system-x86_64"), guest, host()).unwrap()
}

/// A running QEMU; killed, by its handle, if a test fails before its end.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    control: Box<dyn Control>,
}

impl Running {
    fn start(plan: &LaunchPlan, kernel: &Path) -> Self {
        Self::start_with(plan, &[(KERNEL_PATH, kernel)], None)
    }

    /// `files`: where those of the private root are. With a tap what QEMU says on stderr is among its output.
    fn start_with(plan: &LaunchPlan, files: &[(&str, &Path)], tap: Option<OwnedFd>) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let args = plan.args.iter().map(|arg| {
            let file = files.iter().find(|(inside, _)| inside == arg);
            file.map_or(arg.as_str(), |(_, path)| path.to_str().unwrap())
        });
        // The control channel comes in as stdin, the tap as stderr: a shell can move them to where they belong, std
        // cannot.
        let tap_moves = tap.as_ref().map(|_| format!("{TAP_FD}>&2 2>&1")).unwrap_or_default();
        let moves = format!("exec {CONTROL_FD}<&0 {tap_moves} </dev/null; exec \"$@\"");
        let mut child = Command::new("sh")
            .args(["-c", &moves, "sh"])
            .arg(&plan.program)
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::piped())
            .stderr(tap.map_or_else(Stdio::piped, Stdio::from))
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout, control: qemu().control(ours) }
    }

    /// Waits for the end; what is left of its output, what it said on stderr, the container's exit status.
    fn end(self) -> (String, String, u32) {
        let (out, err, exit) = self.end_with_reason();
        (out, err, exit.status)
    }

    /// The same, with the reason of the end.
    fn end_with_reason(mut self) -> (String, String, GuestExit) {
        let (mut out, mut err) = (String::new(), String::new());
        self.stdout.read_to_string(&mut out).unwrap();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut err).unwrap();
        }
        let status = self.child.wait().unwrap();
        let raw = match (status.code(), status.signal()) {
            (Some(code), _) => RawExit::Code(code),
            (None, Some(signal)) => RawExit::Signal(signal),
            (None, None) => panic!("{status}"),
        };
        let said = self.control.hear();
        (out, err.clone(), qemu().exit(raw, said, &err))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    /// The first line from here on that starts so, without its end.
    fn line_with(&mut self, start: &str) -> String {
        let mut before = String::new();
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "the output ended without {start:?}:\n{before}");
            if line.starts_with(start) {
                return line.trim_end().to_owned();
            }
            before += &line;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail if it has ended already, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_guest_is_ready_then_goes_then_ends_with_its_own_status() {
    if !installed("qemu-system-x86_64") || !installed("gcc") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let kernel = tiny(folder.path());
    // microvm and q35, TCG and whatever this host would be given.
    let cases = [
        (GuestKind::Unikraft, "it's \"it\",x=\\", r#"/app -- say=a,b exit=7 'it'"'"'s "it",x=\'"#),
        (GuestKind::Linux, "it's,x=\\ ", r#"console=ttyS0 panic=-1 init=/app -- say=a,b exit=7 "it's,x=\ ""#),
    ];
    for (kind, last, line) in cases {
        let mut guest = spec(kind, Format::PvhElf, &["/app", "say=a,b", "exit=7", last]);
        for accel in [Accel::Tcg, Accel::Auto] {
            guest.accel = accel;
            let mut running = Running::start(&plan(&guest), &kernel);
            let ready = running.control.ready(soon()).unwrap();
            assert!(ready.accel == "tcg" || (accel == Accel::Auto && ready.accel == "kvm"), "{ready:?}");
            assert!(ready.version.split('.').count() == 3, "{ready:?}");
            running.control.go(soon()).unwrap();
            let (out, err, status) = running.end();
            assert_eq!(out, format!("tiny: {line}\na,b\n"));
            assert_eq!(status, 7);
            // With KVM tried and not to be had, QEMU says that it falls back.
            assert!(err.is_empty() || accel == Accel::Auto, "{err}");
        }
    }
}

#[test]
fn the_other_ends_of_a_guest() {
    if !installed("qemu-system-x86_64") || !installed("gcc") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let kernel = tiny(folder.path());
    for (kind, word, status, reason, words) in [
        (GuestKind::Unikraft, "exit=0", 0, Reason::GuestStatus, ""),
        (GuestKind::Unikraft, "exit=127", 127, Reason::GuestStatus, ""),
        (GuestKind::Unikraft, "triple", 71, Reason::TripleFault, "Triple fault\n"),
        (GuestKind::Linux, "triple", 71, Reason::TripleFault, "Triple fault\n"),
        (GuestKind::Linux, "reset", 129, Reason::Reset, ""),
    ] {
        let mut running = Running::start(&plan(&spec(kind, Format::PvhElf, &["/app", word])), &kernel);
        running.control.ready(soon()).unwrap();
        running.control.go(soon()).unwrap();
        let (_, err, exit) = running.end_with_reason();
        assert_eq!((err.as_str(), exit), (words, GuestExit { status, reason }), "{word}");
    }
    // The registers of further processors are no complaint.
    let smp = GuestSpec { vcpus: 2, ..spec(GuestKind::Linux, Format::PvhElf, &["/app", "exit=0"]) };
    let mut running = Running::start(&plan(&smp), &kernel);
    running.control.ready(soon()).unwrap();
    running.control.go(soon()).unwrap();
    assert_eq!(running.end_with_reason().2, GuestExit { status: 0, reason: Reason::GuestStatus });
}

#[test]
fn the_guest_waits_for_go_and_the_channel_ends_with_qemu() {
    if !installed("qemu-system-x86_64") || !installed("gcc") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let kernel = tiny(folder.path());
    let mut running =
        Running::start(&plan(&spec(GuestKind::Linux, Format::PvhElf, &["/app", "echo"])), &kernel);
    running.control.ready(soon()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    running.control.go(soon()).unwrap();
    assert_eq!(running.line(), "tiny: console=ttyS0 panic=-1 init=/app -- echo\n");
    assert_eq!(running.line(), "tiny: echo\n");
    // This guest does not hear it, QEMU takes the command all the same.
    running.control.power_button(soon()).unwrap();
    running.child.kill().unwrap();
    assert!(matches!(running.control.power_button(soon()), Err(ControlError::Closed)));
    assert_eq!(running.end().2, 137);
}

#[test]
fn a_kernel_that_qemu_cannot_load_is_qemus_own_failure() {
    if !installed("qemu-system-x86_64") {
        return;
    }
    let plan = plan(&spec(GuestKind::Unikraft, Format::OtherElf, &[]));
    let mut running = Running::start(&plan, Path::new("/nonexistent"));
    assert!(matches!(running.control.ready(soon()), Err(ControlError::Closed)));
    let (out, err, status) = running.end();
    assert!(out.is_empty() && err.contains("/nonexistent"), "{err}");
    assert_eq!(status, 1);
}

/// A multiboot kernel that prints its command line, as Unikraft's for QEMU are: `guest/unikraft.rs` relies on the
/// kernel's path being its first word.
const MULTIBOOT: &str = "
        .section .text
        .code32
        .align 4
        .long 0x1badb002, 0, -0x1badb002
        .globl start
start:  mov 16(%ebx), %esi
1:      mov (%esi), %al
        inc %esi
        mov $0x3f8, %dx
        test %al, %al
        jz 2f
        outb %al, %dx
        jmp 1b
2:      mov $0xf4, %dx
        mov $5, %eax
        outl %eax, %dx
3:      hlt
        jmp 3b
";

#[test]
fn a_multiboot_kernel_gets_its_path_in_front_of_its_line() {
    if !installed("qemu-system-x86_64") || !installed("gcc") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (source, object, kernel) =
        (folder.path().join("m.s"), folder.path().join("m.o"), folder.path().join("m.elf"));
    fs::write(&source, MULTIBOOT).unwrap();
    succeeds(Command::new("gcc").args(["-m32", "-c", "-o"]).args([&object, &source]));
    succeeds(
        Command::new("ld")
            .args(["-m", "elf_i386", "-Ttext=0x200000", "-e", "start", "-n", "-o"])
            .args([&kernel, &object]),
    );
    let format = Format::probe(&fs::File::open(&kernel).unwrap()).unwrap();
    assert_eq!(format, Format::OtherElf);
    let mut running =
        Running::start(&plan(&spec(GuestKind::Unikraft, format, &["app", "a b", "c,d"])), &kernel);
    running.control.ready(soon()).unwrap();
    running.control.go(soon()).unwrap();
    let (out, err, status) = running.end();
    assert_eq!(out, format!("{} app -- 'a b' c,d", kernel.display()));
    assert_eq!((err.as_str(), status), ("", 5));
}

/// Makes a tap in this thread's network namespace, and the fd of its other side.
fn tap(name: &str) -> OwnedFd {
    // linux/if_tun.h
    const TUNSETIFF: rustix::ioctl::Opcode = 0x4004_54ca;
    const IFF_TAP: u16 = 0x2;
    const IFF_NO_PI: u16 = 0x1000;
    const IFF_VNET_HDR: u16 = 0x4000;
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: u16,
        rest: [u8; 22],
    }
    let mut request = Request { name: [0; 16], flags: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, rest: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    let tap = fs::File::options().read(true).write(true).open("/dev/net/tun").unwrap();
    assert_eq!(size_of::<Request>(), 40);
    // SAFETY: TUNSETIFF reads and writes one struct ifreq, which is as large as Request.
    unsafe { ioctl(&tap, Updater::<TUNSETIFF, _>::new(&mut request)) }.unwrap();
    tap.into()
}

/// The file of `make deps`, if it is there.
fn cached(name: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("URUNC_CACHE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache"), PathBuf::from);
    Some(cache.join("guest").join(name)).filter(|path| path.exists())
}

/// Fetches the page that the guest serves. Connecting is tried until the deadline: the guest's first packets may be
/// lost.
fn page(address: IpAddr) -> String {
    let deadline = soon();
    loop {
        match TcpStream::connect_timeout(&(address, 8080).into(), Duration::from_secs(2)) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                return answer;
            }
            Err(e) => assert!(Instant::now() < deadline, "{address}: {e}"),
        }
    }
}

#[test]
fn a_guest_on_a_tap_is_reached_under_its_addresses() {
    if !installed("qemu-system-x86_64") || !installed("ip") {
        return;
    }
    let (Some(kernel), Some(initrd)) = (cached("vmlinuz"), cached("initrd.gz")) else {
        println!("skipped: no Debian guest; make deps");
        return;
    };
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/net/tun").exists() {
        println!("skipped: a tap needs root and /dev/net/tun");
        return;
    }
    // A thread with a network namespace of its own, which ends with it; what it starts lives there, too.
    let inside = move || {
        // SAFETY: a thread may have a network namespace of its own; no fd of it is shared with the others.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
        let ip = |args: &str| succeeds(Command::new("ip").args(args.split(' ')));
        let tap = tap("tap0");
        ip("link set tap0 mtu 1450 up");
        ip("addr add 10.88.0.1/24 dev tap0");
        ip("addr add fd00:88::1/64 dev tap0 nodad");
        // A gateway beside the guest's subnet, and a second IPv4 address.
        ip("route add 10.99.0.7/32 dev tap0");

        let format = Format::probe(&fs::File::open(&kernel).unwrap()).unwrap();
        let mut guest = spec(GuestKind::Linux, format, &["/init", "serve", "8080"]);
        let address = |ip: &str, prefix_len, gateway: Option<&str>| GuestAddress {
            ip: ip.parse().unwrap(),
            prefix_len,
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        };
        let addresses = vec![
            address("10.99.0.7", 32, Some("10.88.0.1")),
            address("fd00:88::5", 64, Some("fd00:88::1")),
            address("10.88.0.5", 24, None),
        ];
        let mac = Mac([0x02, 0x42, 0x0a, 0x58, 0x00, 0x05]);
        let network = GuestNetwork { mac, mtu: 1450, hostname: Some("web-0".to_owned()), addresses };
        (guest.memory_mib, guest.initrd) = (256, true);
        guest.network = Some(network.clone());
        let files = [(KERNEL_PATH, kernel.as_path()), (INITRD_PATH, initrd.as_path())];
        let mut running = Running::start_with(&plan(&guest), &files, Some(tap));
        running.control.ready(soon()).unwrap();
        running.control.go(soon()).unwrap();
        assert_eq!(
            running.line_with("guest: net "),
            "guest: net eth0 10.99.0.7/32 via 10.88.0.1, fd00:88::5/64 via fd00:88::1, 10.88.0.5/24, mtu 1450"
        );
        running.line_with("guest: serving on port 8080");
        for address in &network.addresses {
            let answer = page(address.ip);
            assert!(answer.starts_with("HTTP/1.") && answer.ends_with("\nhello from web-0\n"), "{answer}");
        }
        let neighbours = fs::read_to_string("/proc/thread-self/net/arp").unwrap();
        assert!(neighbours.contains(&mac.to_string()), "{neighbours}");
        running.control.power_button(soon()).unwrap();
        running.line_with("guest: power button");
        let off = GuestExit { status: 0, reason: Reason::PowerOff };
        assert_eq!(running.end_with_reason().2, off);
    };
    if let Err(cause) = std::thread::spawn(inside).join() {
        std::panic::resume_unwind(cause);
    }
}
