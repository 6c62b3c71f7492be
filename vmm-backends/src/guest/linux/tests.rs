//! The command line against a model of the kernel's parser.

use vmm_api::{GuestKind, kernel::Format};

use super::*;
use crate::guest::{
    network::tests::{NASTY, network},
    tests::guest,
};

/// What the kernel (6.1) makes of a command line, its surprises included: next_arg of lib/cmdline.c, parse_args of
/// kernel/params.c, set_init_arg and repair_env_string of init/main.c. `s` is the line with its NUL, which is cut in
/// place as the kernel does it; "pointers" are indices into it.
mod kernel {
    fn is_space(b: u8) -> bool {
        // lib/ctype.c: _S for 9 to 13, 32 and 160.
        (9..=13).contains(&b) || b == 32 || b == 160
    }

    fn skip_spaces(s: &[u8], mut at: usize) -> usize {
        while is_space(s[at]) {
            at += 1;
        }
        at
    }

    pub fn string(s: &[u8], at: usize) -> &[u8] {
        let end = at + s[at..].iter().position(|&b| b == 0).unwrap();
        &s[at..end]
    }

    /// Returns (args, param, val).
    fn next_arg(s: &mut [u8], mut args: usize) -> (usize, usize, Option<usize>) {
        let (mut i, mut equals) = (0, 0);
        let (mut in_quote, mut quoted) = (false, false);
        if s[args] == b'"' {
            args += 1;
            in_quote = true;
            quoted = true;
        }
        while s[args + i] != 0 {
            if is_space(s[args + i]) && !in_quote {
                break;
            }
            if equals == 0 && s[args + i] == b'=' {
                equals = i;
            }
            if s[args + i] == b'"' {
                in_quote = !in_quote;
            }
            i += 1;
        }
        let param = args;
        let mut val = None;
        if equals != 0 {
            s[args + equals] = 0;
            let mut v = args + equals + 1;
            if s[v] == b'"' {
                v += 1;
                if s[args + i - 1] == b'"' {
                    s[args + i - 1] = 0;
                }
            }
            val = Some(v);
        }
        if quoted && i > 0 && s[args + i - 1] == b'"' {
            s[args + i - 1] = 0;
        }
        if s[args + i] != 0 {
            s[args + i] = 0;
            args += i + 1;
        } else {
            args += i;
        }
        (skip_spaces(s, args), param, val)
    }

    fn repair_env_string(s: &mut [u8], param: usize, val: Option<usize>) {
        let Some(val) = val else { return };
        let len = string(s, param).len();
        if val == param + len + 1 {
            s[val - 1] = b'=';
        } else if val == param + len + 2 {
            s[val - 2] = b'=';
            let n = string(s, val).len() + 1;
            s.copy_within(val..val + n, val - 1);
        } else {
            panic!("BUG()");
        }
    }

    /// Calls `word` for each word; returns what stands behind `--`.
    fn parse_args(s: &mut [u8], args: usize, mut word: impl FnMut(&mut [u8], usize, Option<usize>)) -> usize {
        let mut args = skip_spaces(s, args);
        while s[args] != 0 {
            let (next, param, val) = next_arg(s, args);
            args = next;
            if val.is_none() && string(s, param) == b"--" {
                return args;
            }
            word(s, param, val);
        }
        args
    }

    /// What the kernel executes and with which arguments; `None` if it panics.
    pub fn init(line: &[u8]) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
        assert!(!line.contains(&0));
        let mut s = [line, b"\0"].concat();
        let (mut program, mut argv, mut panic) = (Vec::new(), Vec::new(), false);
        let dashes = parse_args(&mut s, 0, |s, param, val| {
            if let (b"rdinit" | b"init", Some(val)) = (string(s, param), val) {
                program = string(s, val).to_vec();
            }
        });
        let mut params = Vec::new();
        parse_args(&mut s, dashes, |s, param, val| {
            repair_env_string(s, param, val);
            // argv_init has room for "init" and MAX_INIT_ARGS more.
            panic |= params.len() >= 32;
            params.push(param);
        });
        argv.extend(params.into_iter().map(|param| string(&s, param).to_vec()));
        (!panic).then_some((program, argv))
    }
}

/// What the kernel gives init, and the reasons, for these arguments.
fn booted(args: &[&str]) -> (String, Vec<String>, Vec<String>) {
    let line = command_line(&guest(GuestKind::Linux, Format::PvhElf, args)).unwrap();
    let (program, argv) = kernel::init(line.text.as_bytes()).expect("the kernel panics");
    assert_eq!(program, args[0].as_bytes());
    (line.text, argv.into_iter().map(|a| String::from_utf8(a).unwrap()).collect(), line.reasons)
}

fn decode(line: &str) -> Vec<String> {
    let encoded = line.split(' ').find_map(|w| w.strip_prefix("urunc.args=")).unwrap();
    encoded
        .split(',')
        .map(|arg| {
            let (mut bytes, mut rest) = (Vec::new(), arg.bytes());
            while let Some(b) = rest.next() {
                bytes.push(match b {
                    b'%' => {
                        let hex = [rest.next().unwrap(), rest.next().unwrap()];
                        u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
                    }
                    _ => b,
                });
            }
            String::from_utf8(bytes).unwrap()
        })
        .collect()
}

/// The arguments arrive: natively without a reason, or encoded with one.
fn arrives(args: &[&str]) -> bool {
    let (line, argv, reasons) = booted(args);
    if reasons.is_empty() {
        assert_eq!(argv, args[1..], "{line}");
        assert!(!line.contains("urunc.args="), "{line}");
    } else {
        assert!(argv.is_empty() && !line.contains(" -- "), "{line}");
        assert_eq!(decode(&line), args[1..], "{line}");
    }
    reasons.is_empty()
}

#[test]
fn golden_lines() {
    let line = |args: &[&str]| command_line(&guest(GuestKind::Linux, Format::PvhElf, args)).unwrap().text;
    assert_eq!(line(&[]), "console=ttyS0 panic=-1");
    assert_eq!(line(&["/init"]), "console=ttyS0 panic=-1 rdinit=/init");
    assert_eq!(
        line(&["/bin/sh", "-c", "echo hi; ls", "", "a,b"]),
        r#"console=ttyS0 panic=-1 rdinit=/bin/sh -- -c "echo hi; ls" "" a,b"#
    );
    assert_eq!(
        line(&["/bin/sh", "-c", "echo \"hello world\"", "~ä", ""]),
        "console=ttyS0 panic=-1 rdinit=/bin/sh urunc.args=-c,echo%20%22hello%20world%22,~%C3%A4,"
    );
    let mut without = guest(GuestKind::Linux, Format::PvhElf, &["/sbin/init", "3"]);
    without.initrd = false;
    assert_eq!(command_line(&without).unwrap().text, "console=ttyS0 panic=-1 init=/sbin/init -- 3");
}

#[test]
fn what_is_native_and_what_is_not() {
    for arg in [
        "",
        "a",
        "a b",
        " ",
        "à",
        "\"x\"",
        "a\"b c\"d",
        "k=v",
        "k=",
        "a b=",
        "=",
        "=\"x\"",
        "--=",
        "-- ",
        "'",
    ] {
        assert!(arrives(&["/i", arg]) && arrives(&["/i", "x", arg, "y z"]), "{arg:?}");
    }
    for arg in
        ["echo \"a b\"", "\"", "a\"", "k=\"v\"", "a b=\"c", "--", "\t", "a\nb", "\x7f", "x urunc.args=y"]
    {
        assert!(!arrives(&["/i", arg]) && !arrives(&["/i", "x", arg, "y z"]), "{arg:?}");
    }
}

#[test]
fn more_arguments_than_the_kernel_takes_are_encoded() {
    let args = |n: usize| [vec!["/init"], vec!["x"; n]].concat();
    assert!(arrives(&args(32)));
    assert!(!arrives(&args(33)));
    let native = format!("init=/init -- {}", ["x"; 33].join(" "));
    assert!(kernel::init(native.as_bytes()).is_none());
}

#[test]
fn init_is_an_absolute_path_of_plain_characters() {
    for init in ["", "sh", "./init", "/my init", "/a\"b", "/a\tb", "/a\nb", "/à", "/\x7f"] {
        let error = command_line(&guest(GuestKind::Linux, Format::PvhElf, &[init, "x"])).unwrap_err();
        assert!(matches!(error, PlanError::Argument { index: 0, .. }), "{init:?}: {error}");
    }
    for init in ["/", "/init", "/a=b", "/ä/'x'", "/a,b", "/--"] {
        assert!(arrives(&[init, "x"]), "{init:?}");
    }
}

/// The line and the reasons for this network and these arguments.
fn networked(hostname: Option<&str>, addresses: &[&str], args: &[&str]) -> (String, Vec<String>) {
    let mut guest = guest(GuestKind::Linux, Format::PvhElf, args);
    guest.network = Some(network(hostname, addresses));
    let line = command_line(&guest).unwrap();
    (line.text, line.reasons)
}

#[test]
fn golden_networks() {
    let cases: [(Option<&str>, &[&str], &str); 9] = [
        (None, &[], ""),
        (None, &["10.88.0.5/24 via 10.88.0.1"], "ip=10.88.0.5::10.88.0.1:255.255.255.0:urunc:eth0:off "),
        (Some("web-0"), &["10.88.0.5/16"], "ip=10.88.0.5:::255.255.0.0:web-0:eth0:off "),
        (
            Some("web-0"),
            &["10.88.0.5/24 via 10.88.0.1", "fd00:0:0::5/64 via fd00::1", "10.9.0.1/8", "fe80::1/128"],
            "ip=10.88.0.5::10.88.0.1:255.255.255.0:web-0:eth0:off urunc.addr=fd00::5/64,fd00::1 \
             urunc.addr=10.9.0.1/8 urunc.addr=fe80::1/128 ",
        ),
        (
            Some("web-0"),
            &["fd00::5/64 via fe80::1", "10.88.0.5/0 via 10.88.0.1"],
            "urunc.addr=fd00::5/64,fe80::1 ip=10.88.0.5::10.88.0.1:0.0.0.0:web-0:eth0:off ",
        ),
        (Some("web-0"), &["fd00::5/64 via fd00::1"], "urunc.addr=fd00::5/64,fd00::1 hostname=web-0 "),
        (None, &["fd00::5/64"], "urunc.addr=fd00::5/64 "),
        (Some("web-0"), &[], "hostname=web-0 "),
        (
            None,
            &["0.0.0.0/255", "::ffff:1.2.3.4/255"],
            "ip=0.0.0.0:::255.255.255.255:urunc:eth0:off urunc.addr=::ffff:1.2.3.4/255 ",
        ),
    ];
    for (hostname, addresses, words) in cases {
        let (text, reasons) = networked(hostname, addresses, &["/init", "a b"]);
        assert_eq!(text, format!("console=ttyS0 panic=-1 {words}rdinit=/init -- \"a b\""));
        assert_eq!(reasons, [""; 0]);
        let (text, _) = networked(hostname, addresses, &[]);
        assert_eq!(text, format!("console=ttyS0 panic=-1 {words}").trim_end());
    }
}

#[test]
fn what_a_network_cannot_say_is_a_reason() {
    let (text, reasons) =
        networked(Some("a.b"), &["10.0.0.5/32 via 169.254.1.1", "fd00::5/64 via 10.0.0.1"], &[]);
    assert_eq!(
        text,
        "console=ttyS0 panic=-1 ip=10.0.0.5::169.254.1.1:255.255.255.255:urunc:eth0:off urunc.addr=fd00::5/64"
    );
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons[0].contains("\"a.b\""), "{reasons:?}");
    assert!(reasons[1].contains("169.254.1.1 is outside of 10.0.0.5/32"), "{reasons:?}");
    assert!(reasons[2].contains("10.0.0.1 of fd00::5"), "{reasons:?}");
}

#[test]
fn no_network_and_no_name_changes_the_arguments() {
    let long = "x".repeat(63);
    let names = NASTY.iter().copied().chain(["rdinit", "console", &long]);
    for name in names {
        for args in [&["/i", "ip=1.2.3.4", "--x", "a b"][..], &["/i", "urunc.addr=::1/1", "--", "\""]] {
            let (with, _) = networked(Some(name), &["10.0.0.5/8 via 10.0.0.1", "fd00::5/64"], args);
            let (without, ..) = booted(args);
            let (program, argv) = kernel::init(with.as_bytes()).unwrap();
            assert_eq!((program, argv), kernel::init(without.as_bytes()).unwrap(), "{name:?}");
            let own =
                with.strip_prefix(BASE).unwrap().strip_suffix(without.strip_prefix(BASE).unwrap()).unwrap();
            let plain = !NASTY.contains(&name);
            let name = if plain { name } else { NAMELESS };
            assert_eq!(
                own,
                format!(" ip=10.0.0.5::10.0.0.1:255.0.0.0:{name}:eth0:off urunc.addr=fd00::5/64")
            );
        }
    }
}

/// Every string up to 6 symbols of those that mean something to the kernel: written natively if and only if the
/// kernel gives back the bare or the quoted form, with words on both sides of it.
#[test]
fn a_word_is_native_exactly_when_the_kernel_gives_it_back() {
    const SYMBOLS: [&str; 6] = ["a", " ", "\"", "=", "-", "à"];
    let given_back = |word: &str, arg: &str| {
        let line = format!("init=/i -- x {word} y");
        let (_, argv) = kernel::init(line.as_bytes()).unwrap();
        argv == [b"x".as_slice(), arg.as_bytes(), b"y"]
    };
    let mut all = vec![String::new()];
    let mut from = 0;
    for _ in 0..6 {
        let to = all.len();
        for i in from..to {
            for symbol in SYMBOLS {
                let longer = format!("{}{symbol}", all[i]);
                all.push(longer);
            }
        }
        from = to;
    }
    let mut natives = 0;
    for arg in &all {
        match word(arg) {
            Some(word) => assert!(given_back(&word, arg), "{arg:?} as {word:?}"),
            None => {
                assert!(!given_back(arg, arg), "{arg:?} would do bare");
                assert!(!given_back(&format!("\"{arg}\""), arg), "{arg:?} would do quoted");
                continue;
            }
        }
        natives += 1;
    }
    assert!(natives > 10_000, "{natives} of {}", all.len());
}

#[test]
fn lists_of_arguments_arrive() {
    const SYMBOLS: [&str; 12] = ["a", "b", " ", "  ", "\"", "=", "-", "--", "à", "\n", "%", ","];
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below
    };
    let (mut native, mut encoded) = (0, 0);
    for _ in 0..20_000 {
        // Mostly harmless symbols, so that whole lists are native often enough.
        let args: Vec<String> = (0..random(5))
            .map(|_| {
                (0..random(5)).map(|_| SYMBOLS[if random(4) > 0 { random(3) } else { random(12) }]).collect()
            })
            .collect();
        let mut all = vec!["/init"];
        all.extend(args.iter().map(String::as_str));
        *if arrives(&all) { &mut native } else { &mut encoded } += 1;
    }
    assert!(native > 2_000 && encoded > 2_000, "{native} native, {encoded} encoded");
}
