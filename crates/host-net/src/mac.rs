//! An Ethernet address.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// An Ethernet address; written, also by serde, as `aa:bb:cc:dd:ee:ff`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::BadMac { text: text.to_owned() };
        let mut parts = text.split(':');
        let mut octets = [0; 6];
        for octet in &mut octets {
            // `from_str_radix` alone would also take a sign.
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *octet = part.and_then(|p| u8::from_str_radix(p, 16).ok()).ok_or_else(bad)?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Self(octets)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::Mac;

    #[test]
    fn text_and_back() {
        let mac = Mac([0x02, 0, 0xab, 0xcd, 0x0e, 0xff]);
        assert_eq!(mac.to_string(), "02:00:ab:cd:0e:ff");
        assert_eq!(mac.to_string().parse::<Mac>().unwrap(), mac);
        assert_eq!(serde_json::from_str::<Mac>(&serde_json::to_string(&mac).unwrap()).unwrap(), mac);
        for bad in ["", "02:00:ab:cd:0e", "02:00:ab:cd:0e:ff:00", "2:0:ab:cd:e:ff", "+2:00:ab:cd:0e:ff"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
