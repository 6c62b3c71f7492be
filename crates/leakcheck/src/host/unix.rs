//! The kernel's list of unix sockets, `/proc/net/unix`.

/// Inode and name of those that have a name.
pub(crate) fn named(list: &str) -> impl Iterator<Item = (&str, &str)> {
    list.lines().filter_map(parse)
}

/// Inode and path of a line `Num RefCount Protocol Flags Type St Inode Path`; None for the many without a path, for
/// the head line, and for the rest of a path with a line break in it.
fn parse(line: &str) -> Option<(&str, &str)> {
    let (number, mut rest) = line.split_once(": ")?;
    u64::from_str_radix(number, 16).ok()?;
    let mut field = "";
    for _ in 0..6 {
        rest = rest.trim_start();
        (field, rest) = rest.split_once(' ')?;
    }
    Some((field, rest))
}

/// The inode of a socket that an fd is open on.
pub(crate) fn inode_of(target: &str) -> Option<&str> {
    target.strip_prefix("socket:[")?.strip_suffix(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_with_a_path_count() {
        let line = "0000000016b0e0cd: 00000002 00000000 00010000 0001 01   115 /run/a b.sock";
        assert_eq!(parse(line), Some(("115", "/run/a b.sock")));
        assert_eq!(parse("0000000016b0e0cd: 00000003 00000000 00000000 0001 03   115"), None);
        assert_eq!(parse("Num       RefCount Protocol Flags    Type St Inode Path"), None);
    }
}
