//! A bundle as containerd makes it, and the stdio FIFOs of its client.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
};

use containerd_shim_protos::{api::Mount, protobuf::well_known_types::any::Any};
use rustix::mount::{UnmountFlags, unmount};

use super::{
    Spec,
    fifo::{self, Log, Reader},
    output::{lines, much_input},
};

/// A bundle.
#[derive(Debug)]
pub struct Bundle {
    /// The container's id.
    pub id: String,
    /// The folder.
    pub path: PathBuf,
    /// The mounts of the root file system.
    pub rootfs: Vec<Mount>,
    /// As in the Create request.
    pub stdin: String,
    /// As in the Create request.
    pub stdout: String,
    /// As in the Create request.
    pub stderr: String,
    /// As in the Create request.
    pub terminal: bool,
    /// As in the Create request: the runtime options.
    pub options: Option<Any>,
    /// Reads stdout from the beginning.
    pub output: Option<Reader>,
    /// Reads stderr from the beginning.
    pub errors: Option<Reader>,
    pub(crate) log: Log,
}

impl Bundle {
    /// Makes the folder; a bundle that was there is removed as containerd removes it.
    pub(crate) fn make(path: PathBuf, id: &str, spec: &Spec, image: &Path) -> Self {
        remove(&path);
        DirBuilder::new().recursive(true).mode(0o700).create(path.join("rootfs")).unwrap();
        fs::write(path.join("config.json"), serde_json::to_vec_pretty(&spec.json).unwrap()).unwrap();
        for name in ["log", "stdout", "stderr"] {
            fifo::make(&path.join(name));
        }
        let of = |name: &str| path.join(name).to_string_lossy().into_owned();
        let mount = Mount {
            type_: "bind".to_owned(),
            source: image.to_string_lossy().into_owned(),
            options: vec!["rbind".to_owned(), "ro".to_owned()],
            ..Mount::default()
        };
        Self {
            id: id.to_owned(),
            rootfs: vec![mount],
            stdin: String::new(),
            stdout: of("stdout"),
            stderr: of("stderr"),
            terminal: false,
            options: None,
            output: Some(Reader::open(&path.join("stdout"))),
            errors: Some(Reader::open(&path.join("stderr"))),
            log: Log::open(&path.join("log")),
            path,
        }
    }

    /// Without stdio, for a test that does not look at it.
    #[must_use]
    pub fn without_stdio(mut self) -> Self {
        (self.output, self.errors) = (None, None);
        (self.stdout, self.stderr) = (String::new(), String::new());
        self
    }

    /// With a FIFO as its stdin.
    #[must_use]
    pub fn with_stdin(mut self) -> Self {
        let stdin = self.path.join("stdin");
        fifo::make(&stdin);
        self.stdin = stdin.to_string_lossy().into_owned();
        self
    }

    /// Gives a guest that was told to `echo` much to read, and then the end of it. All of that it has read when this is
    /// over, but for what is on its way.
    #[track_caller]
    pub fn give_much(&self) -> JoinHandle<io::Result<()>> {
        let mut input = File::options().write(true).open(&self.stdin).unwrap();
        let text = format!("{}quit\n", lines(much_input()));
        thread::spawn(move || input.write_all(text.as_bytes()))
    }

    /// Reads stdout to its end.
    #[track_caller]
    pub fn output(&self) -> String {
        self.output.as_ref().expect("a reader of stdout").to_end()
    }

    /// What the daemon logged to this bundle's fifo so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until the daemon has logged this.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        super::eventually(&format!("a log line with {text:?}"), || self.log().contains(text));
    }

    /// Removes it, as containerd does at the very end.
    pub fn remove(self) {
        // The readers first: they open their FIFOs once more.
        let Self { path, output, errors, .. } = self;
        drop((output, errors));
        remove(&path);
    }
}

fn remove(path: &Path) {
    // As containerd does: what is mounted there is not its to remove, only to unmount.
    while unmount(path.join("rootfs"), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => panic!("remove {}: {e}", path.display()),
        _ => {}
    }
}
