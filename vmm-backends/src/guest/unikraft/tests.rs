//! The command line against models of Unikraft's parsers.

use vmm_api::{GuestKind, kernel::Format};

use super::*;
use crate::guest::{
    network::tests::{NASTY, network},
    tests::guest,
};

/// What Unikraft makes of a command line: lib/ukargparse/argparse.c (uk_argnparse) and lib/ukboot/early_init.c.
mod unikraft {
    /// `escapes`: as of release 0.13, which knows backslashes; else as of 0.8. `b` is the line with its NUL.
    fn argnparse(line: &[u8], escapes: bool) -> Vec<Vec<u8>> {
        let mut b = [line, b"\0"].concat();
        let mut argv: Vec<usize> = Vec::new();
        let (mut prev_wspace, mut prev_escape, mut in_quote) = (true, false, 0u8);
        let mut i = 0usize;
        // With 60 words it stops right behind the first byte of the last one.
        while b[i] != 0 && argv.len() < 60 {
            let c = b[i];
            if b" \r\n\t\x0b".contains(&c) && in_quote == 0 && !prev_escape {
                b[i] = 0;
                prev_wspace = true;
                i += 1;
                continue;
            }
            if c == b'\'' || c == b'"' {
                let escaped = prev_escape && in_quote == 0;
                let escaped_within = prev_escape && in_quote != 0 && c == b'"';
                if escaped_within {
                    b.remove(i - 1);
                    i -= 1;
                    prev_escape = false;
                } else if !escaped && (in_quote == 0 || in_quote == c) {
                    in_quote = if in_quote == 0 { c } else { 0 };
                    b.remove(i);
                    continue;
                }
            }
            // Any character of a word.
            if prev_wspace {
                argv.push(i);
                prev_wspace = false;
                prev_escape = false;
            }
            if escapes && b[i] == b'\\' && in_quote != b'\'' {
                if prev_escape {
                    b.remove(i);
                    prev_escape = false;
                    continue;
                }
                prev_escape = true;
            } else if prev_escape {
                prev_escape = false;
                if in_quote == 0 {
                    b.remove(i - 1);
                    continue;
                }
            }
            i += 1;
        }
        argv.into_iter().map(|at| b[at..].iter().take_while(|&&byte| byte != 0).copied().collect()).collect()
    }

    /// Where lib/uklibparam meets its `--`, counted from argv[1]; the words before it are parameters.
    fn stop(argv: &[Vec<u8>]) -> Option<usize> {
        let mut list = false;
        argv.iter().skip(1).position(|word| {
            assert!(list || word != b"help", "the guest prints a help text and halts");
            if !list && word == b"--" {
                return true;
            }
            if word.windows(2).any(|w| w == b"=[") {
                list = true;
            }
            if word.ends_with(b"]") {
                list = false;
            }
            false
        })
    }

    /// main()'s argv for a kernel that QEMU boots by multiboot.
    pub fn main(line: &str, escapes: bool) -> Vec<String> {
        let mut argv = argnparse(format!("/guest/kernel {line}").as_bytes(), escapes);
        if let Some(stop) = stop(&argv)
            && stop > 0
        {
            argv.drain(1..stop + 2);
        }
        argv.into_iter().map(|arg| String::from_utf8(arg).unwrap()).collect()
    }

    #[test]
    fn the_model_reads_quotes_and_backslashes() {
        let parsed = |line: &str, escapes| -> Vec<String> {
            argnparse(line.as_bytes(), escapes).into_iter().map(|a| String::from_utf8(a).unwrap()).collect()
        };
        for escapes in [false, true] {
            let line = "  a'b c'd \t\"it's\" '' '\\\"' x\n";
            assert_eq!(parsed(line, escapes), ["ab cd", "it's", "\\\"", "x"]);
        }
        assert_eq!(parsed(r#"a\ b \' "\"x\" \y" \\"#, true), ["a b", "'", r#""x" \y"#, r"\"]);
        assert_eq!(parsed(r"a\ b \x", false), [r"a\", "b", r"\x"]);
    }
}

fn line(args: &[&str]) -> Result<String, PlanError> {
    command_line(&guest(GuestKind::Unikraft, Format::OtherElf, args)).map(|line| line.text)
}

/// main() gets these arguments, under the old parser and the new one.
fn arrives(args: &[&str]) {
    let line = line(args).unwrap();
    for escapes in [false, true] {
        let argv = unikraft::main(&line, escapes);
        assert_eq!(argv[0], "/guest/kernel", "{line}");
        assert_eq!(argv[1..], args[1..], "{line}");
    }
}

#[test]
fn golden_lines() {
    assert_eq!(line(&[]).unwrap(), "");
    assert_eq!(line(&["app"]).unwrap(), "app --");
    assert_eq!(line(&["app", "-c", "/nginx.conf"]).unwrap(), "app -- -c /nginx.conf");
    assert_eq!(line(&["my app", "a b", "it's"]).unwrap(), r#"'my app' -- 'a b' 'it'"'"'s'"#);
}

#[test]
fn what_unikraft_would_read_otherwise_is_refused() {
    let refused = |args: &[&str], at| {
        let error = line(args).unwrap_err();
        assert!(matches!(error, PlanError::Argument { index, .. } if index == at), "{error}");
    };
    refused(&[""], 0);
    refused(&["app", "x", ""], 2);
    let many = |n: usize| [vec!["app"], vec!["x"; n - 2], vec!["a b"]].concat();
    arrives(&many(57));
    refused(&many(58), 57);
    let cut_off = format!("app -- {} 'a b'", ["x"; 56].join(" "));
    assert_ne!(unikraft::main(&cut_off, true)[1..], many(58)[1..]);
    refused(&["help"], 0);
    refused(&["--", "x"], 0);
    refused(&["env.vars=[", "x"], 0);
    arrives(&["app", "help", "--", "env.vars=[", "netdev.ip=1"]);
    arrives(&["/bin/app.elf", "x"]);
}

/// The line and the reasons for this network and these arguments.
fn networked(hostname: Option<&str>, addresses: &[&str], args: &[&str]) -> (String, Vec<String>) {
    let mut guest = guest(GuestKind::Unikraft, Format::OtherElf, args);
    guest.network = Some(network(hostname, addresses));
    let line = command_line(&guest).unwrap();
    (line.text, line.reasons)
}

#[test]
fn golden_networks() {
    let cases: [(Option<&str>, &[&str], &str, usize); 7] = [
        (None, &["10.88.0.5/24 via 10.88.0.1"], "netdev.ip=10.88.0.5/24:10.88.0.1", 0),
        (None, &["10.88.0.5/24"], "netdev.ip=10.88.0.5/24", 0),
        (Some("web-0"), &["10.88.0.5/24 via 10.88.0.1"], "netdev.ip=10.88.0.5/24:10.88.0.1:::web-0", 0),
        (Some("web-0"), &["10.88.0.5/24"], "netdev.ip=10.88.0.5/24::::web-0", 0),
        (
            None,
            &["fd00::5/64", "10.88.0.5/24 via 10.88.0.1", "10.88.0.6/24 via 10.88.0.1"],
            "netdev.ip=10.88.0.5/24:10.88.0.1",
            2,
        ),
        (None, &["fd00::5/64 via fd00::1"], "", 1),
        (Some("web-0"), &[], "", 0),
    ];
    for (hostname, addresses, word, left_out) in cases {
        let (text, reasons) = networked(hostname, addresses, &["my app", "a b"]);
        assert_eq!(text, format!("'my app' {word} -- 'a b'").replace("  ", " "));
        assert_eq!(reasons.len(), left_out, "{reasons:?}");
        assert!(reasons.iter().all(|reason| reason.starts_with("address ")), "{reasons:?}");
        let (text, _) = networked(hostname, addresses, &[]);
        assert_eq!(text, if word.is_empty() { String::new() } else { format!("unikraft {word} --") });
    }
}

#[test]
fn main_sees_nothing_of_the_network() {
    let most = [vec!["app"], vec!["x"; 54], vec!["a b"]].concat();
    for name in NASTY.iter().copied().chain(["web-0", "help"]) {
        for args in [&["app"][..], &["app", "netdev.ip=1", "--", "it's"], &most] {
            let (line, _) = networked(Some(name), &["10.88.0.5/24 via 10.88.0.1"], args);
            for escapes in [false, true] {
                assert_eq!(unikraft::main(&line, escapes)[1..], args[1..], "{line}");
            }
        }
    }
    let mut guest = guest(GuestKind::Unikraft, Format::OtherElf, &[&most[..], &["y"]].concat());
    guest.network = Some(network(None, &["10.88.0.5/24"]));
    assert!(matches!(command_line(&guest), Err(PlanError::Argument { index: 56, .. })));
    guest.network = Some(network(None, &["fd00::5/64"]));
    assert!(command_line(&guest).is_ok());
}

#[test]
fn every_short_argument_arrives() {
    const SYMBOLS: [&str; 8] = ["a", " ", "'", "\"", "\\", "\n", "-", "à"];
    let mut all = vec![String::new()];
    let mut from = 0;
    for _ in 0..5 {
        let to = all.len();
        for i in from..to {
            for symbol in SYMBOLS {
                let longer = format!("{}{symbol}", all[i]);
                all.push(longer);
            }
        }
        from = to;
    }
    for pair in all[1..].windows(2) {
        arrives(&["app", &pair[0], "x", &pair[1]]);
    }
}
