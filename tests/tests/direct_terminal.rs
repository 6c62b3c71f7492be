//! A terminal: raw, sized, attached and detached, and ended with the guest.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use containerd_shim_protos::api::{CloseIORequest, Empty, ResizePtyRequest, Status};
use rustix::{
    fs::OFlags,
    termios::{LocalModes, OutputModes, tcgetattr, tcgetwinsize},
};
use urunc_tests::direct::{
    Bench, Bundle, Reader, Shim, Small, Spec, assert_same, eventually, lines, much_input,
};

/// With a terminal, as `ctr run -t` asks for one: stdin and stdout.
fn terminal(bench: &Bench, words: &str) -> Bundle {
    let mut bundle = bench.bundle("c1", &Spec::tiny(words)).with_stdin();
    (bundle.stderr, bundle.errors) = (String::new(), None);
    bundle.terminal = true;
    bundle
}

fn unread(bench: &Bench, words: &str) -> Bundle {
    let mut bundle = terminal(bench, words);
    bundle.output = None;
    bundle
}

fn run(bench: &Bench, bundle: &Bundle) -> (Shim, u32) {
    let shim = bench.start(bundle);
    let pid = shim.client.create(bundle).unwrap();
    shim.client.start(&bundle.id).unwrap();
    (shim, pid)
}

/// Without waiting for the other side: there is one.
fn open(path: &str, write: bool) -> std::io::Result<File> {
    let nonblock = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().read(!write).write(write).custom_flags(nonblock).open(path)
}

fn type_in(bundle: &Bundle, text: &str) {
    open(&bundle.stdin, true).expect("a reader of stdin").write_all(text.as_bytes()).unwrap();
}

#[test]
fn much_goes_both_ways_unchanged_and_ends_with_the_guest() {
    let Some(bench) = Bench::released() else { return };
    let bundle = terminal(&bench, "echo exit=3");
    let (shim, _) = run(&bench, &bundle);
    bundle.output.as_ref().unwrap().wait_for("tiny: echo");
    bundle.give_much().join().unwrap().unwrap();
    assert_eq!(shim.client.wait("c1"), Ok(3));
    let expected = format!("{}tiny: echo\n{}", Spec::greeting("echo exit=3"), lines(much_input()));
    assert_same(&bundle.output(), &expected);
    eventually("nobody reads any more", || open(&bundle.stdin, true).is_err());
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn it_is_raw_and_keeps_its_size() {
    let Some(bench) = Bench::released() else { return };
    let bundle = terminal(&bench, "echo");
    let (shim, pid) = run(&bench, &bundle);
    bundle.output.as_ref().unwrap().wait_for("tiny: echo");
    let resize = |width, height| {
        let request = ResizePtyRequest { id: "c1".to_owned(), width, height, ..ResizePtyRequest::default() };
        shim.client.send::<Empty>("ResizePty", &request).wait().unwrap();
    };
    // The monitor's own.
    let nonblock = OFlags::NOCTTY.bits().cast_signed();
    let slave =
        OpenOptions::new().read(true).custom_flags(nonblock).open(format!("/proc/{pid}/fd/0")).unwrap();
    let modes = tcgetattr(&slave).unwrap();
    let off = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
    assert!(!modes.local_modes.intersects(off), "{modes:?}");
    assert!(!modes.output_modes.intersects(OutputModes::ONLCR | OutputModes::OCRNL), "{modes:?}");
    for (width, height) in [(132, 43), (80, 24)] {
        resize(width, height);
        let size = tcgetwinsize(&slave).unwrap();
        assert_eq!((u32::from(size.ws_col), u32::from(size.ws_row)), (width, height));
        let state = shim.client.state("c1").unwrap();
        assert_eq!((state.status.enum_value(), state.terminal), (Ok(Status::RUNNING), true));
    }
    drop(slave);
    type_in(&bundle, "quit\n");
    assert_eq!(shim.client.wait("c1"), Ok(0));
    resize(10, 10);
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn a_client_detaches_and_another_one_attaches() {
    let Some(bench) = Bench::released() else { return };
    let bundle = unread(&bench, "echo out=30000");
    let (shim, _) = run(&bench, &bundle);
    let mut came = String::new();
    let mut said = |text: &str| {
        let mut client = open(&bundle.stdout, false).unwrap();
        came.clear();
        eventually(&format!("{text:?}"), || {
            let mut buffer = [0u8; 4096];
            let n = client.read(&mut buffer).unwrap_or(0);
            came.push_str(&String::from_utf8_lossy(&buffer[..n]));
            came.ends_with(text)
        });
    };
    said("tiny: echo\n");
    for word in ["one\n", "two\n"] {
        type_in(&bundle, word);
        said(word);
    }
    // Nobody is attached when it ends; a client's own end of input is none of the terminal.
    type_in(&bundle, "quit\n");
    assert_eq!(shim.client.wait("c1"), Ok(0));
    assert_same(&Reader::open(Path::new(&bundle.stdout)).to_end(), &lines(30_000));
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn a_client_that_does_not_read_makes_the_guest_wait_and_nobody_else() {
    let Some(bench) = Bench::with_faults() else { return };
    // 8 s, which is long for a test.
    bench.faults.set(&["deadline.terminal=1000"]);
    let bundle = unread(&bench, "out=1000000 exit=3");
    let (shim, _) = run(&bench, &bundle);
    assert!(shim.client.send_wait("c1").within(Duration::from_secs(2)).is_none(), "the guest waits");
    let began = Instant::now();
    shim.client.state("c1").unwrap();
    shim.client.kill("c1", 9).unwrap();
    assert_eq!(shim.client.wait("c1"), Ok(137));
    assert!(began.elapsed() < Duration::from_secs(3), "it took {:?}", began.elapsed());
    // What its pipe takes is there, and the rest is given up.
    shim.client.delete("c1").unwrap();
    assert!(began.elapsed() < Duration::from_secs(8), "it took {:?}", began.elapsed());
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();

    let bundle = unread(&bench, "out=1000000 exit=3");
    let (shim, _) = run(&bench, &bundle);
    let reader = Reader::open(Path::new(&bundle.stdout));
    assert_eq!(shim.client.wait("c1"), Ok(3), "it goes on when somebody reads");
    assert_same(&reader.to_end(), &format!("{}{}", Spec::greeting("out=1000000 exit=3"), lines(1_000_000)));
    drop(reader);
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn delete_waits_for_what_the_client_still_takes() {
    let Some(bench) = Bench::released() else { return };
    // More than the pipe takes, and less than pipe, buffer and pty: not all of the first need be filled, for what is written
    // in one piece is not split.
    let bundle = unread(&bench, "out=65600 exit=3");
    let (shim, _) = run(&bench, &bundle);
    assert_eq!(shim.client.wait("c1"), Ok(3));
    // However long it is until then.
    thread::sleep(Duration::from_secs(2));
    let deleted = shim.client.send_delete("c1");
    assert!(deleted.within(Duration::from_millis(300)).is_none(), "nobody has taken anything yet");
    let reader = Reader::open(Path::new(&bundle.stdout));
    deleted.wait().unwrap();
    assert_same(&reader.to_end(), &format!("{}{}", Spec::greeting("out=65600 exit=3"), lines(65_600)));
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    drop(reader);
    bundle.remove();
    bench.finish();
}

#[test]
fn its_output_may_go_to_a_file() {
    let Some(bench) = Bench::released() else { return };
    let file = bench.scratch().join("log");
    let mut bundle = terminal(&bench, "echo exit=3");
    bundle.output = None;
    bundle.stdout = format!("file://{}", file.display());
    let (shim, _) = run(&bench, &bundle);
    let logged = || fs::read_to_string(&file).unwrap();
    eventually("it talks", || logged().ends_with("tiny: echo\n"));
    type_in(&bundle, "typed\nquit\n");
    assert_eq!(shim.client.wait("c1"), Ok(3));
    bench.end(&shim, bundle);
    assert_same(&logged(), &format!("{}tiny: echo\ntyped\n", Spec::greeting("echo exit=3")));

    // One that takes nothing any more, as a full disk.
    let mut bundle = terminal(&bench, "out=200000 exit=4");
    bundle.output = None;
    let full = Small::mount(&bench.scratch().join("small"));
    bundle.stdout = format!("file://{}", full.path().join("log").display());
    let (shim, _) = run(&bench, &bundle);
    assert_eq!(shim.client.wait("c1"), Ok(4));
    bench.end(&shim, bundle);
    let kept = fs::read(full.path().join("log")).unwrap().len();
    assert!((1..=64 * 1024).contains(&kept), "{kept}");
    drop(full);
    bench.finish();
}

#[test]
fn it_goes_with_a_container_that_never_ran_and_needs_no_client() {
    let Some(bench) = Bench::released() else { return };
    let bundle = terminal(&bench, "hang");
    let shim = bench.start(&bundle);
    shim.client.create(&bundle).unwrap();
    let request = CloseIORequest { id: "c1".to_owned(), stdin: true, ..CloseIORequest::default() };
    shim.client.send::<Empty>("CloseIO", &request).wait().unwrap();
    shim.client.delete("c1").unwrap();
    assert_eq!(bundle.output(), "");
    shim.client.shutdown("c1");
    bench.delete(&bundle).deleted();
    bundle.remove();

    let mut bundle = bench.bundle("c1", &Spec::tiny("out=300000 exit=3")).without_stdio();
    bundle.terminal = true;
    let (shim, _) = run(&bench, &bundle);
    assert_eq!(shim.client.wait("c1"), Ok(3));
    bench.end(&shim, bundle);
    bench.finish();
}
