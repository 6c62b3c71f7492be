//! A bundle whose path has a link on the way: the kernel's table of mounts shows another path than the one that we are
//! given, and the container's root file system goes all the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{fs, os::unix::fs::symlink, process::Command};

use urunc_tests::direct::{Bench, Bundle, Proc, SOON, Spec, eventually};

/// A bundle that is known by a path through a link.
fn linked(bench: &Bench, id: &str) -> Bundle {
    let mut bundle = bench.ordinary(id, &Spec::busybox("echo ready; exec sleep 1000"));
    let link = bench.scratch().join("link");
    if !link.exists() {
        symlink("bundles", &link).unwrap();
    }
    bundle.path = link.join(id);
    assert!(bundle.path.join("config.json").exists());
    bundle
}

/// The mounts on a bundle's root file system, each with its kind.
fn mounts(bundle: &Bundle) -> Vec<String> {
    let place = bundle.path.canonicalize().unwrap().join("rootfs");
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let here = |line: &&str| line.split(' ').nth(4) == place.to_str();
    let kind = |line: &str| line.split_once(" - ").unwrap().1.split(' ').nth(1).unwrap().to_owned();
    table.lines().filter(here).map(kind).collect()
}

#[test]
fn its_life_leaves_no_mount() {
    let Some(bench) = Bench::released() else { return };
    for how in ["delete", "daemon", "shim"] {
        let bundle = linked(&bench, "c1");
        let (shim, pid) = bench.running(&bundle);
        assert_eq!(mounts(&bundle).len(), 1);
        let init = Proc::of(pid.cast_signed());
        match how {
            "delete" => {
                shim.client.kill("c1", 9).unwrap();
                assert_eq!(shim.client.wait("c1"), Ok(137));
                shim.client.delete("c1").unwrap();
                assert_eq!(mounts(&bundle), [""; 0]);
                shim.client.shutdown("c1");
            }
            "daemon" => shim.daemon.kill(),
            _ => {}
        }
        bench.delete(&bundle).deleted();
        assert_eq!(mounts(&bundle), [""; 0], "{how}");
        if how == "shim" {
            shim.client.shutdown("c1");
        }
        assert!(init.ends_within(SOON) && !bench.run_directory("c1").exists());
        bundle.remove();
        bench.check();
    }
    bench.finish();
}

/// What hides it is a stranger's, and is waited for: that there is nothing of ours is not said while there is.
#[test]
fn what_is_mounted_over_it_hides_nothing_of_it() {
    let Some(bench) = Bench::released() else { return };
    let bundle = linked(&bench, "c1");
    let (shim, pid) = bench.running(&bundle);
    let init = Proc::of(pid.cast_signed());
    shim.daemon.kill();
    let place = bundle.path.join("rootfs");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "strangers"]).arg(&place).status().unwrap();
    assert!(mounted.success());
    assert_eq!(mounts(&bundle).len(), 2);
    let deleted = bench.delete(&bundle);
    assert!(init.ends_within(SOON), "it lives");
    let left = mounts(&bundle);
    assert!(left.contains(&"strangers".to_owned()), "a stranger's mount is gone");
    // Either nothing of ours is there, or it is told.
    assert_eq!(deleted.code == Some(0), left.len() == 1, "{left:?}: {}", deleted.stderr);
    assert!(Command::new("umount").arg(&place).status().unwrap().success());
    if deleted.code != Some(0) {
        // Whoever comes next finds it; whoever stood by for the first one may be faster.
        bench.delete(&bundle).deleted();
    }
    eventually("nothing is mounted", || mounts(&bundle).is_empty());
    eventually("the run directory is gone", || !bench.run_directory("c1").exists());
    bundle.remove();
    bench.finish();
}
