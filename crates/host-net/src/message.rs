//! The bytes of rtnetlink messages: requests are built here, attributes of answers are taken apart here.
//!
//! Answers are read attribute by attribute, and only those that are asked for. (The parsers of netlink-packet-route
//! take whole messages: a single filter of a stranger that they do not know would hide all others.)

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NetlinkBuffer, NlasIterator};

use crate::Error;

/// Length of a message's own header, bytes (`struct nlmsghdr`).
pub(crate) const HEADER: usize = 16;

/// An attribute.
pub(crate) fn attr(kind: u16, value: &[u8]) -> DefaultNla {
    DefaultNla::new(kind, value.to_vec())
}

/// An attribute that is a text, with the NUL that the kernel wants.
pub(crate) fn text(kind: u16, value: &str) -> DefaultNla {
    DefaultNla::new(kind, [value.as_bytes(), b"\0"].concat())
}

/// An attribute made of attributes.
pub(crate) fn nest(kind: u16, inner: &[DefaultNla]) -> DefaultNla {
    let mut value = vec![0; inner.buffer_len()];
    inner.emit(&mut value);
    DefaultNla::new(kind | NLA_F_NESTED, value)
}

/// A request of this type with these NLM_F_ flags; the sequence number comes with sending.
pub(crate) fn request(kind: u16, flags: u16, header: &impl Emitable, attributes: &[DefaultNla]) -> Vec<u8> {
    let body = header.buffer_len();
    let mut bytes = vec![0; HEADER + body + attributes.buffer_len()];
    header.emit(&mut bytes[HEADER..HEADER + body]);
    attributes.emit(&mut bytes[HEADER + body..]);
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut message = NetlinkBuffer::new(&mut bytes);
    message.set_length(length);
    message.set_message_type(kind);
    message.set_flags(flags);
    bytes
}

/// The attributes in `bytes`, each with its type (without the flag bits) and its value.
pub(crate) fn attributes<'a>(doing: &'static str, bytes: &'a [u8]) -> Result<Vec<(u16, &'a [u8])>, Error> {
    NlasIterator::new(bytes)
        .map(|attribute| match attribute {
            Ok(attribute) => {
                // Borrowed anew from `bytes`: a value that is taken from the iterator's item dies with the item.
                let from = attribute.into_inner();
                Ok(split(from))
            }
            Err(e) => Err(Error::Answer { doing, reason: e.to_string() }),
        })
        .collect()
}

/// Type and value of the attribute that begins `bytes`; its length was checked.
fn split(bytes: &[u8]) -> (u16, &[u8]) {
    let attribute = netlink_packet_core::NlaBuffer::new(bytes);
    let end = usize::from(attribute.length()).min(bytes.len());
    (attribute.kind(), bytes.get(netlink_packet_core::NLA_HEADER_SIZE..end).unwrap_or_default())
}

/// The value of the first attribute of this type.
pub(crate) fn value<'a>(attributes: &[(u16, &'a [u8])], kind: u16) -> Option<&'a [u8]> {
    attributes.iter().find(|(k, _)| *k == kind).map(|(_, v)| *v)
}

/// The value as a number in the machine's byte order.
pub(crate) fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

/// The value as a text, without the NUL.
pub(crate) fn string(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_and_back() {
        let nested = nest(7, &[text(1, "ab"), attr(2, &5u32.to_ne_bytes())]);
        let bytes = request(18, 1, &nested, &[]);
        let outer = attributes("test", &bytes[HEADER..]).unwrap();
        assert_eq!(outer.len(), 1);
        let inner = attributes("test", value(&outer, 7).unwrap()).unwrap();
        assert_eq!(string(value(&inner, 1).unwrap()), "ab");
        assert_eq!(number(value(&inner, 2).unwrap()), Some(5));
        assert_eq!(value(&inner, 3), None);
    }

    #[test]
    fn cut_off() {
        assert!(attributes("test", &[9, 0, 1, 0, 1]).is_err());
        assert!(attributes("test", &[2, 0, 1, 0]).is_err());
        assert!(attributes("test", &[]).unwrap().is_empty());
    }
}
