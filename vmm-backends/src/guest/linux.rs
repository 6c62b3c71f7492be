//! The command line of a Linux guest.
//!
//! `process.args[0]` is the guest's init (`rdinit=` with an initrd, else `init=`); the others are init's arguments.
//! The kernel hands everything behind ` -- ` to init and splits it itself (lib/cmdline.c, next_arg): at white space
//! outside of double quotes; a quote that opens a word and the one that closes it are dropped, so is one that opens
//! the value behind the word's first `=`; there is no escape. So an argument is written down as it is or in double
//! quotes, whichever the kernel gives back unchanged, and what it gives back unchanged in neither form cannot be
//! passed that way at all: `echo "hello world"`, an odd number of quotes, `a="b`, a lone `--`.
//!
//! Guaranteed: init gets exactly `process.args[1..]` behind ` -- `, **or** there is no ` -- ` and all of them are in
//! `urunc.args=`, separated by commas, every byte but RFC 3986's unreserved ones as %XX, for an init that decodes
//! /proc/cmdline. (The kernel itself ignores unknown words with a dot.) Never a mixture, never a changed argument.
//! What is kept out of the native form although the kernel could carry it: control characters, because whoever
//! reads /proc/cmdline reads one line of words.
//!
//! The network comes before the init: `ip=ADDRESS::GATEWAY:MASK:NAME:eth0:off` is the first IPv4 address, for kernels
//! with CONFIG_IP_PNP (Documentation/admin-guide/nfs/nfsroot.rst) and for inits that read it; each other address, of
//! which the kernel knows nothing, is one `urunc.addr=ADDRESS/LENGTH,GATEWAY` for inits, in order; a gateway that is
//! not there leaves its field empty or, with its comma, out. Without an IPv4 address the name is the kernel's own
//! `hostname=` (5.19 and later). What looks so behind ` -- ` is an argument.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr},
};

use vmm_api::{GuestNetwork, GuestSpec, PlanError};

use super::{CommandLine, argument, network};

/// `panic=-1`: a kernel that panics reboots at once, which ends the monitor; else the container would hang for ever.
const BASE: &str = "console=ttyS0 panic=-1";

/// The kernel's INIT_ENV_ARG_LIMIT. With one argument more it panics: "Too many boot init vars".
const MOST_ARGS: usize = 32;

/// The word that carries what the kernel's own syntax cannot.
const ENCODED: &str = "urunc.args=";

/// The name of a guest that has none, or none that can be written down: an empty field in `ip=` would make the kernel
/// call itself by its address.
const NAMELESS: &str = "urunc";

pub(super) fn command_line(guest: &GuestSpec) -> Result<CommandLine, PlanError> {
    let mut text = BASE.to_owned();
    let mut reasons = Vec::new();
    if let Some(network) = &guest.network {
        addresses(network, &mut text, &mut reasons);
    }
    let Some((init, args)) = guest.args.split_first() else { return Ok(CommandLine { text, reasons }) };
    if !init.starts_with('/') || init.bytes().any(|b| is_space(b) || b == b'"' || b.is_ascii_control()) {
        return Err(argument(
            0,
            init,
            "a Linux guest's first argument is the absolute path of its init, without white space (which for the \
             kernel is any byte 0xA0, too), double quotes and control characters",
        ));
    }
    text.push_str(if guest.initrd { " rdinit=" } else { " init=" });
    text.push_str(init);
    if args.is_empty() {
        return Ok(CommandLine { text, reasons });
    }
    match native(args) {
        Ok(words) => {
            text.push_str(" -- ");
            text.push_str(&words.join(" "));
        }
        Err(why) => {
            text.push(' ');
            text.push_str(ENCODED);
            encode(args, &mut text);
            reasons.push(format!(
                "{why}; so all arguments behind the first are in {ENCODED}, which the guest's init must decode"
            ));
        }
    }
    Ok(CommandLine { text, reasons })
}

/// Writes down the guest's name and addresses. None of it has spaces, quotes or a lone `--`, so the words behind it
/// are read as if it were not there. Writing to a String never fails.
fn addresses(network: &GuestNetwork, text: &mut String, reasons: &mut Vec<String>) {
    let name = network::hostname(network, reasons);
    let first = network.addresses.iter().position(|address| address.ip.is_ipv4());
    for (i, address) in network.addresses.iter().enumerate() {
        let gateway = network::gateway(address, reasons);
        match address.ip {
            IpAddr::V4(ip) if first == Some(i) => {
                let mask = mask(address.prefix_len);
                if let Some(IpAddr::V4(gateway)) = gateway
                    && (gateway & mask) != (ip & mask)
                {
                    reasons.push(format!(
                        "gateway {gateway} is outside of {ip}/{}: a kernel that reads ip= by itself sets no route to \
                         it, the guest's init must",
                        address.prefix_len
                    ));
                }
                let gateway = gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
                let name = name.unwrap_or(NAMELESS);
                let _ = write!(text, " ip={ip}::{gateway}:{mask}:{name}:eth0:off");
            }
            ip => {
                let _ = write!(text, " urunc.addr={ip}/{}", address.prefix_len);
                if let Some(gateway) = gateway {
                    let _ = write!(text, ",{gateway}");
                }
            }
        }
    }
    if let (None, Some(name)) = (first, name) {
        let _ = write!(text, " hostname={name}");
    }
}

fn mask(prefix_len: u8) -> Ipv4Addr {
    let host_bits = 32u32.saturating_sub(prefix_len.into());
    Ipv4Addr::from_bits(u32::MAX.checked_shl(host_bits).unwrap_or(0))
}

/// All arguments as the kernel's own words, or why that cannot be.
fn native(args: &[String]) -> Result<Vec<String>, String> {
    if args.len() > MOST_ARGS {
        return Err(format!(
            "the kernel hands at most {MOST_ARGS} arguments to init, there are {}",
            args.len()
        ));
    }
    args.iter()
        .enumerate()
        .map(|(i, arg)| {
            word(arg).ok_or_else(|| {
                format!("process.args[{}] {arg:?} cannot be expressed in the kernel's command line", i + 1)
            })
        })
        .collect()
}

/// One argument as a word that the kernel gives back unchanged, wherever in the line it stands.
fn word(arg: &str) -> Option<String> {
    let bytes = arg.as_bytes();
    // `--` ends the kernel's reading, quoted or not. `urunc.args=` would be taken for ours by who reads the line.
    if arg == "--" || arg.contains(ENCODED) || bytes.iter().any(u8::is_ascii_control) {
        return None;
    }
    // The kernel looks for the first `=` behind the first byte, within quotes too.
    let equals = bytes.iter().skip(1).position(|&b| b == b'=').map(|i| i + 1);
    if equals.is_some_and(|i| bytes.get(i + 1) == Some(&b'"')) {
        return None;
    }
    let (mut bare, mut quoted) = (!matches!(bytes.first(), None | Some(b'"')), true);
    let mut odd = false;
    for &b in bytes {
        if b == b'"' {
            odd = !odd;
        } else if is_space(b) {
            // A space must be within quotes. Wrapping the whole turns inside and outside round.
            bare &= odd;
            quoted &= !odd;
        }
    }
    match (odd, bare, quoted) {
        (false, true, _) => Some(arg.to_owned()),
        (false, false, true) => Some(format!("\"{arg}\"")),
        _ => None,
    }
}

/// The kernel's isspace. It thinks in Latin-1: 0xA0, a no-break space there, is the second byte of a UTF-8 `à`.
fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ' | 0xa0)
}

fn encode(args: &[String], text: &mut String) {
    for (i, arg) in args.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        for byte in arg.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    text.push(char::from(byte))
                }
                // Writing to a String never fails.
                _ => drop(write!(text, "%{byte:02X}")),
            }
        }
    }
}

#[cfg(test)]
mod tests;
