//! Stdio and the log: nothing is lost, everything ends, nothing blocks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, Instant},
};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use urunc_tests::direct::{Bench, Bundle, Reader, Shim, Spec, assert_same, eventually, lines, much_input};

fn make_fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

fn open(path: &Path, access: OFlags) -> std::io::Result<File> {
    let read = access != OFlags::WRONLY;
    let write = access != OFlags::RDONLY;
    OpenOptions::new().read(read).write(write).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)
}

fn run(bench: &Bench, bundle: &Bundle) -> Shim {
    let shim = bench.start(bundle);
    shim.client.create(bundle).unwrap();
    shim.client.start(&bundle.id).unwrap();
    shim
}

#[test]
fn the_output_is_complete_and_ends_with_the_guest() {
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.bundle("c1", &Spec::tiny("out=1000001 last"));
    let shim = run(&bench, &bundle);
    assert_eq!(shim.client.wait("c1"), Ok(0));
    let output = bundle.output();
    let expected = format!("{}{}tiny: last words", Spec::greeting("out=1000001 last"), lines(1_000_001));
    assert_same(&output, &expected);
    assert_eq!(bundle.errors.as_ref().unwrap().to_end(), "");
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn the_guest_reads_its_input_and_a_client_that_detaches_is_no_end() {
    let Some(bench) = Bench::released() else { return };
    let mut bundle = bench.bundle("c1", &Spec::tiny("echo"));
    let stdin = bundle.path.join("stdin");
    make_fifo(&stdin);
    bundle.stdin = stdin.to_string_lossy().into_owned();
    let shim = run(&bench, &bundle);
    let output = bundle.output.as_ref().unwrap();
    output.wait_for("tiny: echo");
    for word in ["one", "two"] {
        // Without waiting: there is a reader.
        let mut client = open(&stdin, OFlags::WRONLY).unwrap();
        client.write_all(format!("{word}\n").as_bytes()).unwrap();
        drop(client);
        output.wait_for(&format!("{word}\n"));
    }
    open(&stdin, OFlags::WRONLY).unwrap().write_all(b"quit\n").unwrap();
    assert_eq!(shim.client.wait("c1"), Ok(0));
    bundle.output();
    open(&stdin, OFlags::WRONLY).expect_err("nobody reads any more");
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn what_nobody_reads_waits_until_the_container_is_deleted() {
    let Some(bench) = Bench::released() else { return };
    let mut bundle = bench.bundle("c1", &Spec::tiny("out=10000 exit=3"));
    (bundle.output, bundle.errors) = (None, None);
    // The readers' ends are open for a moment: they got themselves a writer to end.
    let shim = run(&bench, &bundle);
    assert_eq!(shim.client.wait("c1"), Ok(3));
    let mut late = String::new();
    open(Path::new(&bundle.stdout), OFlags::RDONLY).unwrap().read_to_string(&mut late).unwrap();
    assert_same(&late, &format!("{}{}", Spec::greeting("out=10000 exit=3"), lines(10_000)));
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn a_guest_that_nobody_listens_to_stops_nobody_else() {
    let Some(bench) = Bench::released() else { return };
    // More than a pipe takes.
    let mut bundle = bench.bundle("c1", &Spec::tiny("out=1000000 exit=3"));
    (bundle.output, bundle.errors) = (None, None);
    let shim = run(&bench, &bundle);
    shim.client.state("c1").unwrap();
    // It goes on when somebody reads; and that one may go away again without breaking its pipe.
    let mut reader = open(Path::new(&bundle.stdout), OFlags::RDONLY).unwrap();
    let mut some = vec![0u8; 30_000];
    eventually("the guest speaks", || reader.read(&mut some).is_ok_and(|n| n > 0));
    drop(reader);
    assert!(shim.client.send_wait("c1").within(Duration::from_millis(200)).is_none(), "the guest waits");
    let rest = Reader::open(Path::new(&bundle.stdout));
    assert_eq!(shim.client.wait("c1"), Ok(3));
    assert!(rest.to_end().ends_with(&lines(1_000_000)[999_000..]));
    bench.end(&shim, bundle);

    let began = Instant::now();
    let mut bundle = bench.bundle("c2", &Spec::tiny("out=1000000"));
    (bundle.output, bundle.errors) = (None, None);
    let shim = run(&bench, &bundle);
    shim.client.kill("c2", 9).unwrap();
    assert_eq!(shim.client.wait("c2"), Ok(137));
    shim.client.delete("c2").unwrap();
    shim.client.shutdown("c2");
    bench.delete(&bundle).deleted();
    bundle.remove();
    assert!(began.elapsed() < Duration::from_secs(10));
    bench.finish();
}

#[test]
fn every_way_to_the_end_closes_the_streams() {
    let Some(bench) = Bench::with_faults() else { return };
    let first = bench.bundle("c0", &Spec::tiny("hang")).without_stdio();
    let shim = bench.start(&first);
    shim.client.create(&first).unwrap();
    let descriptors = || {
        let fds = fs::read_dir(format!("/proc/{}/fd", shim.daemon.pid())).unwrap().flatten();
        let mut fds: Vec<_> = fds.filter_map(|e| fs::read_link(e.path()).ok()).collect();
        fds.sort();
        fds
    };
    let before = descriptors();
    for (way, faults) in [
        ("create fails", &["plan.made=error"][..]),
        ("deleted", &[]),
        ("start fails late", &["launcher.exec=error"]),
        ("killed", &[]),
        ("ends", &[]),
    ] {
        let mut bundle = bench.bundle("c1", &Spec::tiny(if way == "ends" { "exit=0" } else { "hang" }));
        let stdin = bundle.path.join("stdin");
        make_fifo(&stdin);
        bundle.stdin = stdin.to_string_lossy().into_owned();
        bench.faults.set(faults);
        let created = shim.client.create(&bundle);
        assert_eq!(created.is_err(), way == "create fails", "{way}: {created:?}");
        match way {
            "create fails" => {}
            "deleted" => drop(shim.client.delete("c1").unwrap()),
            "start fails late" => drop(shim.client.start("c1").unwrap_err()),
            "killed" => {
                shim.client.start("c1").unwrap();
                shim.client.kill("c1", 9).unwrap();
            }
            _ => drop(shim.client.start("c1").unwrap()),
        }
        assert!(
            bundle.output.as_ref().unwrap().ends_within(urunc_tests::direct::SOON),
            "{way}: no end of stdout"
        );
        assert!(
            bundle.errors.as_ref().unwrap().ends_within(urunc_tests::direct::SOON),
            "{way}: no end of stderr"
        );
        eventually(&format!("{way}: the end of stdin"), || open(&stdin, OFlags::WRONLY).is_err());
        bench.faults.set(&[]);
        shim.client.delete("c1").ok();
        bundle.remove();
        // The events' connection comes and goes; a thread of the pool may still close its last one.
        let settled = |fds: Vec<std::path::PathBuf>| -> Vec<_> {
            fds.into_iter().filter(|fd| !fd.to_string_lossy().starts_with("socket:")).collect()
        };
        eventually(&format!("{way}: the daemon's descriptors are as before"), || {
            settled(descriptors()) == settled(before.clone())
        });
    }
    bench.end(&shim, first);
    bench.finish();
}

#[test]
fn a_full_log_stops_nothing() {
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.bundle("c1", &Spec::tiny("exit=4"));
    let path = bundle.path.join("log");
    fs::remove_file(&path).unwrap();
    make_fifo(&path);
    let mut log = open(&path, OFlags::RDWR).unwrap();
    while log.write_all(&[b'x'; 1024]).is_ok() {}
    let began = Instant::now();
    let shim = run(&bench, &bundle);
    assert_eq!(shim.client.wait("c1"), Ok(4));
    bench.end(&shim, bundle);
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    drop(log);
    bench.finish();
}

#[test]
fn a_log_that_is_none_is_not_written_to() {
    let Some(bench) = Bench::released() else { return };
    for what in ["nothing", "a file", "a link"] {
        let bundle = bench.bundle("c1", &Spec::tiny("exit=4"));
        let (path, elsewhere) = (bundle.path.join("log"), bench.scratch().join("elsewhere"));
        fs::remove_file(&path).unwrap();
        fs::write(&elsewhere, "").unwrap();
        match what {
            "nothing" => {}
            "a file" => fs::write(&path, "").unwrap(),
            _ => std::os::unix::fs::symlink(&elsewhere, &path).unwrap(),
        }
        let shim = run(&bench, &bundle);
        assert_eq!(shim.client.wait("c1"), Ok(4));
        assert_eq!(fs::read(&elsewhere).unwrap(), b"", "{what}");
        if what != "nothing" {
            assert_eq!(fs::read(&path).unwrap(), b"", "{what}");
        }
        bench.end(&shim, bundle);
    }
    bench.finish();
}

#[test]
fn log_lines_are_logfmt_with_the_container_and_its_transaction() {
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.bundle("c1", &Spec::tiny("exit=4"));
    let shim = run(&bench, &bundle);
    let txid = bench.record("c1").unwrap()["txid"].as_str().unwrap().to_owned();
    assert_eq!(shim.client.wait("c1"), Ok(4));
    bundle.wait_for_log("msg=exited");
    let log = bundle.log();
    for line in log.lines() {
        assert!(line.starts_with("time=\"") && line.contains(" level=") && line.contains(" msg="), "{line}");
    }
    let create = log.lines().find(|l| l.contains("msg=create ")).unwrap();
    assert!(create.contains("id=c1") && create.contains(&format!("txid={txid}")), "{create}");
    bench.end(&shim, bundle);
    bench.finish();
}

#[test]
fn much_goes_both_ways() {
    let Some(bench) = Bench::released() else { return };
    let bundle = bench.bundle("c1", &Spec::tiny("echo exit=3")).with_stdin();
    let shim = run(&bench, &bundle);
    bundle.output.as_ref().unwrap().wait_for("tiny: echo");
    bundle.give_much().join().unwrap().unwrap();
    assert_eq!(shim.client.wait("c1"), Ok(3));
    let expected = format!("{}tiny: echo\n{}", Spec::greeting("echo exit=3"), lines(much_input()));
    assert_same(&bundle.output(), &expected);
    bench.end(&shim, bundle);
    bench.finish();
}
