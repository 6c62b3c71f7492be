//! The command line of a Unikraft guest: `<args[0]> [netdev.ip=...] -- <args[1..]>`, or nothing without arguments and
//! address.
//!
//! Unikraft splits the line itself (lib/ukargparse): at white space outside of single and double quotes, which may
//! open and close anywhere in a word and are dropped. Backslashes escape outside of single quotes since release
//! 0.13, before they do not; so an argument that needs it is put into single quotes, and a single quote into double
//! ones (`it's` is `'it'"'"'s'`), which releases from 0.8 on read alike.
//!
//! Guaranteed, for releases from 0.8 on with lib/uklibparam and a multiboot kernel (all that Unikraft builds for
//! QEMU, 0.17 included): main() gets exactly `process.args[1..]` behind its argv\[0\], whatever bytes are in them.
//! An empty argument cannot be expressed, nor can more than 57 (56 with an address): both are
//! [`PlanError::Argument`].
//!
//! `netdev.ip=ADDRESS/LENGTH:GATEWAY:DNS:DNS:NAME` (lib/uknetdev, release 0.16.1 and later; fields at the end may be
//! missing, others empty) is the first IPv4 address of the first interface. There is one for each interface, so it
//! cannot express a second one, and there is nothing for IPv6. Kernels that do not know the word say so and go on.
//!
//! Up to the guest's build: argv\[0\] is the path of the kernel, which QEMU puts in front of the line of a multiboot
//! kernel; so `args[0]` stands where Unikraft expects its own parameters (`netdev.ip=...`), which hides it from
//! main(). Without lib/uklibparam, and with another boot protocol than multiboot (where `--` is the first word
//! behind argv\[0\], which lib/ukboot overlooks; an address stands between them), main() sees the `--`, too.

use std::{fmt::Write, net::IpAddr};

use vmm_api::{GuestNetwork, GuestSpec, PlanError};

use super::{CommandLine, argument, network};

/// A kernel splits off 60 words (CONFIG_LIBUKBOOT_MAXNBARGS) and stops in the middle of the last one, which may be
/// quoted. Two of them are the kernel's path and `--`.
const MOST_ARGS: usize = 57;

/// Stands in for `args[0]` where there is none, as argv\[0\] is not read as a parameter.
const NAMELESS: &str = "unikraft";

pub(super) fn command_line(guest: &GuestSpec) -> Result<CommandLine, PlanError> {
    let (mut text, mut reasons) = (String::new(), Vec::new());
    let netdev = guest.network.as_ref().and_then(|network| netdev(network, &mut reasons));
    let has_address = netdev.is_some();
    let most_args = MOST_ARGS - usize::from(has_address);
    // What is behind the first word.
    let frame = netdev.map(|netdev| format!(" {netdev}")).unwrap_or_default() + " --";
    for (index, arg) in guest.args.iter().enumerate() {
        if arg.is_empty() {
            return Err(argument(index, arg, "Unikraft drops empty arguments; leave it out"));
        }
        if index >= most_args {
            return Err(argument(
                index,
                arg,
                "Unikraft takes no more than 57 arguments, 56 of a guest with an IPv4 address; leave some out",
            ));
        }
        // lib/uklibparam reads this word. `help` ends the boot, an open list swallows the `--`.
        if index == 0 && (arg == "help" || arg == "--" || arg.contains("=[")) {
            return Err(argument(
                index,
                arg,
                "this word has a meaning for Unikraft itself; use a program's name",
            ));
        }
        if index > 0 {
            text.push(' ');
        }
        text.push_str(&word(arg));
        if index == 0 {
            text.push_str(&frame);
        }
    }
    if guest.args.is_empty() && has_address {
        text = format!("{NAMELESS}{frame}");
    }
    Ok(CommandLine { text, reasons })
}

/// The parameter with the guest's address and name, if it has an IPv4 address. It has none of the parser's special
/// characters.
fn netdev(network: &GuestNetwork, reasons: &mut Vec<String>) -> Option<String> {
    let name = network::hostname(network, reasons);
    let first = network.addresses.iter().position(|address| address.ip.is_ipv4());
    let mut netdev = None;
    for (i, address) in network.addresses.iter().enumerate() {
        if first != Some(i) {
            reasons.push(format!(
                "address {}/{} is not passed to the guest: Unikraft takes one IPv4 address",
                address.ip, address.prefix_len
            ));
            continue;
        }
        let mut word = format!("netdev.ip={}/{}", address.ip, address.prefix_len);
        let gateway = network::gateway(address, reasons).as_ref().map(IpAddr::to_string);
        // Writing to a String never fails.
        let _ = match (gateway, name) {
            (None, None) => Ok(()),
            (Some(gateway), None) => write!(word, ":{gateway}"),
            (gateway, Some(name)) => write!(word, ":{}:::{name}", gateway.unwrap_or_default()),
        };
        netdev = Some(word);
    }
    netdev
}

fn word(arg: &str) -> String {
    if arg.contains([' ', '\t', '\n', '\r', '\x0b', '\'', '"', '\\']) {
        format!("'{}'", arg.replace('\'', r#"'"'"'"#))
    } else {
        arg.to_owned()
    }
}

#[cfg(test)]
mod tests;
