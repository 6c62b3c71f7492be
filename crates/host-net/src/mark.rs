//! Whose redirect filter it is: sixteen bytes that the kernel keeps beside the filter's action and never looks at.
//!
//! The cookie is `uru`, one flag byte (`0x40`, with bit 0 set if the ingress qdisc was made by us), and the twelve
//! digits of the transaction id: readable in `tc -s filter show`, which prints it in hexadecimal.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Length of a cookie, bytes: the kernel's TC_COOKIE_MAX_SIZE.
pub(crate) const COOKIE: usize = 16;
const PREFIX: &[u8; 3] = b"uru";
const FLAGS: u8 = 0x40;
const INGRESS_MADE: u8 = 0x01;

/// A transaction id: twelve lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Txid([u8; 12]);

impl Txid {
    fn from_digits(digits: [u8; 12]) -> Option<Self> {
        digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')).then_some(Self(digits))
    }

    /// The last 32 bits of the id, never 0: a handle that two transactions are unlikely to share.
    pub(crate) fn handle(&self) -> u32 {
        let digit = |b: u8| u32::from(if b.is_ascii_digit() { b - b'0' } else { b - b'a' + 10 });
        self.0[4..].iter().fold(0, |sum, b| (sum << 4) | digit(*b)).max(1)
    }
}

impl fmt::Display for Txid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| fmt::Write::write_char(f, char::from(*b)))
    }
}

impl fmt::Debug for Txid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Txid({self})")
    }
}

impl TryFrom<&str> for Txid {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        let digits = text.as_bytes().try_into().ok().and_then(Self::from_digits);
        digits.ok_or_else(|| Error::BadTxid { text: text.to_owned() })
    }
}

impl TryFrom<String> for Txid {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.as_str().try_into()
    }
}

impl From<Txid> for String {
    fn from(txid: Txid) -> Self {
        txid.to_string()
    }
}

/// Whose redirect filter it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// The transaction that made the filter.
    pub txid: Txid,
    /// Whether the ingress qdisc in which it stands was made by us.
    pub ingress_made: bool,
}

impl Mark {
    pub(crate) fn cookie(&self) -> [u8; COOKIE] {
        let mut cookie = [0; COOKIE];
        cookie[..3].copy_from_slice(PREFIX);
        cookie[3] = FLAGS | if self.ingress_made { INGRESS_MADE } else { 0 };
        cookie[4..].copy_from_slice(&self.txid.0);
        cookie
    }

    /// `None`: a cookie of somebody else.
    pub(crate) fn of_cookie(cookie: &[u8]) -> Option<Self> {
        let cookie: &[u8; COOKIE] = cookie.try_into().ok()?;
        if &cookie[..3] != PREFIX || cookie[3] & !INGRESS_MADE != FLAGS {
            return None;
        }
        let txid = Txid::from_digits(cookie[4..].try_into().ok()?)?;
        Some(Self { txid, ingress_made: cookie[3] & INGRESS_MADE != 0 })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.txid, if self.ingress_made { " (with its ingress qdisc)" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::{Mark, Txid};

    #[test]
    fn cookie_and_back() {
        let txid = Txid::try_from("0123456789ab").unwrap();
        for ingress_made in [false, true] {
            let mark = Mark { txid, ingress_made };
            assert_eq!(Mark::of_cookie(&mark.cookie()), Some(mark));
        }
        assert_eq!(&Mark { txid, ingress_made: true }.cookie(), b"uruA0123456789ab");
    }

    #[test]
    fn cookies_of_others() {
        for bad in
            [&b""[..], b"uruA0123456789a", b"uruA0123456789abc", b"uruB0123456789ab", b"uru@0123456789AB"]
        {
            assert_eq!(Mark::of_cookie(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn ids() {
        let txid = Txid::try_from("0123456789ab").unwrap();
        assert_eq!((txid.to_string().as_str(), txid.handle()), ("0123456789ab", 0x4567_89ab));
        assert_eq!(Txid::try_from("abcd00000000").unwrap().handle(), 1);
        assert_eq!(serde_json::to_string(&txid).unwrap(), "\"0123456789ab\"");
        for bad in ["", "0123456789a", "0123456789abc", "0123456789AB", "0123456789a/", "0123456789é"] {
            assert!(Txid::try_from(bad).is_err(), "{bad}");
        }
    }
}
