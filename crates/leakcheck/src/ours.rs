//! How our things are named, for those that carry no marker of a test.

/// The cgroup leaf of a transaction: `urunc-` and 12 to 16 hexadecimal digits.
pub(crate) fn is_leaf(name: &str) -> bool {
    name.strip_prefix("urunc-").is_some_and(|txid| (12..=16).contains(&txid.len()) && is_hex(txid))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a cgroup path lies in such a leaf.
pub(crate) fn is_in_leaf(path: &str) -> bool {
    path.split('/').any(is_leaf)
}

/// An interface that we (`tap` and the 12 digits of a transaction), or the Go urunc (`tap0_urunc`), made.
pub(crate) fn is_link(name: &str) -> bool {
    name.contains("urunc") || name.strip_prefix("tap").is_some_and(|txid| txid.len() == 12 && is_hex(txid))
}

/// The cookie of a filter of ours: `uru`, a flag byte, the 12 digits of a transaction.
pub(crate) fn is_mark(cookie: &[u8]) -> bool {
    let digits = cookie.strip_prefix(b"uru").and_then(|rest| rest.get(1..));
    digits.and_then(|txid| str::from_utf8(txid).ok()).is_some_and(|txid| txid.len() == 12 && is_hex(txid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_the_prefix_and_12_to_16_lower_case_digits() {
        assert!(is_leaf("urunc-0123456789ab"));
        assert!(is_leaf("urunc-0123456789abcdef"));
        assert!(!is_leaf("urunc-0123456789a"));
        assert!(!is_leaf("urunc-0123456789abcdef0"));
        assert!(!is_leaf("urunc-0123456789AB"));
        assert!(!is_leaf("urunc-shim"));
        assert!(is_in_leaf("/pod/urunc-0123456789ab/x"));
        assert!(!is_in_leaf("/pod/ctr"));
    }

    #[test]
    fn taps_and_marks_are_told_from_those_of_others() {
        assert!(is_link("tap0123456789ab") && is_link("tap0_urunc"));
        assert!(!is_link("tap0") && !is_link("tap01234567-89") && !is_link("tap0123456789AB"));
        assert!(is_mark(b"uru@0123456789ab") && is_mark(b"uruA0123456789ab"));
        assert!(!is_mark(b"uru@0123456789a") && !is_mark(b"abc@0123456789ab") && !is_mark(b"uru"));
    }
}
