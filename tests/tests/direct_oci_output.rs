//! What an ordinary container's processes say, where it passes through the daemon: a file of the host is not theirs, and
//! what was said before the end arrives.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    fs::{self, File, OpenOptions},
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Instant,
};

use containerd_shim_protos::api::{Empty, ExecProcessRequest};
use protobuf::{MessageField, well_known_types::any::Any};
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, mknodat},
    process::Signal,
};
use serde_json::{Value, json};
use urunc_tests::direct::{
    A_WHILE, Bench, Bundle, Client, Proc, SOON, Spec, assert_same, eventually, lines, process,
};

/// It says whose it is, and whether its own output is a file.
const SAYS: &str = "id -u; [ -f /proc/self/fd/1 ] && echo a file; [ -f /proc/self/fd/2 ] && echo a file; \
                    chmod 0666 /proc/self/fd/1 2>/dev/null; echo said; echo err >&2";

/// Calls Exec and Start for a process whose output goes there: its pid.
fn execute(client: &Client, id: &str, exec_id: &str, process: &Value, stdout: &str, stderr: &str) -> u32 {
    let request = ExecProcessRequest {
        id: id.to_owned(),
        exec_id: exec_id.to_owned(),
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
        spec: MessageField::some(Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(),
            value: process.to_string().into_bytes(),
            ..Any::default()
        }),
        ..ExecProcessRequest::default()
    };
    client.send::<Empty>("Exec", &request).wait().unwrap();
    client.send_start_of(id, exec_id).wait().unwrap().pid
}

/// Whose it is, which file, its mode.
fn identity(path: &Path) -> (u32, u32, u64, u32) {
    let stat = fs::metadata(path).unwrap();
    (stat.uid(), stat.gid(), stat.ino(), stat.mode())
}

#[test]
fn a_file_of_the_host_stays_the_hosts() {
    let Some(bench) = Bench::released() else { return };
    let user = json!({"uid": 1000, "gid": 1000});
    let spec = Spec::busybox(&format!("{SAYS}; sleep 1000")).edit(|s| s["process"]["user"] = user.clone());
    let mut bundle = bench.ordinary("c1", &spec);
    (bundle.output, bundle.errors) = (None, None);
    let folder = bench.scratch().join("logs");
    fs::create_dir(&folder).unwrap();
    let [out, err, both] = ["out", "err", "both"].map(|name| folder.join(name));
    // It is there already, as after a restart.
    for file in [&out, &err, &both] {
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(file).unwrap();
    }
    let before = [&out, &err, &both].map(|file| identity(file));
    let uri = |path: &Path| format!("file://{}", path.display());
    (bundle.stdout, bundle.stderr) = (uri(&out), uri(&err));
    let (shim, _) = bench.running(&bundle);
    let read = |path: &PathBuf| fs::read_to_string(path).unwrap();
    eventually("it is logged", || read(&out).ends_with("said\n") && read(&err) == "err\n");
    assert_eq!(read(&out), "1000\nsaid\n");

    // What is executed in it: the same, here with one file for both.
    let mut process = process(&["/bin/sh", "-c", SAYS]);
    process["user"] = user;
    execute(&shim.client, "c1", "e1", &process, &uri(&both), &uri(&both));
    assert_eq!(shim.client.send_wait_exec("c1", "e1").wait().unwrap().exit_status, 0);
    eventually("it is logged", || {
        let text = read(&both);
        text.contains("said\n") && text.contains("err\n")
    });
    assert!(!read(&both).contains("a file"), "{}", read(&both));
    assert_eq!([&out, &err, &both].map(|file| identity(file)), before);
    assert_eq!((before[0].0, before[0].1), (0, 0));
    bench.end(&shim, bundle);
    assert_eq!([&out, &err, &both].map(|file| identity(file)), before);
    assert_eq!((read(&out), read(&err)), ("1000\nsaid\n".to_owned(), "err\n".to_owned()));
    bench.finish();
}

/// All of it, in order; and what comes at the very end.
#[test]
fn much_goes_into_a_file_to_the_end() {
    let Some(bench) = Bench::released() else { return };
    let mut bundle = bench.ordinary("c1", &Spec::busybox("seq 1 60000; echo the last >&2; exit 3"));
    (bundle.output, bundle.errors) = (None, None);
    let file = bench.scratch().join("log");
    bundle.stdout = format!("file://{}", file.display());
    bundle.stderr = bundle.stdout.clone();
    let (shim, _) = bench.running(&bundle);
    assert_eq!(shim.client.wait("c1"), Ok(3));
    bench.end(&shim, bundle);
    let expected: String = (1..=60_000).map(|n| format!("{n}\n")).collect();
    let text = fs::read_to_string(&file).unwrap();
    // Its two ends are two pipes: what goes through one may come into the middle of what goes through the other.
    assert_eq!(text.matches("the last\n").count(), 1);
    assert_same(&text.replace("the last\n", ""), &expected);
    bench.finish();
}

/// A FIFO and its reader, who does not read yet.
fn slow(path: &Path) -> (String, File) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let nonblock = OFlags::NONBLOCK.bits().cast_signed();
    let reader = OpenOptions::new().read(true).custom_flags(nonblock).open(path).unwrap();
    (path.to_string_lossy().into_owned(), reader)
}

/// Everything to the end, which has to come.
#[track_caller]
fn read_slowly(reader: &mut File) -> String {
    let (mut text, mut buffer) = (vec![], [0; 4000]);
    eventually("the end of its output", || match reader.read(&mut buffer) {
        Ok(0) => true,
        Ok(n) => {
            text.extend_from_slice(&buffer[..n]);
            false
        }
        Err(e) => {
            assert_eq!(e.kind(), std::io::ErrorKind::WouldBlock, "{e}");
            false
        }
    });
    String::from_utf8(text).unwrap()
}

/// A container, and what is executed in it: that says so much when it is told to, and ends.
struct Says {
    bundle: Bundle,
    text: String,
    go: PathBuf,
}

impl Says {
    fn new(bench: &Bench, id: &str) -> Self {
        let bundle = bench.ordinary(id, &Spec::busybox("exec sleep 1000")).without_stdio();
        let tmp = PathBuf::from(&bundle.rootfs[0].source).join("tmp");
        fs::remove_file(tmp.join("go")).ok();
        let text = lines(48 * 1024);
        fs::write(tmp.join("text"), &text).unwrap();
        Self { bundle, text, go: tmp.join("go") }
    }

    fn process() -> Value {
        let script = "until [ -e /tmp/go ]; do sleep 0.01; done; cat /tmp/text; exit 5";
        process(&["/bin/sh", "-c", script])
    }
}

#[test]
fn what_was_executed_is_heard_when_its_container_is_deleted_behind_it() {
    let Some(bench) = Bench::released() else { return };
    for n in 0..4 {
        let id = format!("c{n}");
        let Says { bundle, text, go } = Says::new(&bench, &id);
        let (shim, _) = bench.running(&bundle);
        let client = &shim.client;
        let (fifo, mut reader) = slow(&bundle.path.join("slow"));
        let file = bench.scratch().join("log");
        execute(client, &id, "e1", &Says::process(), &fifo, "");
        execute(client, &id, "e2", &Says::process(), &format!("file://{}", file.display()), "");
        let logged = client.send_wait_exec(&id, "e2");
        let waiting = client.send_wait_exec(&id, "e1");
        File::create(&go).unwrap();
        for waiting in [waiting, logged] {
            assert_eq!(waiting.wait().unwrap().exit_status, 5);
        }
        client.kill(&id, 9).unwrap();
        client.wait(&id).unwrap();
        client.delete(&id).unwrap();
        // It reads only now.
        assert_same(&read_slowly(&mut reader), &text);
        let came = || fs::read_to_string(&file).unwrap();
        eventually("all of it is in the file", || came().len() >= text.len());
        assert_same(&came(), &text);
        fs::remove_file(&file).unwrap();
        client.shutdown(&id);
        bench.delete(&bundle).deleted();
        bundle.remove();
    }
    bench.finish();
}

/// The daemon learns of everything at once: that there is something to be copied, that the exec has ended, and that its
/// container is to go.
#[test]
fn what_was_executed_is_heard_by_a_daemon_that_was_late() {
    let Some(bench) = Bench::released() else { return };
    for n in 0..6 {
        let id = format!("c{n}");
        let Says { bundle, text, go } = Says::new(&bench, &id);
        let (shim, _) = bench.running(&bundle);
        let (fifo, mut reader) = slow(&bundle.path.join("slow"));
        let pid = execute(&shim.client, &id, "e1", &Says::process(), &fifo, "");
        let process = Proc::of(pid.cast_signed());
        shim.daemon.stop();
        File::create(&go).unwrap();
        assert!(process.ends_within(SOON));
        let delete = bench.run_delete(&bundle);
        // The more of it is done when the daemon goes on, the better; there is nothing to be seen of it.
        std::thread::sleep(A_WHILE);
        shim.daemon.signal(Signal::CONT);
        delete.wait().deleted();
        assert_same(&read_slowly(&mut reader), &text);
        shim.client.shutdown(&id);
        bundle.remove();
    }
    bench.finish();
}

/// What its FIFO takes arrives whoever reads it, and nobody waits for more.
#[test]
fn nobody_waits_for_a_reader_who_does_not_read() {
    let Some(bench) = Bench::released() else { return };
    let Says { bundle, text, go } = Says::new(&bench, "c1");
    // More than its FIFO takes, and less than it takes with what is on its way: the process ends.
    let script = "until [ -e /tmp/go ]; do sleep 0.01; done; cat /tmp/text /tmp/text; exit 5";
    let (shim, _) = bench.running(&bundle);
    let client = &shim.client;
    let (fifo, mut reader) = slow(&bundle.path.join("slow"));
    execute(client, "c1", "e1", &process(&["/bin/sh", "-c", script]), &fifo, "");
    let waiting = client.send_wait_exec("c1", "e1");
    File::create(&go).unwrap();
    assert_eq!(waiting.wait().unwrap().exit_status, 5);
    client.kill("c1", 9).unwrap();
    client.wait("c1").unwrap();
    let began = Instant::now();
    client.delete("c1").unwrap();
    assert!(began.elapsed() < SOON / 2, "Delete took {:?}", began.elapsed());
    let came = read_slowly(&mut reader);
    let all = text.clone() + &text;
    assert!(came.len() >= text.len(), "{} bytes came", came.len());
    assert_same(&came, &all[..came.len()]);
    client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();
    bench.finish();
}
