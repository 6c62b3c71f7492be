//! The runtime options of a container, as containerd hands them on: an `Any` in the Create request.
//!
//! For every runtime but runc's own, CRI and `ctr --runtime-config-path` send `runtimeoptions.v1.Options`, which the
//! bindings do not have: three fields, read here by hand. Older containerds name the message after the CRI plug-in's
//! repository. A pod with a user namespace sends runc's options to everybody; they speak of runc, and say nothing to us.

use protobuf::{CodedInputStream, rt::skip_field_for_tag, well_known_types::any::Any};
use runtime_core::{Error, config::Options};

/// The names of the message: of today, and of the CRI plug-in's own repository.
const OURS: [&str; 2] = ["runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options"];
const RUNC: &str = "containerd.runc.v1.Options";
/// The fields `config_path` and `config_body` on the wire: number and length-delimited.
const PATH: u32 = 2 << 3 | 2;
const BODY: u32 = 3 << 3 | 2;

/// What the options of a Create request say; `None`: nothing.
pub fn of(any: &Any) -> Result<Option<Options>, Error> {
    // Some give the whole address, `types.containerd.io/...`.
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    if (name.is_empty() && any.value.is_empty()) || name == RUNC {
        return Ok(None);
    }
    let invalid =
        |problem: String| Error::Config { place: "runtime options".to_owned(), key: String::new(), problem };
    if !OURS.contains(&name) {
        return Err(invalid(format!("the type {:?} is not known; send {}", any.type_url, OURS[0])));
    }
    let (path, body) = parse(&any.value).map_err(|e| invalid(format!("is no {}: {e}", OURS[0])))?;
    if !path.is_empty() {
        return Ok(Some(Options::Path(path.into())));
    }
    let body = String::from_utf8(body).map_err(|_| invalid("ConfigBody is not UTF-8".to_owned()))?;
    Ok((!body.trim().is_empty()).then_some(Options::Body(body)))
}

fn parse(message: &[u8]) -> protobuf::Result<(String, Vec<u8>)> {
    let mut stream = CodedInputStream::from_bytes(message);
    let (mut path, mut body) = (String::new(), Vec::new());
    while let Some(tag) = stream.read_raw_tag_or_eof()? {
        match tag {
            PATH => path = stream.read_string()?,
            BODY => body = stream.read_bytes()?,
            _ => skip_field_for_tag(tag, &mut stream)?,
        }
    }
    Ok((path, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of a message: number and content.
    fn field(number: u8, content: &str) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        bytes.extend(content.as_bytes());
        bytes
    }

    fn any(name: &str, fields: &[Vec<u8>]) -> Any {
        Any { type_url: name.to_owned(), value: fields.concat(), ..Any::default() }
    }

    #[test]
    fn a_path_wins_over_a_body_under_every_name_of_the_message() {
        for name in [OURS[0], OURS[1], "types.containerd.io/runtimeoptions.v1.Options"] {
            let both = [field(1, "my.type"), field(2, "/etc/u.toml"), field(3, "[log]")];
            assert_eq!(of(&any(name, &both)).unwrap(), Some(Options::Path("/etc/u.toml".into())));
            assert_eq!(of(&any(name, &both[2..])).unwrap(), Some(Options::Body("[log]".to_owned())));
            assert_eq!(of(&any(name, &both[..1])).unwrap(), None);
        }
        assert_eq!(of(&Any::default()).unwrap(), None);
        assert_eq!(of(&any(RUNC, &[field(1, "x")])).unwrap(), None);
    }

    #[test]
    fn what_is_no_options_is_refused_by_name() {
        let e = of(&any("kata.v1.Options", &[])).unwrap_err().to_string();
        assert!(e.contains("kata.v1.Options") && e.contains("send runtimeoptions.v1.Options"), "{e}");
        let e = of(&any(OURS[0], &[vec![2 << 3 | 2, 200]])).unwrap_err().to_string();
        assert!(e.starts_with("runtime options: is no runtimeoptions.v1.Options"), "{e}");
    }
}
