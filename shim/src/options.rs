//! The runtime options of a container, as containerd hands them on: an `Any` in the Create request.
//!
//! For every runtime but runc's own, CRI and `ctr --runtime-config-path` send `runtimeoptions.v1.Options`, which the
//! bindings do not have: three fields, read here by hand. Older containerds name the message after the CRI plug-in's
//! repository. runc's own options, which a pod with a user namespace sends to everybody, speak of ordinary containers;
//! of these the bindings lack one field.

use protobuf::{CodedInputStream, rt::skip_field_for_tag, well_known_types::any::Any};
use runtime_core::{Error, config::Options, oci::OciOptions};

/// The names of the message: of today, and of the CRI plug-in's own repository.
const OURS: [&str; 2] = ["runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options"];
const RUNC: &str = "containerd.runc.v1.Options";
/// The fields `config_path` and `config_body` on the wire: number and length-delimited.
const PATH: u32 = 2 << 3 | 2;
const BODY: u32 = 3 << 3 | 2;

/// What the options of a Create request say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Our own.
    pub config: Option<Options>,
    /// runc's.
    pub oci: OciOptions,
}

/// Reads the options of a Create request.
pub fn of(any: &Any) -> Result<Given, Error> {
    // Some give the whole address, `types.containerd.io/...`.
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    if name.is_empty() && any.value.is_empty() {
        return Ok(Given::default());
    }
    let invalid =
        |problem: String| Error::Config { place: "runtime options".to_owned(), key: String::new(), problem };
    if name == RUNC {
        let oci = runc(&any.value).map_err(|e| invalid(format!("is no {RUNC}: {e}")))?;
        return Ok(Given { oci, ..Given::default() });
    }
    if !OURS.contains(&name) {
        return Err(invalid(format!("the type {:?} is not known; send {}", any.type_url, OURS[0])));
    }
    let (path, body) = parse(&any.value).map_err(|e| invalid(format!("is no {}: {e}", OURS[0])))?;
    if !path.is_empty() {
        return Ok(Given { config: Some(Options::Path(path.into())), ..Given::default() });
    }
    let body = String::from_utf8(body).map_err(|_| invalid("ConfigBody is not UTF-8".to_owned()))?;
    Ok(Given { config: (!body.trim().is_empty()).then_some(Options::Body(body)), ..Given::default() })
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

/// runc's, by hand as well: the bindings are of a version that has forgotten `criu_path`.
fn runc(message: &[u8]) -> protobuf::Result<OciOptions> {
    const fn number(field: u32) -> u32 {
        field << 3
    }
    const fn text(field: u32) -> u32 {
        field << 3 | 2
    }
    const NO_PIVOT_ROOT: u32 = number(1);
    const NO_NEW_KEYRING: u32 = number(2);
    const SHIM_CGROUP: u32 = text(3);
    const IO_UID: u32 = number(4);
    const IO_GID: u32 = number(5);
    const BINARY_NAME: u32 = text(6);
    const ROOT: u32 = text(7);
    const CRIU_PATH: u32 = text(8);
    const SYSTEMD_CGROUP: u32 = number(9);
    const CRIU_IMAGE_PATH: u32 = text(10);
    const CRIU_WORK_PATH: u32 = text(11);
    const TASK_API_ADDRESS: u32 = text(12);
    const TASK_API_VERSION: u32 = number(13);
    let mut stream = CodedInputStream::from_bytes(message);
    let mut options = OciOptions::default();
    while let Some(tag) = stream.read_raw_tag_or_eof()? {
        match tag {
            NO_PIVOT_ROOT => options.no_pivot_root = stream.read_bool()?,
            NO_NEW_KEYRING => options.no_new_keyring = stream.read_bool()?,
            SHIM_CGROUP => options.shim_cgroup = stream.read_string()?,
            IO_UID => options.io_uid = stream.read_uint32()?,
            IO_GID => options.io_gid = stream.read_uint32()?,
            BINARY_NAME => options.binary_name = stream.read_string()?,
            ROOT => options.root = stream.read_string()?,
            CRIU_PATH => options.criu_path = stream.read_string()?,
            SYSTEMD_CGROUP => options.systemd_cgroup = stream.read_bool()?,
            CRIU_IMAGE_PATH => options.criu_image_path = stream.read_string()?,
            CRIU_WORK_PATH => options.criu_work_path = stream.read_string()?,
            TASK_API_ADDRESS => options.task_api_address = stream.read_string()?,
            TASK_API_VERSION => options.task_api_version = stream.read_uint32()?,
            _ => skip_field_for_tag(tag, &mut stream)?,
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use protobuf::Message;

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
            assert_eq!(of(&any(name, &both)).unwrap().config, Some(Options::Path("/etc/u.toml".into())));
            let body = of(&any(name, &both[2..])).unwrap();
            assert_eq!(body.config, Some(Options::Body("[log]".to_owned())));
            assert_eq!(of(&any(name, &both[..1])).unwrap(), Given::default());
        }
        assert_eq!(of(&Any::default()).unwrap(), Given::default());
    }

    #[test]
    fn runcs_options_are_as_the_bindings_write_them() {
        let sent = containerd_shim_protos::shim::oci::Options {
            no_pivot_root: true,
            io_uid: 1000,
            binary_name: "crun".to_owned(),
            root: "/run/x".to_owned(),
            systemd_cgroup: true,
            criu_work_path: "/w".to_owned(),
            task_api_version: 3,
            ..containerd_shim_protos::shim::oci::Options::default()
        };
        let any = Any { type_url: RUNC.to_owned(), value: sent.write_to_bytes().unwrap(), ..Any::default() };
        let read = of(&any).unwrap();
        assert_eq!(read.config, None);
        assert_eq!((read.oci.binary_name.as_str(), read.oci.root.as_str()), ("crun", "/run/x"));
        assert!(read.oci.no_pivot_root && read.oci.systemd_cgroup && !read.oci.no_new_keyring);
        assert_eq!((read.oci.io_uid, read.oci.io_gid, read.oci.task_api_version), (1000, 0, 3));
        assert_eq!(read.oci.criu_work_path, "/w");
        let criu = Any { value: field(8, "/criu"), ..any };
        assert_eq!(of(&criu).unwrap().oci.criu_path, "/criu");
    }

    #[test]
    fn what_is_no_options_is_refused_by_name() {
        let e = of(&any("kata.v1.Options", &[])).unwrap_err().to_string();
        assert!(e.contains("kata.v1.Options") && e.contains("send runtimeoptions.v1.Options"), "{e}");
        let e = of(&any(OURS[0], &[vec![2 << 3 | 2, 200]])).unwrap_err().to_string();
        assert!(e.starts_with("runtime options: is no runtimeoptions.v1.Options"), "{e}");
    }
}
