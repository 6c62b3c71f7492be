//! Memory and CPUs: a guest has what its limits say, and using all of it is no reason to be killed.

use urunc_tests::harness::{BOOT, Cgroup, Containerd, Image, Job, SOON, Test, Version, tiny};

const MIB: u64 = 1 << 20;

/// A guest of 64 MiB writes to all of its RAM.
pub fn a_tiny_guest_fills_its_memory_under_the_limit(version: Version) {
    Test::with(version, &[Image::Tiny], |containerd| {
        let limit = 64 * MIB;
        let flags = ["--rm", "--memory-limit", &limit.to_string()];
        let words = tiny(&["fill", "echo", "exit=5"]);
        // It goes on when it is told to, and not before it was looked at.
        let mut job = Job::to_type_in(containerd.run_command(&flags, Image::Tiny.name(), "full", &words));
        job.wait_for("tiny: echo\n", SOON);
        let filled = number_behind(&job.printed(), "tiny: filled ");
        assert!(filled >= 63, "{filled} MiB of RAM");
        under_the_limit(containerd, "full", limit, filled);
        job.type_in("quit\n");
        job.wait(SOON).expect(5);
    });
}

/// A Linux guest of 128 MiB uses up its memory. A quota of one and a half CPUs is two CPUs.
pub fn a_debian_guest_fills_its_memory_under_the_limit_and_has_its_cpus(version: Version) {
    Test::with(version, &[Image::Debian], |containerd| {
        let limit = 128 * MIB;
        let flags = ["--rm", "--memory-limit", &limit.to_string(), "--cpus", "1.5"];
        let command = ["/init", "fill", "sh", "-c", "read x"];
        let mut job = Job::to_type_in(containerd.run_command(&flags, Image::Debian.name(), "full", &command));
        job.wait_for("guest: filled", BOOT);
        let filled = number_behind(&job.printed(), "guest: filled ");
        assert!(filled >= 40, "{filled} MiB were filled");
        assert!(job.printed().contains(" on 2 cpu(s), "), "{}", job.printed());
        under_the_limit(containerd, "full", limit, 100);
        job.type_in("\n");
        job.wait_for("guest: ended with status 0", BOOT);
        job.wait(BOOT).expect(0);
    });
}

/// The cgroup's limit is the container's and what the monitor needs for itself; `used` MiB are really used, and nobody
/// was killed for it.
fn under_the_limit(containerd: &Containerd, id: &str, limit: u64, used: u64) {
    let monitors = vmm_backends::monitors();
    let qemu = monitors.iter().find(|m| m.name() == "qemu").unwrap();
    let cgroup = Cgroup::of(&containerd.namespace(), id);
    assert_eq!(cgroup.limit(), limit + qemu.overhead_mib() * MIB);
    assert_eq!(containerd.plan(id)["memory"]["guest_mib"], limit / MIB);
    let usage = cgroup.usage() / MIB;
    assert!(usage >= used, "only {usage} MiB are charged, the guest filled {used}");
    assert_eq!(cgroup.oom_kills(), 0);
}

/// The number that stands behind `words`.
fn number_behind(text: &str, words: &str) -> u64 {
    let (_, rest) = text.split_once(words).unwrap_or_else(|| panic!("no {words:?} in {text:?}"));
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}
