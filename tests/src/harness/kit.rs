//! What all tests of one process share: the images, made by `urunc image build`, and a copy of the shim, so that a
//! build meanwhile changes nothing.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, Once, PoisonError, Weak},
};

use crate::direct::{cache, shim, shim_with_faults};

use super::{Job, SOON, cri, env, scratch::Scratch};

/// An image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Image {
    /// The tiny guest.
    Tiny,
    /// Its kernel alone, at [`Image::KERNEL`]: nothing in it says what it is.
    Bare,
    /// Debian's kernel and an initrd with busybox.
    Debian,
    /// busybox, for ordinary containers.
    Busybox,
    /// What holds a pod that runc runs.
    Pause,
}

/// What can be executed in busybox; its shell knows all of its applets by itself.
const APPLETS: [&str; 9] = [
    "/bin/sh",
    "/bin/sleep",
    "/bin/cat",
    "/bin/echo",
    "/bin/true",
    "/bin/id",
    "/bin/tty",
    "/bin/nc",
    "/bin/ps",
];

/// The command of a tiny guest that is to act on these words.
pub fn tiny<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["tiny"], words].concat()
}

impl Image {
    /// Where [`Image::Bare`] has its kernel.
    pub const KERNEL: &str = "/unikernel/kernel";

    /// Its name in containerd.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiny => "docker.io/urunc/tiny:test",
            Self::Bare => "docker.io/urunc/bare:test",
            Self::Debian => "docker.io/urunc/debian:test",
            Self::Busybox => "docker.io/urunc/busybox:test",
            Self::Pause => "docker.io/urunc/pause:test",
        }
    }

    fn build(self, archive: &Path) {
        let guest = cache().join("guest");
        match self {
            Self::Busybox => {
                return cri::pack(archive, self.name(), &guest.join("busybox"), "/bin/busybox", &APPLETS);
            }
            Self::Bare => {
                return cri::pack(archive, self.name(), &guest.join("tiny.elf"), Self::KERNEL, &[]);
            }
            Self::Pause => return cri::pack(archive, self.name(), &guest.join("pause"), "/pause", &[]),
            Self::Tiny | Self::Debian => {}
        }
        let mut command = Command::new(env::urunc());
        command.args(["image", "build", "--tag", self.name(), "--output"]).arg(archive);
        match self {
            Self::Tiny => command.args(["--type", "unikraft", "--kernel"]).arg(guest.join("tiny.elf")),
            _ => command
                .args(["--type", "linux", "--kernel"])
                .arg(guest.join("vmlinuz"))
                .arg("--initrd")
                .arg(guest.join("initrd.gz")),
        };
        Job::start(command).wait(SOON).expect(0);
    }
}

/// The kit. It goes with the last test that uses it.
#[derive(Debug)]
pub struct Kit {
    scratch: Scratch,
    built: Mutex<HashSet<Image>>,
    faults: Once,
}

impl Kit {
    /// The kit of this process.
    pub fn get() -> Arc<Self> {
        static KIT: Mutex<Weak<Kit>> = Mutex::new(Weak::new());
        let mut kit = KIT.lock().unwrap_or_else(PoisonError::into_inner);
        kit.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Self::new());
            *kit = Arc::downgrade(&new);
            new
        })
    }

    fn new() -> Self {
        let kit = Self { scratch: Scratch::new(), built: Mutex::default(), faults: Once::new() };
        fs::copy(shim(), kit.shim()).unwrap();
        kit
    }

    /// The copy of the shim.
    pub fn shim(&self) -> PathBuf {
        self.scratch.path().join("containerd-shim-urunc-v2")
    }

    /// A copy of the shim with fault points.
    pub fn shim_with_faults(&self) -> PathBuf {
        let path = self.scratch.path().join("shim-with-faults");
        self.faults.call_once(|| {
            fs::copy(shim_with_faults(), &path).unwrap();
        });
        path
    }

    /// The archive of an image.
    pub fn archive(&self, image: Image) -> PathBuf {
        let archive = self.scratch.path().join(format!("{image:?}.tar"));
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if built.insert(image) {
            image.build(&archive);
        }
        archive
    }
}

impl Drop for Kit {
    fn drop(&mut self) {
        self.scratch.remove();
    }
}
