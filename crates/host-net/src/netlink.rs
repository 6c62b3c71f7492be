//! A blocking rtnetlink socket: a request and its acknowledgement, or a request and a list.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NetlinkBuffer,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::io::Errno;

use crate::Error;
use crate::message::{HEADER, attributes, string, value};

/// What is received at once, bytes. The kernel makes messages of a list as long as the largest buffer that it was
/// read with, up to 32 KiB.
const BUFFER: usize = 64 << 10;
/// How often a list is read that changes meanwhile.
const READS: usize = 32;
/// The flag of an answer that has attributes behind the copy of the request, and that of a copy which is only the
/// header.
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLM_F_CAPPED: u16 = 0x100;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// What is done to which interface: for errors.
#[derive(Clone, Copy)]
pub(crate) struct Deed {
    pub(crate) doing: &'static str,
    pub(crate) index: u32,
}

/// A socket in the network namespace in which the calling thread was when it was opened.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// One message of a list: its type, and what comes after its header.
pub(crate) struct Item {
    pub(crate) kind: u16,
    pub(crate) body: Vec<u8>,
}

/// What a message means for the one who waits for the end of his request.
enum Part {
    One { item: Item, interrupted: bool },
    Finished { interrupted: bool },
}

impl Netlink {
    pub(crate) fn open() -> Result<Self, Error> {
        let failed = |doing| move |source| Error::Socket { doing, source };
        let socket = Socket::new(NETLINK_ROUTE).map_err(failed("opening"))?;
        // Only comfort: the kernel's words, and no copies of our own requests in its answers.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        // From now on nobody but the kernel can send to it.
        socket.connect(&SocketAddr::new(0, 0)).map_err(failed("connecting"))?;
        let mut netlink = Self { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER) };
        // The first message of a list is made before the list is read, for a reader of one page: a filter that does
        // not fit would end the list silently. So the kernel is shown our buffer first.
        let deed = Deed { doing: "greeting", index: 0 };
        netlink.send(deed, &mut crate::message::request(NLMSG_NOOP, NLM_F_ACK, &NoHeader, &[]))?;
        netlink.finish(deed)?;
        Ok(netlink)
    }

    /// Sends a request and waits for the kernel's acknowledgement.
    pub(crate) fn change(&mut self, deed: Deed, mut request: Vec<u8>) -> Result<(), Error> {
        add_flags(&mut request, NLM_F_ACK);
        self.send(deed, &mut request)?;
        self.finish(deed)
    }

    /// Asks for a list. It is read anew if it changed meanwhile.
    pub(crate) fn list(&mut self, deed: Deed, mut request: Vec<u8>) -> Result<Vec<Item>, Error> {
        add_flags(&mut request, NLM_F_DUMP);
        for _ in 0..READS {
            self.send(deed, &mut request)?;
            if let Some(items) = self.collect(deed)? {
                return Ok(items);
            }
        }
        Err(Error::Restless { doing: deed.doing, times: READS })
    }

    /// All items up to the end; `None`: they do not belong together.
    fn collect(&mut self, deed: Deed) -> Result<Option<Vec<Item>>, Error> {
        let mut items = Vec::new();
        let mut whole = true;
        loop {
            for part in self.receive(deed)? {
                match part {
                    Part::One { item, interrupted } => {
                        whole &= !interrupted;
                        items.push(item);
                    }
                    Part::Finished { interrupted } => return Ok((whole && !interrupted).then_some(items)),
                }
            }
        }
    }

    fn finish(&mut self, deed: Deed) -> Result<(), Error> {
        self.collect(deed).map(|_| ())
    }

    fn send(&mut self, deed: Deed, request: &mut [u8]) -> Result<(), Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkBuffer::new(&mut *request);
        message.set_flags(message.flags() | NLM_F_REQUEST);
        message.set_sequence_number(self.sequence);
        loop {
            match self.socket.send(request, 0) {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Socket { doing: deed.doing, source }),
            }
        }
    }

    /// The parts of one datagram that answer the last request.
    fn receive(&mut self, deed: Deed) -> Result<Vec<Part>, Error> {
        let length = loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, libc::MSG_TRUNC) {
                Ok(length) => break length,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Socket { doing: deed.doing, source }),
            }
        };
        if length > self.buffer.len() {
            let reason = format!("{length} bytes at once, more than {}", self.buffer.len());
            return Err(Error::Answer { doing: deed.doing, reason });
        }
        let mut parts = Vec::new();
        let mut rest = self.buffer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkBuffer::new_checked(rest)
                .map_err(|e| Error::Answer { doing: deed.doing, reason: e.to_string() })?;
            if message.sequence_number() == self.sequence {
                parts.push(part(deed, message.message_type(), message.flags(), message.payload())?);
            }
            let aligned = (message.length() as usize).next_multiple_of(4);
            rest = rest.get(aligned..).unwrap_or_default();
        }
        Ok(parts)
    }
}

/// A message with nothing but its own header.
struct NoHeader;

impl netlink_packet_core::Emitable for NoHeader {
    fn buffer_len(&self) -> usize {
        0
    }
    fn emit(&self, _: &mut [u8]) {}
}

fn add_flags(request: &mut [u8], flags: u16) {
    let mut message = NetlinkBuffer::new(request);
    message.set_flags(message.flags() | flags);
}

fn part(deed: Deed, kind: u16, flags: u16, body: &[u8]) -> Result<Part, Error> {
    let interrupted = flags & NLM_F_DUMP_INTR != 0;
    if kind != NLMSG_ERROR && kind != NLMSG_DONE {
        return Ok(Part::One { item: Item { kind, body: body.to_vec() }, interrupted });
    }
    // Both begin with 0 or the negative of an error number; the end of a list may lack it.
    let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    if code >= 0 {
        return Ok(Part::Finished { interrupted });
    }
    let words = (flags & NLM_F_ACK_TLVS != 0).then(|| words(kind, flags, body)).flatten();
    let source = Errno::from_raw_os_error(-code);
    Err(Error::Kernel { doing: deed.doing, index: deed.index, words, source })
}

/// What the kernel says about an error, behind the number and the copy of the request.
fn words(kind: u16, flags: u16, body: &[u8]) -> Option<String> {
    let copy = match kind {
        NLMSG_DONE => 0,
        _ if flags & NLM_F_CAPPED != 0 => HEADER,
        _ => NetlinkBuffer::new(body.get(4..4 + HEADER)?).length() as usize,
    };
    let attributes = attributes("reading an error", body.get((4 + copy).next_multiple_of(4)..)?).ok()?;
    value(&attributes, NLMSGERR_ATTR_MSG).map(string)
}
