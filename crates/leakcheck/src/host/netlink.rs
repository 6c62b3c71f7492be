//! Just enough rtnetlink to ask the kernel for a list: one request, all answers.

use std::io;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// The requests for all links, addresses, qdiscs, and for the filters of one hook.
pub(crate) const RTM_GETLINK: u16 = 18;
pub(crate) const RTM_GETADDR: u16 = 22;
pub(crate) const RTM_GETQDISC: u16 = 38;
pub(crate) const RTM_GETTFILTER: u16 = 46;

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLM_F_DUMP_INTR: u16 = 0x10;
/// The kernel fills at most 32 KiB per answer.
const BUFFER: usize = 64 << 10;
/// How often a list that changed while the kernel wrote it is asked for again.
const ATTEMPTS: usize = 5;

/// The bodies of all answers, from the network namespace of this thread.
pub(crate) fn dump(request: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    for _ in 0..ATTEMPTS {
        if let Some(answers) = dump_once(request, body)? {
            return Ok(answers);
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "the list changed each time it was read"))
}

/// None if the list changed meanwhile.
fn dump_once(request: u16, body: &[u8]) -> io::Result<Option<Vec<Vec<u8>>>> {
    // Protocol 0 of this family is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    message.extend(request.to_ne_bytes());
    message.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    retry_on_intr(|| send(&socket, &message, SendFlags::empty()))?;

    let mut answers = Vec::new();
    let mut consistent = true;
    let mut buffer = vec![0; BUFFER];
    loop {
        let (_, length) = retry_on_intr(|| recv(&socket, &mut buffer[..], RecvFlags::TRUNC))?;
        let mut rest = buffer.get(..length).ok_or(Errno::MSGSIZE)?;
        while let Some((kind, flags, body, next)) = split(rest) {
            rest = next;
            consistent &= flags & NLM_F_DUMP_INTR == 0;
            match kind {
                NLMSG_DONE => return Ok(consistent.then_some(answers)),
                NLMSG_ERROR => {
                    let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                    return Err(io::Error::from_raw_os_error(-code));
                }
                _ => answers.push(body.to_vec()),
            }
        }
    }
}

/// The first message: type, flags, body; and what follows it.
fn split(bytes: &[u8]) -> Option<(u16, u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let half = |at: usize| Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let next = bytes.get(align(length)..).unwrap_or_default();
    Some((half(4)?, half(6)?, bytes.get(HEADER..length)?, next))
}

/// The attributes in a message's body, or in an attribute that holds others.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u16::from_ne_bytes(*bytes.first_chunk()?) as usize;
        // The two highest bits are flags.
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of this type.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// The 32-bit number at this place.
pub(crate) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// A string attribute, without the zero at its end.
pub(crate) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_may_be_cut_off() {
        let mut bytes = vec![5, 0, 3, 0x80, b'x', 0, 0, 0];
        bytes.extend([6, 0, 4, 0, b'y', b'z']);
        let found: Vec<_> = attributes(&bytes).collect();
        assert_eq!(found, [(3, &b"x"[..]), (4, &b"yz"[..])]);
        assert_eq!(attributes(&[9, 0, 1, 0, 1]).count(), 0);
        assert_eq!(attributes(&[1, 0, 1, 0]).count(), 0);
    }

    #[test]
    fn an_unknown_request_is_an_error() {
        assert!(dump(0x3ff, &[0; 16]).is_err());
    }
}
