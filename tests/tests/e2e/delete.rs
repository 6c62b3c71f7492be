//! Containers that are deleted, and one that is not.

use std::{
    fs::{self, File},
    os::fd::AsRawFd,
    path::Path,
};

use containerd_shim_protos::api::DeleteResponse;
use protobuf::Message;
use urunc_tests::{
    direct::Proc,
    harness::{Containerd, Image, Job, SOON, Test, Version, tiny},
};

/// `ctr task rm` of a running container is refused and harms nobody; of a stopped one it works once.
pub fn a_running_container_is_not_deleted_and_a_stopped_one_is(version: Version) {
    Test::with(version, &[Image::Tiny], |containerd| {
        let task = containerd.run_detached(Image::Tiny, "c", &tiny(&["hang"]));
        let refused = containerd.call(&["task", "rm", "c"]);
        assert!(refused.status != Some(0) && refused.stderr.contains("must be stopped"), "{refused}");
        assert_eq!(containerd.task("c"), Some(task.clone()));
        assert!(Proc::of(task.pid).is_alive());

        containerd.kill("c", "SIGKILL");
        containerd.wait_for_status("c", "STOPPED");
        assert_eq!(containerd.delete("c"), 137);
        let gone = containerd.call(&["task", "rm", "c"]);
        assert!(gone.status != Some(0) && gone.stderr.contains("not found"), "{gone}");
    });
}

/// A container that was created and never started can be deleted; its id is free then.
pub fn a_created_container_is_deleted(version: Version) {
    Test::with(version, &[Image::Tiny], |containerd| {
        let task = containerd.create(Image::Tiny, "c", &tiny(&["hang"]));
        assert_eq!(task.status, "CREATED");
        let launcher = Proc::of(task.pid);
        let removed = containerd.call(&["task", "rm", "-f", "c"]).expect(0);
        assert!(removed.stderr.contains("exit code 137"), "{removed}");
        assert!(!launcher.is_alive());
        containerd.call(&["containers", "rm", "c"]).expect(0);
        containerd.run(Image::Tiny, "c", &tiny(&["exit=5"])).expect(5);
    });
}

/// A `delete` that comes when the id has a new container: it is known by its working directory, which is another
/// bundle, and does nothing.
pub fn a_late_delete_of_an_older_container_does_nothing(version: Version) {
    Test::with(version, &[Image::Tiny], |containerd| {
        containerd.run_detached(Image::Tiny, "c", &tiny(&["hang"]));
        // As long as this is open, the old bundle is somebody's working directory that was removed.
        let old = File::open(containerd.bundle("c")).unwrap();
        containerd.end("c");
        assert!(!containerd.bundle("c").exists());
        let foreign = containerd.scratch().join("foreign/c");
        fs::create_dir_all(&foreign).unwrap();

        let job = containerd.spawn(Image::Tiny, "c", &tiny(&["hang"]));
        job.wait_for("hang\n", SOON);
        let task = containerd.wait_for_status("c", "RUNNING");
        let monitor = Proc::of(task.pid);
        let before = fs::read(containerd.run_directory("c").join("record.json")).unwrap();

        for folder in [Path::new(&format!("/proc/self/fd/{}", old.as_raw_fd())), &foreign] {
            delete(containerd, "c", folder);
            assert!(monitor.is_alive());
            assert_eq!(containerd.task("c"), Some(task.clone()));
            assert_eq!(fs::read(containerd.run_directory("c").join("record.json")).unwrap(), before);
        }
        containerd.kill("c", "SIGTERM");
        job.wait(SOON).expect(143);
    });
}

/// Executes `delete` in this folder, as containerd does.
fn delete(containerd: &Containerd, id: &str, folder: &Path) {
    let mut command = containerd.shim();
    command.arg("-namespace").arg(containerd.namespace()).arg("-address").arg(containerd.address());
    command.args(["-publish-binary", "containerd", "-id", id, "-bundle"]).arg(containerd.bundle(id));
    command.arg("delete").current_dir(folder);
    let done = Job::start(command).wait(SOON).expect(0);
    let response = DeleteResponse::parse_from_bytes(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done}"));
    assert!(response.exited_at.is_some(), "{response}");
}
