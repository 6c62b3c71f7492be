//! The image contract: what is wrong is an error with key, value and remedy, and leaves nothing.

use std::{fs, os::unix::fs::symlink};

use urunc_tests::{
    direct::cache,
    harness::{BOOT, Cgroup, Containerd, Done, Image, Job, Test, Version, Watch, tiny},
};

/// What the request alone shows: neither a run directory nor a cgroup is ever made, not even for a moment.
pub fn what_the_request_alone_shows_is_refused_before_anything_exists(version: Version) {
    Test::with(version, &[Image::Tiny], |containerd| {
        // While another container runs, both folders are there and can be watched.
        containerd.run_detached(Image::Tiny, "keeper", &tiny(&["hang"]));
        let keeper = Cgroup::of(&containerd.namespace(), "keeper");
        let records = containerd.run_directory("");
        let watch = Watch::over(&[&records, keeper.above()]);

        for (annotation, parts) in [
            ("hypervisor=firecracker", ["com.urunc.unikernel.hypervisor", "\"firecracker\"", "use qemu"]),
            (
                "unikernelType=rumprun",
                ["com.urunc.unikernel.unikernelType", "\"rumprun\"", "use linux or unikraft"],
            ),
            (
                "binary=../../etc/passwd",
                ["com.urunc.unikernel.binary", "\"../../etc/passwd\" leaves the image", "give a path below"],
            ),
            ("block=/disk", ["com.urunc.unikernel.block", "\"/disk\"", "leave it out"]),
        ] {
            let flags = ["--annotation", &format!("com.urunc.unikernel.{annotation}")];
            refused(&containerd.run_with(&flags, Image::Tiny, "refused", &tiny(&["exit=0"])), &parts);
            assert_eq!(watch.made(), Vec::<std::path::PathBuf>::new(), "{annotation}");
        }

        // The watch does see a container.
        containerd.run(Image::Tiny, "refused", &tiny(&["exit=0"])).expect(0);
        let made = watch.made();
        assert!(made.contains(&records.join("refused")), "{made:?}");
        assert!(made.contains(&keeper.above().join("refused")), "{made:?}");
        containerd.end("keeper");
    });
}

/// What only the image shows: it is refused, what was made is undone, and the answer says so.
pub fn what_the_image_shows_is_refused_and_undone(version: Version) {
    Test::with(version, &[Image::Tiny], |containerd| {
        let binary = |path: &str| format!("com.urunc.unikernel.binary={path}");
        for (path, parts) in [
            (
                "/nowhere",
                ["com.urunc.unikernel.binary", "\"/nowhere\" is not in the image", "name a regular file"],
            ),
            (
                "urunc.json",
                [
                    "com.urunc.unikernel.binary",
                    "\"urunc.json\" is neither a Linux bzImage nor an ELF file",
                    "name an ELF file",
                ],
            ),
        ] {
            let done =
                containerd.run_with(&["--annotation", &binary(path)], Image::Tiny, "c", &tiny(&["exit=0"]));
            refused(&done, &parts);
        }

        // A root file system that is no image of ours at all is given to the OCI runtime, which finds no such program in
        // it; and one with a link that leads out of it.
        let root = containerd.scratch().join("rootfs");
        fs::create_dir(&root).unwrap();
        let plain = run_rootfs(containerd, &[]);
        refused(&plain, &["runc create", "\"tiny\": executable file not found", "undone: oci, rootfs"]);

        fs::copy(cache().join("guest/tiny.elf"), containerd.scratch().join("outside")).unwrap();
        symlink("../outside", root.join("link")).unwrap();
        symlink(containerd.scratch().join("outside"), root.join("absolute")).unwrap();
        for link in ["/link", "/absolute"] {
            let flags =
                ["--annotation", "com.urunc.unikernel.unikernelType=unikraft", "--annotation", &binary(link)];
            let parts = [
                "com.urunc.unikernel.binary",
                &format!("{link:?} is not in the image"),
                "name a regular file",
            ];
            refused(&run_rootfs(containerd, &flags), &parts);
        }
        // The same folder is an image as soon as its annotations and files are right.
        fs::copy(cache().join("guest/tiny.elf"), root.join("kernel")).unwrap();
        let flags =
            ["--annotation", "com.urunc.unikernel.unikernelType=unikraft", "--annotation", &binary("kernel")];
        run_rootfs(containerd, &flags).expect(8);
    });
}

/// Whatever stands in the arguments, init gets it.
pub fn arguments_reach_init_unchanged(version: Version) {
    const ARGUMENTS: [&str; 12] = [
        "true",
        "a b",
        "it's",
        "say \"hi\"",
        "x=1",
        "x=a b",
        "",
        "\"hello world\"",
        "line\nbreak",
        "a,b",
        "100%41",
        "--",
    ];
    Test::with(version, &[Image::Debian], |containerd| {
        let done = containerd.run(Image::Debian, "args", &[&["/init"], &ARGUMENTS[..]].concat()).expect(0);
        let text = done.text().replace('\r', "");
        for (n, argument) in ARGUMENTS.iter().enumerate() {
            let line = format!("\nguest: arg[{n}]=<{argument}>\n");
            assert!(text.contains(&line), "no {line:?}: {done}");
        }
        assert!(!text.contains(&format!("guest: arg[{}]", ARGUMENTS.len())), "{done}");
        assert!(text.contains("guest: ended with status 0"), "{done}");
    });
}

/// A kernel takes 2047 bytes.
pub fn a_command_line_that_is_too_long_is_an_error_that_says_so(version: Version) {
    Test::with(version, &[Image::Debian], |containerd| {
        let long = "x".repeat(2100);
        let done = containerd.run(Image::Debian, "long", &["/init", "echo", &long]);
        refused(&done, &["2047", "bytes", "undone: launcher, cgroup"]);
    });
}

/// `ctr run --rootfs` of the folder `rootfs`; its guest would exit with 8.
fn run_rootfs(containerd: &Containerd, flags: &[&str]) -> Done {
    let root = containerd.scratch().join("rootfs").to_string_lossy().into_owned();
    let flags = [&["--rm", "--rootfs"], flags].concat();
    Job::start(containerd.run_command(&flags, &root, "c", &tiny(&["exit=8"]))).wait(BOOT)
}

/// It failed with a message in which all of this stands.
#[track_caller]
fn refused(done: &Done, parts: &[&str]) {
    assert_eq!(done.status, Some(1), "{done}");
    for part in parts {
        assert!(done.stderr.contains(part), "no {part:?}: {done}");
    }
}
