//! What the tiny guest's `out=N` writes.

/// `bytes` bytes of lines, each of its own.
pub fn lines(bytes: usize) -> String {
    let line = |i: usize| {
        let letters = (0..54).map(|k| char::from(b'a' + u8::try_from((i + k) % 26).unwrap()));
        format!("{i:08x} {}\n", letters.collect::<String>())
    };
    let mut text: String = (0..bytes.div_ceil(64)).map(line).collect();
    text.truncate(bytes);
    text
}

/// Says where they differ: they are long.
#[track_caller]
pub fn assert_same(got: &str, expected: &str) {
    let at =
        got.bytes().zip(expected.bytes()).position(|(a, b)| a != b).unwrap_or(got.len().min(expected.len()));
    let part =
        |text: &str| text.get(at.saturating_sub(40)..(at + 40).min(text.len())).unwrap_or("").to_owned();
    assert!(
        got == expected,
        "{} bytes came, {} were expected; at {at} {:?} instead of {:?}",
        got.len(),
        expected.len(),
        part(got),
        part(expected)
    );
}

/// By hand, as many bytes go through each kind of stdio, in and out: whole lines.
const BYTES: &str = "URUNC_TEST_BYTES";

/// How many bytes a guest writes. Every one is an exit of the guest and a system call of its monitor, some 4 us each way.
pub fn much() -> usize {
    asked().unwrap_or(1 << 20)
}

/// How many bytes a guest reads and writes again: each takes some 12 us.
pub fn much_input() -> usize {
    asked().unwrap_or(1 << 17)
}

fn asked() -> Option<usize> {
    std::env::var(BYTES).ok().map(|n| n.parse().expect("URUNC_TEST_BYTES: a number of bytes"))
}
