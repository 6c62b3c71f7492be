//! What a command prints, compared with a file of the repository; what differs from run to run is masked before.

use std::{env, fs, path::Path};

/// Replaces each value by its name in angle brackets, the longest first. Columns become two spaces: their widths are
/// those of what was masked.
pub fn masked(text: &str, values: &[(&str, &str)]) -> String {
    let mut values = values.to_vec();
    values.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
    let mut text = text.to_owned();
    for (value, name) in values.into_iter().filter(|(value, _)| !value.is_empty()) {
        text = text.replace(value, &format!("<{name}>"));
    }
    let line = |line: &str| {
        let mut line = line.to_owned();
        while line.contains("   ") {
            line = line.replace("   ", "  ");
        }
        line
    };
    text.lines().map(|l| line(l) + "\n").collect()
}

/// Compares with `tests/tests/snapshots/NAME.txt`; URUNC_UPDATE_SNAPSHOTS=1 writes it anew.
#[track_caller]
pub fn snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(format!("{name}.txt"));
    if env::var_os("URUNC_UPDATE_SNAPSHOTS").is_some_and(|v| v == "1") {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text,
        expected,
        "{} differs; URUNC_UPDATE_SNAPSHOTS=1 writes it anew. Now:\n{text}",
        path.display()
    );
}
