//! Behind the gate: guest files, devices, fds, credentials, exec.

use std::{
    fs::File,
    io::Error,
    os::{
        fd::{AsFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::Command,
};

use host_mount::{attach_file, make_readonly, unmount_rootfs};
use rustix::{
    fs::{Mode, OFlags, open},
    io::{Errno, dup2, fcntl_dupfd_cloexec},
    mount::MountFlags,
    stdio::{dup2_stdin, dup2_stdout},
    thread::{CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities},
};
use vmm_api::{CONTROL_FD, INITRD_PATH, KERNEL_PATH, TAP_FD};

use super::{Failure, IMAGE, fault_at, root::device, tie_to};
use crate::{
    image,
    launcher::message::{Exec, View},
};

/// Becomes the monitor; returns only when that fails.
pub fn become_monitor(what: &Exec, fds: Vec<OwnedFd>, view: &View, daemon: &OwnedFd) -> Result<(), Failure> {
    fault_at("launcher.gate")?;
    guest_files(what, view)?;
    for d in &what.devices {
        device(&Path::new("/dev").join(&d.name), d.major, d.minor)?;
    }
    make_readonly(Path::new("/"), MountFlags::NOSUID)?;
    place_fds(fds)?;
    drop_privileges()?;
    // Changed credentials clear the parent-death signal.
    tie_to(daemon)?;
    fault_at("launcher.exec")?;
    let env = what.env.iter().map(|v| v.split_once('=').unwrap_or((v, "")));
    let error = Command::new(&what.program).args(&what.args).env_clear().envs(env).exec();
    Err(Failure {
        action: format!("execute {}", what.program.display()),
        errno: error.raw_os_error().unwrap_or(Errno::INVAL.raw_os_error()),
    })
}

/// Attaches the very files that the plan names, found once more by the same rules, and takes the image away.
fn guest_files(what: &Exec, view: &View) -> Result<(), Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let image_root = open(IMAGE, flags, Mode::empty()).map_err(Failure::of("open the image"))?;
    let initrd = what.initrd.as_ref().map(|path| (path, INITRD_PATH));
    for (path, place) in [(&what.kernel, KERNEL_PATH)].into_iter().chain(initrd) {
        let file = image::handle(image_root.as_fd(), path)?;
        File::create(place).map_err(|e: Error| Failure {
            action: format!("make {place}"),
            errno: e.raw_os_error().unwrap_or(Errno::IO.raw_os_error()),
        })?;
        attach_file(&file, Path::new(place))?;
    }
    drop(image_root);
    unmount_rootfs(&view.rootfs, Path::new(IMAGE))?;
    Ok(())
}

/// Puts stdin, stdout, the control channel and the tap, if there is one, where the monitor expects them.
fn place_fds(fds: Vec<OwnedFd>) -> Result<(), Failure> {
    let action = || Failure::of("place its file descriptors");
    // First out of the way: a received fd may have the number that another one is to get.
    let mut high = Vec::new();
    for fd in fds {
        high.push(fcntl_dupfd_cloexec(&fd, 20).map_err(|e: Errno| action()(e))?);
    }
    let (stdin, stdout, control, tap) = match high.as_slice() {
        [stdin, stdout, control] => (stdin, stdout, control, None),
        [stdin, stdout, control, tap] => (stdin, stdout, control, Some(tap)),
        _ => return Err(action()(Errno::BADF)),
    };
    dup2_stdin(stdin).map_err(|e: Errno| action()(e))?;
    dup2_stdout(stdout).map_err(|e: Errno| action()(e))?;
    place(control, CONTROL_FD).map_err(|e: Errno| action()(e))?;
    tap.map_or(Ok(()), |tap| place(tap, TAP_FD)).map_err(|e: Errno| action()(e))
}

fn place(fd: &OwnedFd, number: RawFd) -> Result<(), Errno> {
    // SAFETY: the number is only a target for dup2, which closes what was there; nothing of ours has it, for all
    // inherited fds were closed and received ones are moved up above. It is forgotten below, so that it stays open.
    let mut target = unsafe { OwnedFd::from_raw_fd(number) };
    let placed = dup2(fd, &mut target);
    std::mem::forget(target);
    placed
}

/// No capability, now or ever: the bounding set goes together with the permitted one.
pub(super) fn drop_privileges() -> Result<(), Failure> {
    for capability in CapabilitySet::all().iter() {
        match remove_capability_from_bounding_set(capability) {
            // Older kernels do not know the newest ones.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(e) => return Err(Failure::of("drop its capabilities")(e)),
        }
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(Failure::of("drop its capabilities"))?;
    rustix::thread::set_no_new_privs(true).map_err(Failure::of("give up new privileges"))
}
