//! Output to a file (`file://`): appended, complete, and never in the way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use containerd_shim_protos::ttrpc::Code;
use urunc_tests::direct::{Bench, Bundle, Small, Spec, assert_same, eventually, lines, much, much_input};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn to_file(mut bundle: Bundle, path: &Path) -> Bundle {
    bundle.stdout = format!("file://{}", path.display());
    bundle.stderr = bundle.stdout.clone();
    (bundle.output, bundle.errors) = (None, None);
    bundle
}

#[test]
fn much_goes_both_ways_and_is_appended_to_a_file_that_is_made() {
    let Some(bench) = Bench::released() else { return };
    let file = bench.scratch().join("logs/of/c1.log");
    let words = format!("echo out={} exit=3", much());
    let bundle = to_file(bench.bundle("c1", &Spec::tiny(&words)).with_stdin(), &file);
    let shim = bench.start(&bundle);
    shim.client.create(&bundle).unwrap();
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o711));
    assert_eq!(mode(&bench.scratch().join("logs")), 0o711);
    shim.client.start("c1").unwrap();
    // What comes before its UART is set up is lost in there.
    eventually("it listens", || fs::read_to_string(&file).unwrap().contains("tiny: echo"));
    bundle.give_much().join().unwrap().unwrap();
    assert_eq!(shim.client.wait("c1"), Ok(3));
    bench.end(&shim, bundle);
    let read = lines(much_input());
    let first = format!("{}tiny: echo\n{read}{}", Spec::greeting(&words), lines(much()));
    assert_same(&fs::read_to_string(&file).unwrap(), &first);

    let bundle = to_file(bench.bundle("c1", &Spec::tiny("exit=4")), &file);
    let shim = bench.start(&bundle);
    shim.client.create(&bundle).unwrap();
    shim.client.start("c1").unwrap();
    assert_eq!(shim.client.wait("c1"), Ok(4));
    bench.end(&shim, bundle);
    assert_same(&fs::read_to_string(&file).unwrap(), &(first + &Spec::greeting("exit=4")));
    bench.finish();
}

#[test]
fn a_full_disk_loses_output_and_stops_nothing() {
    let Some(bench) = Bench::released() else { return };
    let small = Small::mount(&bench.scratch().join("small"));
    let file = small.path().join("log");
    let words = "out=200000 exit=3";
    let bundle = to_file(bench.bundle("c1", &Spec::tiny(words)), &file);
    let shim = bench.start(&bundle);
    shim.client.create(&bundle).unwrap();
    shim.client.start("c1").unwrap();
    assert_eq!(shim.client.wait("c1"), Ok(3));
    let came = fs::read_to_string(&file).unwrap();
    assert!((4096..=64 * 1024).contains(&came.len()), "{} bytes in 64 KiB", came.len());
    assert!(format!("{}{}", Spec::greeting(words), lines(64 * 1024)).starts_with(&came));
    bench.end(&shim, bundle);
    drop(small);
    bench.finish();
}

#[test]
fn what_is_no_file_is_refused_by_name() {
    let Some(bench) = Bench::released() else { return };
    let first = bench.bundle("c0", &Spec::tiny("hang")).without_stdio();
    let shim = bench.start(&first);
    shim.client.create(&first).unwrap();
    let folder = bench.scratch().join("folder");
    fs::create_dir(&folder).unwrap();
    let (fifo, folder) = (bench.bundle("c2", &Spec::tiny("hang")), folder.to_string_lossy().into_owned());
    for (field, uri, value) in [
        ("stdout", "file://log".to_owned(), "file://log"),
        ("stderr", "file://log".to_owned(), "file://log"),
        ("stdin", format!("file://{folder}/in"), "file://"),
        ("stdout", format!("file://{folder}"), &folder),
        ("stdout", format!("file://{}", fifo.stderr), &fifo.stderr),
        ("stdout", "file:///dev/null".to_owned(), "/dev/null"),
    ] {
        let mut bundle = bench.bundle("c1", &Spec::tiny("hang").in_pod("c0")).without_stdio();
        match field {
            "stdin" => bundle.stdin.clone_from(&uri),
            "stdout" => bundle.stdout.clone_from(&uri),
            _ => bundle.stderr.clone_from(&uri),
        }
        let failure = shim.client.create(&bundle).unwrap_err();
        assert_eq!(failure.code, Some(Code::INVALID_ARGUMENT), "{uri}: {failure:?}");
        assert!(failure.message.contains(field) && failure.message.contains(value), "{uri}: {failure:?}");
        bundle.remove();
    }
    fifo.remove();
    bench.end(&shim, first);
    bench.finish();
}
