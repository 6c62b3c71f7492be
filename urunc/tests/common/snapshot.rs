//! Snapshots of what the program prints, for those tests that have some.

/// Compares with `tests/snapshots/NAME.txt`; URUNC_UPDATE_SNAPSHOTS=1 writes it anew.
#[track_caller]
pub fn snapshot(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/snapshots/{name}.txt"));
    if std::env::var_os("URUNC_UPDATE_SNAPSHOTS").is_some_and(|v| v == "1") {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text,
        expected,
        "{} differs; URUNC_UPDATE_SNAPSHOTS=1 writes it anew. Now:\n{text}",
        path.display()
    );
}
