//! What containerd gives `start` on stdin, and the one answer on stdout.
//!
//! Up to 2.2: nothing, or the runtime's options as a `google.protobuf.Any`. From 2.3 on: `BootstrapParams`. Either
//! parses as the other, so it is BootstrapParams only if id and namespace are those of the flags. The answer always
//! says version 2: the plain address, or, when really asked with BootstrapParams, a BootstrapResult that says so.

use std::{
    io::{Write, stdout},
    path::PathBuf,
};

use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use protobuf::Message;

use crate::{error::Error, flags::Flags, given};

/// Where sockets are made unless containerd says otherwise.
const SOCKET_DIR: &str = "/run/containerd/s";

/// How we were asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    with_params: bool,
    /// Where the socket is to be made.
    pub socket_dir: PathBuf,
}

impl Asked {
    /// Reads stdin.
    pub fn read(flags: &Flags) -> Result<Self, Error> {
        Ok(Self::parse(&given::read()?, flags))
    }

    fn parse(text: &[u8], flags: &Flags) -> Self {
        match BootstrapParams::parse_from_bytes(text) {
            Ok(params) if params.instance_id == flags.id && params.namespace == flags.namespace => Self {
                with_params: true,
                socket_dir: params
                    .socket_dir
                    .filter(|d| d.starts_with('/'))
                    .unwrap_or(SOCKET_DIR.to_owned())
                    .into(),
            },
            _ => Self { with_params: false, socket_dir: SOCKET_DIR.into() },
        }
    }

    /// Prints the answer: exactly that, flushed.
    pub fn answer(&self, address: &str) -> Result<(), Error> {
        let mut out = stdout().lock();
        out.write_all(&self.encode(address)?)
            .and_then(|()| out.flush())
            .map_err(Error::system("print the address"))
    }

    fn encode(&self, address: &str) -> Result<Vec<u8>, Error> {
        if !self.with_params {
            return Ok(address.as_bytes().to_vec());
        }
        let mut result = BootstrapResult::new();
        result.version = 2;
        result.address = address.to_owned();
        result.protocol = "ttrpc".to_owned();
        result.write_to_bytes().map_err(|source| Error::Message { action: "write the answer", source })
    }
}

#[cfg(test)]
mod tests {
    use protobuf::well_known_types::any::Any;

    use super::*;

    fn flags() -> Flags {
        let line = ["-namespace", "n", "-address", "/c", "-id", "c1", "start"];
        Flags::parse(line.iter().map(|s| (*s).to_owned())).unwrap()
    }

    #[test]
    fn every_answer_says_version_2() {
        let params = BootstrapParams {
            instance_id: "c1".to_owned(),
            namespace: "n".to_owned(),
            socket_dir: Some("/run/elsewhere".to_owned()),
            ..BootstrapParams::default()
        };
        let asked = Asked::parse(&params.write_to_bytes().unwrap(), &flags());
        assert_eq!(asked.socket_dir, PathBuf::from("/run/elsewhere"));
        let result = BootstrapResult::parse_from_bytes(&asked.encode("unix:///s").unwrap()).unwrap();
        assert_eq!(
            (result.version, result.address.as_str(), result.protocol.as_str()),
            (2, "unix:///s", "ttrpc")
        );

        let asked = Asked::parse(b"", &flags());
        assert_eq!(asked.encode("unix:///s").unwrap(), b"unix:///s");
    }

    #[test]
    fn options_are_not_taken_for_params() {
        let options =
            Any { type_url: "runtimeoptions.v1.Options".to_owned(), value: b"n".to_vec(), ..Any::default() };
        assert!(!Asked::parse(&options.write_to_bytes().unwrap(), &flags()).with_params);
        assert!(!Asked::parse(b"\xff\xff\xff", &flags()).with_params);
    }
}
