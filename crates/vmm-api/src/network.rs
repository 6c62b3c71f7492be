//! The guest's network interface, as plain data.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// The guest's network interface: it takes the place of the pod's, so it has the pod's addresses and is reached under
/// them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestNetwork {
    /// Its hardware address.
    pub mac: Mac,
    /// The largest packet, in bytes without the Ethernet header.
    pub mtu: u32,
    /// The name that the guest shall call itself.
    pub hostname: Option<String>,
    /// Its addresses, the most important one of each family first.
    pub addresses: Vec<GuestAddress>,
}

/// One address of the guest's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestAddress {
    /// The address.
    pub ip: IpAddr,
    /// How many of its leading bits name the network.
    pub prefix_len: u8,
    /// The default gateway of its family, which need not be within that network.
    pub gateway: Option<IpAddr>,
}

/// A hardware (Ethernet) address; as text and in JSON `aa:bb:cc:dd:ee:ff`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

/// A text that is no hardware address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a hardware address; one is six bytes, as in 02:42:ac:11:00:02")]
pub struct NotAMac(pub String);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let byte = |hex: &str| match hex.as_bytes() {
            // from_str_radix takes a sign, too.
            [high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                u8::from_str_radix(hex, 16).ok()
            }
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.split(':').map(byte).collect();
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or_else(|| NotAMac(text.to_owned()))
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_six_bytes_and_nothing_else() {
        let mac = Mac([0x02, 0x42, 0xac, 0x11, 0, 0xff]);
        assert_eq!(mac.to_string(), "02:42:ac:11:00:ff");
        assert_eq!("02:42:AC:11:00:ff".parse(), Ok(mac));
        for text in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:ff:00",
            "2:42:ac:11:00:ff",
            "+2:42:ac:11:00:ff",
            "02-42-ac-11-00-ff",
            "02:42:ac:11:00:fg",
            " 02:42:ac:11:00:ff",
            "02:42:ac:11:00:ff,x=y",
            "0à:42:ac:11:00:ff",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(NotAMac(text.to_owned())));
        }
    }

    #[test]
    fn a_network_survives_json() {
        let network = GuestNetwork {
            mac: Mac([2, 0, 0, 0, 0, 1]),
            mtu: 1450,
            hostname: Some("web-0".to_owned()),
            addresses: vec![
                GuestAddress {
                    ip: [10, 88, 0, 5].into(),
                    prefix_len: 24,
                    gateway: Some([10, 88, 0, 1].into()),
                },
                GuestAddress { ip: [0xfd00, 0, 0, 0, 0, 0, 0, 5].into(), prefix_len: 64, gateway: None },
            ],
        };
        let json = serde_json::to_string(&network).unwrap();
        assert_eq!(
            json,
            r#"{"mac":"02:00:00:00:00:01","mtu":1450,"hostname":"web-0","addresses":[{"ip":"10.88.0.5","prefix_len":24,"gateway":"10.88.0.1"},{"ip":"fd00::5","prefix_len":64,"gateway":null}]}"#
        );
        assert_eq!(serde_json::from_str::<GuestNetwork>(&json).unwrap(), network);
        assert!(serde_json::from_str::<Mac>("\"02:00\"").is_err());
    }
}
