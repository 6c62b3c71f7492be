//! The fault matrix. `make test` runs its short form, `make matrix` all of it, `make matrix CASE=NAME` what has NAME in
//! its name.

use urunc_tests::matrix::{Choice, sweep};

#[test]
fn whatever_fails_wherever_nothing_is_left() {
    let choice = match std::env::var("URUNC_MATRIX").as_deref() {
        Err(_) | Ok("") => Choice::Short,
        Ok("all") => Choice::All,
        Ok(part) => Choice::Named(part.to_owned()),
    };
    assert!(sweep(&choice), "some cases failed; they are named above");
}
