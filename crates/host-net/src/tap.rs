//! Taps: a virtual Ethernet card whose other end is a file descriptor.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::DefaultNla;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{LinkFlags, LinkHeader};
use rustix::io::Errno;

use crate::Error;
use crate::link::index_of;
use crate::message::{attr, nest, request};
use crate::netlink::{Deed, Netlink};

/// linux/if_link.h.
const IFLA_MTU: u16 = 4;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;

/// Makes a tap of this name at `tun`, an open /dev/net/tun, with frames that have a `struct virtio_net_hdr` in front
/// (IFF_VNET_HDR) and an MTU in bytes, and brings it up. Its index.
///
/// The tap is not persistent: it is a lease that ends with the last copy of `tun`, and so it does when a later step
/// fails here. (A process that is being started has copies of all descriptors until its exec: it may end that moment
/// later.) It appears in the namespace in which `tun` was *opened*, which must be the calling thread's. The kernel
/// gives it no IPv6 address: what is at the other end is the pod, and has the pod's addresses.
pub fn make_tap(tun: BorrowedFd<'_>, name: &str, mtu: u32) -> Result<u32, Error> {
    check(name)?;
    attach(tun, name)?;
    let mut netlink = Netlink::open()?;
    let gone = || Error::Tap { doing: "finding", name: name.to_owned(), source: Errno::NODEV };
    let index = index_of(&mut netlink, name)?.ok_or_else(gone)?;

    let set = |doing, flags, attributes: &[DefaultNla], netlink: &mut Netlink| {
        let header = LinkHeader {
            interface_family: AddressFamily::Unspec,
            index,
            flags,
            change_mask: flags,
            ..LinkHeader::default()
        };
        netlink.change(Deed { doing, index }, request(libc::RTM_SETLINK, 0, &header, attributes))
    };
    let none = LinkFlags::empty();
    set("setting the MTU", none, &[attr(IFLA_MTU, &mtu.to_ne_bytes())], &mut netlink)?;
    // Before it is up: addresses are generated at that moment. One message would set the flag first.
    let mode = attr(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
    let family = nest(u16::from(u8::from(AddressFamily::Inet6)), &[mode]);
    match set("switching IPv6 addresses off", none, &[nest(IFLA_AF_SPEC, &[family])], &mut netlink) {
        // No IPv6 in this kernel, or none with so small an MTU: there is nothing to switch off.
        Err(e) if e.errno() == Some(Errno::AFNOSUPPORT) => {}
        done => done?,
    }
    set("bringing up", LinkFlags::Up, &[], &mut netlink)?;
    Ok(index)
}

/// What may name an interface, narrower than the kernel: it would take `%d` for a pattern.
fn check(name: &str) -> Result<(), Error> {
    let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if letters && (1..libc::IFNAMSIZ).contains(&name.len()) && !matches!(name, "." | "..") {
        Ok(())
    } else {
        Err(Error::BadName { name: name.to_owned() })
    }
}

fn attach(tun: BorrowedFd<'_>, name: &str) -> Result<(), Error> {
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL;
    // SAFETY: `ifreq` is plain old data of the C library, for which all zeroes are valid.
    let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in ifreq.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // IFF_TUN_EXCL is the sixteenth bit of a signed short: the cast keeps the bits.
    ifreq.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: the descriptor is open; this request reads and writes one `struct ifreq`, which lives on the stack.
    if unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF as _, &raw mut ifreq) } == 0 {
        return Ok(());
    }
    let name = name.to_owned();
    match Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO) {
        Errno::BUSY => Err(Error::TapExists { name }),
        source => Err(Error::Tap { doing: "making", name, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn names() {
        for good in ["t", "urunc0", "u-0123456789ab", "a.b_c", "abcdefghijklmno"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "tap%d", "a b", "a/b", "a:b", "abcdefghijklmnop", "ä"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
