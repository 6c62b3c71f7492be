//! What a guest prints stands in the container's log.

use urunc_tests::harness::{BOOT, Container, Image, Line, Node, Pod, Setup, Version};

/// 10 MB of known bytes, a last line without its end, and a line longer than a log's line may be (16 KiB).
pub fn the_log_has_every_byte(version: Version) {
    const BYTES: usize = 10 << 20;
    const LONG: usize = 40_000;
    Node::with(version, &Setup::of(&[Image::Tiny, Image::Debian]), |node| {
        let pod = node.runp(&Pod::new("logs"));
        let word = format!("out={BYTES}");
        let much = node.run(&pod, &Container::new("much", Image::Tiny, &["tiny", &word]));
        assert_eq!(node.wait_for_exit(&much).code, 0);
        let (all, wanted) = (much.printed(), pattern(BYTES));
        // The first line is the guest's command line.
        let first = all.iter().position(|b| *b == b'\n').unwrap() + 1;
        let printed = &all[first..];
        let differ = wanted.iter().zip(printed).position(|(a, b)| a != b);
        assert_eq!((differ, printed.len()), (None, wanted.len()), "where they differ, and how much came");
        assert!(node.logs(&much).stdout == all, "crictl tells the same");

        let last = node.run(&pod, &Container::new("last", Image::Tiny, &["tiny", "last"]));
        assert_eq!(node.wait_for_exit(&last).code, 0);
        let words = Line { stream: "stdout".to_owned(), full: false, text: b"tiny: last words".to_vec() };
        assert_eq!(last.lines()[1..], [words]);

        let script = format!("head -c {LONG} /dev/zero | tr '\\0' x; echo; echo end");
        let long = node.run(&pod, &Container::new("long", Image::Debian, &["/init", "sh", "-c", &script]));
        node.wait_for(&long, "\nend\n", BOOT);
        let longest = "x".repeat(LONG);
        assert!(long.text().lines().any(|line| line == longest), "the line is whole");
        assert!(long.lines().iter().any(|line| !line.full), "it was split");
        node.rmp_force(&pod);
    });
}

/// What the tiny guest prints for `out=BYTES`: lines of 64 bytes, the number of the line, a space, and the alphabet
/// from letter (number % 26) on.
fn pattern(bytes: usize) -> Vec<u8> {
    let line = |number: usize| {
        let letters = (0..54).map(move |k| b'a' + u8::try_from((number + k) % 26).unwrap());
        format!("{number:08x} ").into_bytes().into_iter().chain(letters).chain([b'\n'])
    };
    (0..bytes.div_ceil(64)).flat_map(line).take(bytes).collect()
}
