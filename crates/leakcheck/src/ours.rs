//! How our things are named, for those that carry no marker of a test.

/// The cgroup leaf of a transaction: `urunc-` and 12 to 16 hexadecimal digits.
pub(crate) fn is_leaf(name: &str) -> bool {
    name.strip_prefix("urunc-").is_some_and(|txid| {
        (12..=16).contains(&txid.len()) && txid.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Whether a cgroup path lies in such a leaf.
pub(crate) fn is_in_leaf(path: &str) -> bool {
    path.split('/').any(is_leaf)
}

/// An interface that we, or the Go urunc (`tap0_urunc`), made.
pub(crate) fn is_link(name: &str) -> bool {
    name.contains("urunc")
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
}
