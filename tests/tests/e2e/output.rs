//! What a guest prints arrives.

use urunc_tests::harness::{Image, Test, Version, tiny};

/// 10 MB, each byte of which is known.
pub fn ten_megabytes_arrive_intact(version: Version) {
    const BYTES: usize = 10 << 20;
    Test::with(version, &[Image::Tiny], |containerd| {
        let word = format!("out={BYTES}");
        let done = containerd.run(Image::Tiny, "much", &tiny(&[&word])).expect(0);
        let first = format!("tiny: tiny -- {word}\n");
        let wanted = [first.as_bytes(), &pattern(BYTES)].concat();
        let differ = wanted.iter().zip(&done.stdout).position(|(a, b)| a != b);
        assert_eq!((differ, done.stdout.len()), (None, wanted.len()), "where they differ, and how much came");
    });
}

/// The very last bytes arrive, although no newline ends them and the guest is gone at once.
pub fn a_last_line_without_its_end_arrives(version: Version) {
    Test::with(version, &[Image::Tiny], |containerd| {
        for _ in 0..10 {
            let done = containerd.run(Image::Tiny, "last", &tiny(&["last"])).expect(0);
            assert_eq!(done.text(), "tiny: tiny -- last\ntiny: last words");
        }
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
